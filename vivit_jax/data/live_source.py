"""A process that decodes a stream: `python -m vivit_jax.data.live_source PIPE SETTINGS`.

A stream is a camera device, a URL, a named pipe, or a file, which is played at its own rate. Each
moment of the model's rate is answered with the frame nearest to it, cut and scaled, as soon as it
is known which that is. Where decoding does not keep up with the stream, only keyframes are decoded
until it does. What comes is trusted as little as a file is: the same formats and codecs, the same
limits, and only the protocols that the user has named.

Messages are bytes of a fixed form, the first of which tells the kind: see `Kind`.
"""

import contextlib
import enum
import json
import os
import signal
import stat
import struct
import sys
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame

from vivit_jax.data.container import (
    CODECS,
    FORMATS,
    TAGS,
    DecodeError,
    Movie,
    complaints,
    open_file,
)
from vivit_jax.data.decode import boxes_of
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.limits import confine
from vivit_jax.data.scale import Scaler
from vivit_jax.data.windows import Rate

PROTOCOLS = {  # that can be allowed, each with those that it needs besides
    "tcp": (),
    "udp": (),
    "tls": ("tcp",),
    "http": ("tcp",),
    "https": ("tls", "tcp"),
    "rtp": ("udp",),
    "rtsp": ("rtp", "udp", "tcp"),
    "rtmp": ("tcp",),
    "srt": (),
}
CAMERAS = "video4linux2,v4l2"
_RAW = (*CODECS, "rawvideo")  # of cameras
_DECODERS = ",".join((*CODECS, "libdav1d"))
_ANALYSED = "2000000"  # microseconds of a stream that are read to learn what it holds
LATE = 1.0  # seconds that decoding may be behind the stream
_WAITED = 0.005  # seconds: who waits so long for a packet has caught up
_JUMP = 1.0  # seconds between frames after which a stream begins anew


class Kind(enum.IntEnum):
    """What a message is.

    RATE: moments a second, a double.
    FRAME: FRAME's numbers, and the pixels of all crops.
    END: nothing; the stream is over.
    ERROR: a text, of cause and message with a zero byte between.
    """

    RATE = 1
    FRAME = 2
    END = 3
    ERROR = 4


class Head(NamedTuple):
    """What comes before the pixels of a frame.

    Attributes:
      seconds: time in the stream, from its first frame.
      arrived: time.monotonic() when the frame's data had been read.
      unused: frames so far that were not decoded: for want of time, or damaged.
      anew: 1 where the stream has jumped, so that no window reaches over it.
    """

    seconds: float
    arrived: float
    unused: int
    anew: int


HEAD = struct.Struct("<ddIB")


class Settings(NamedTuple):
    """What the process is told, as JSON.

    Attributes:
      source: device, URL or path.
      allow: protocols that may be used.
      frames: T of a window.
      rate: of its moments: Rate's fields.
      size: Geometry's, as the next two.
      resize: likewise.
      crops: likewise.
      patience: seconds without data after which the stream is given up.
      memory: bytes that it may take.
    """

    source: str
    allow: list[str]
    frames: int
    rate: list[float]
    size: int
    resize: int
    crops: int
    patience: float
    memory: int


def scheme(source: str) -> str:
    """Returns the protocol that a source names; "" for a path."""
    head, colon, _ = source.partition(":")
    known = bool(colon) and head.replace("+", "").replace(",", "").isalnum()
    return head.lower() if known and not os.path.exists(source) else ""


@contextlib.contextmanager
def opened(told: Settings) -> Iterator[tuple[Movie, bool]]:
    """Yields an open stream, and whether it is a file, which does not wait.

    Raises:
      DecodeError: there is none, or nothing in it that is let in.
    """
    options = {"format_whitelist": FORMATS, "codec_whitelist": _DECODERS}
    options["analyzeduration"] = _ANALYSED
    given: dict[str, Any] = {"timeout": told.patience, **TAGS}
    codecs, played = CODECS, False
    with contextlib.ExitStack() as stack:
        if scheme(told.source):
            options |= {"protocol_whitelist": ",".join(told.allow)}
            options["format_whitelist"] += ",rtsp,rtp,mpegts"
            file: Any = told.source
        else:
            mode = _mode(told.source)
            if stat.S_ISCHR(mode):
                given["format"], codecs = CAMERAS.split(",")[0], _RAW
                options |= {"format_whitelist": CAMERAS, "codec_whitelist": ",".join(_RAW)}
                file = told.source
            elif stat.S_ISFIFO(mode):
                options["protocol_whitelist"] = "file"
                file = f"file:{told.source}"
            else:
                file, played = stack.enter_context(open_file(told.source)), True
        try:
            container = stack.enter_context(av.open(file, "r", options=options, **given))
        except MemoryError:
            raise
        except (av.error.FFmpegError, OSError) as error:
            raise DecodeError("unreadable", f"cannot be opened: {_why(error, told)}") from error
        assert isinstance(container, InputContainer)
        yield Movie(container, file if played else None, codecs), played


def _mode(path: str) -> int:
    """Returns what kind of file there is."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        raise DecodeError("missing", f"no such file or device ({error.strerror})") from error


def _why(error: Exception, told: Settings) -> str:
    """Returns what an error means, for people."""
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {told.patience:g} s"
    return getattr(error, "strerror", None) or str(error)


class Picker:
    """Chooses the frame nearest to each moment, of frames that come one after another."""

    def __init__(self, a_second: float):
        self._step = 1 / a_second
        self._last: tuple[float, Any] | None = None
        self._first = self._begun = 0.0
        self._moments = 0

    def __call__(self, seconds: float, frame: Any) -> Iterator[tuple[float, Any, bool]]:
        """Yields (moment, frame, whether the stream begins anew) of what is now known.

        Args:
          seconds: when the frame is shown.
          frame: it.
        """
        anew = self._last is None or not 0 <= seconds - self._last[0] <= _JUMP
        if anew:
            before = self._last
            self._first = seconds if before is None else self._first
            self._begun, self._moments = seconds, 0
        near = self._step / 10  # a frame as near as that will not be bettered by the next
        while (moment := self._begun + self._moments * self._step) <= seconds + near:
            chosen = frame
            if self._last and not anew and moment - self._last[0] < seconds - moment:
                chosen = self._last[1]
            yield moment - self._first, chosen, anew and not self._moments
            self._moments += 1
        self._last = seconds, frame


class Pace:
    """Tells whether decoding has fallen behind a stream, and holds a file back to its own rate."""

    def __init__(self, played: bool):
        self._played = played
        self._base: float | None = None  # of the clock, less the stream's time
        self._first: float | None = None

    def late(self, seconds: float, waited: float, now: float) -> bool:
        """Returns whether decoding is LATE behind.

        Args:
          seconds: time stamp of a packet that was read.
          waited: seconds that reading it has taken.
          now: the time.
        """
        ahead = self._base is None or now - seconds < self._base
        if ahead or (waited > _WAITED and not self._played):
            self._base = now - seconds
        assert self._base is not None
        return now - seconds - self._base > LATE

    def hold(self, seconds: float, now: float) -> float:
        """Returns how long a frame of a file is to wait, so that it comes when it is shown."""
        if not self._played:
            return 0.0
        self._first = now - seconds if self._first is None else self._first
        return max(0.0, self._first + seconds - now)


def messages(told: Settings) -> Iterator[bytes]:
    """Yields what there is to say of a stream, up to its end.

    Raises:
      DecodeError: it cannot be opened, or breaks off.
    """
    geometry = Geometry(told.size, resize=told.resize, test_crops=told.crops)
    with complaints(), opened(told) as (movie, played):
        a_second = Rate(told.rate[0], told.rate[1], int(told.rate[2])).a_second(
            told.frames, movie.fps
        )
        yield bytes([Kind.RATE]) + struct.pack("<d", a_second)
        scaler, pick, boxes = Scaler(told.size), Picker(a_second), None
        pixels = np.empty((told.crops, told.size, told.size, 3), np.uint8)
        for frame, arrived, unused in _frames(movie, told, Pace(played)):
            if frame.pts is None:
                continue
            boxes = boxes or boxes_of(frame, geometry, movie.pixel_width, np.random.default_rng(0))
            for moment, chosen, anew in pick(frame.pts * movie.tick, frame):
                for crop, box in enumerate(boxes):
                    scaler(chosen, box, pixels[crop])
                head = HEAD.pack(*Head(moment, arrived, unused, int(anew)))
                yield bytes([Kind.FRAME]) + head + pixels.tobytes()
        movie.refuse_cut()
        yield bytes([Kind.END])


def _frames(movie: Movie, told: Settings, pace: Pace) -> Iterator[tuple[VideoFrame, float, int]]:
    """Yields each frame, when its data had come, and how many were left out so far.

    Raises:
      DecodeError: the stream breaks off.
    """
    unused, late = 0, False
    packets = movie.container.demux(movie.stream)
    while True:
        before = time.monotonic()
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            raise DecodeError(
                "broken_off", f"the stream breaks off: {_why(error, told)}"
            ) from error
        if packet is None:
            return
        arrived = time.monotonic()
        if packet.dts is not None:
            seconds = packet.dts * movie.tick
            time.sleep(pace.hold(seconds, arrived))
            now = time.monotonic()
            if packet.is_keyframe or not late:
                late = pace.late(seconds, arrived - before, now)
            arrived = now
        if late and packet.size and not packet.is_keyframe:
            unused += 1
            continue
        try:
            frames = packet.decode()
        except av.error.InvalidDataError:  # as where parts were lost on the way
            unused += 1
            continue
        for frame in frames:
            assert isinstance(frame, VideoFrame)
            yield frame, arrived, unused


def main(arguments: list[str]) -> None:
    """Sends messages over an inherited file descriptor."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # a group is told: this is for who started it
        signal.signal(ignored, signal.SIG_IGN)
    pipe, told = Connection(int(arguments[0])), Settings(**json.loads(arguments[1]))
    confine(told.memory)
    with contextlib.suppress(OSError):  # who started it is gone
        try:
            for message in messages(told):
                pipe.send_bytes(message)
        except DecodeError as error:
            pipe.send_bytes(bytes([Kind.ERROR]) + _text(error.cause, error.message))
        except MemoryError:
            pipe.send_bytes(bytes([Kind.ERROR]) + _text("memory", "it takes too much memory"))


def _text(cause: str, message: str) -> bytes:
    """Returns an error as it is sent."""
    return f"{cause}\0{message}".encode("utf-8", "replace")


if __name__ == "__main__":
    main(sys.argv[1:])
