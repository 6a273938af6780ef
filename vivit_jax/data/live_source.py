"""A process that decodes a stream: `python -m vivit_jax.data.live_source PIPE`.

A stream is a camera device, a URL, a named pipe, or a file, which is played at its own rate. Each
moment of the model's rate is answered with the frame nearest to it, cut and scaled, as soon as it
is known which that is. Where decoding does not keep up with the stream, only keyframes are decoded
until it does. What comes is trusted as little as a file is: the same formats and codecs, the same
limits, and only the protocols that the user has named.

Its settings come over the pipe, and not by a command line, which everyone on the machine can read:
a URL may hold a password. Messages are bytes of a fixed form, the first of which tells the kind:
see `Kind`.
"""

import contextlib
import enum
import json
import os
import re
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

from vivit_jax.data.canvas import boxes_of
from vivit_jax.data.container import (
    CODECS,
    FORMATS,
    TAGS,
    DecodeError,
    Movie,
    complaints,
    open_file,
)
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.limits import confine
from vivit_jax.data.pacing import Pace, Picker
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
_TURN = 0.5  # seconds after which who waits is told that a file goes on
OPENING = 5.0  # seconds besides, to learn what a stream holds: see _ANALYSED


class Kind(enum.IntEnum):
    """What a message is.

    RATE: moments a second, a double.
    FRAME: FRAME's numbers, and the pixels of all crops.
    END: nothing; the stream is over.
    ERROR: a text, of cause and message with a zero byte between.
    ALIVE: nothing; the process has begun, something came, or a frame of a file waits for its time.
    """

    RATE = 1
    FRAME = 2
    END = 3
    ERROR = 4
    ALIVE = 5


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
      patience: seconds without data after which the stream is given up; opening it may take 5 more.
      memory: bytes that it may take.
      authorities: a file of certificates of who may sign a server's; "" where none is known.
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
    authorities: str


def scheme(source: str) -> str:
    """Returns the protocol that a source names; "" for a path."""
    head, colon, _ = source.partition(":")
    known = bool(colon) and head.replace("+", "").replace(",", "").isalnum()
    return head.lower() if known and not os.path.exists(source) else ""


def without_password(source: str) -> str:
    """Returns a source as it may be shown."""
    return re.sub(r"(://[^:/@]*:).*@", r"\1***@", source)


@contextlib.contextmanager
def opened(told: Settings) -> Iterator[tuple[Movie, bool]]:
    """Yields an open stream, and whether it is a file, which does not wait.

    Raises:
      DecodeError: there is none, or nothing in it that is let in.
    """
    options = {"format_whitelist": FORMATS, "codec_whitelist": _DECODERS}
    options["analyzeduration"] = _ANALYSED
    opening = told.patience + OPENING
    given: dict[str, Any] = {"timeout": (opening, told.patience), **TAGS}
    codecs, played = CODECS, False
    with contextlib.ExitStack() as stack:
        if scheme(told.source):
            options |= {"protocol_whitelist": ",".join(told.allow)}
            options["format_whitelist"] += ",rtsp,rtp,mpegts"
            if "tls" in told.allow:
                options["tls_verify"] = "1"
                options |= {"ca_file": told.authorities} if told.authorities else {}
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
            why = f"cannot be opened: {_why(error, opening)}"
            if "tls_verify" in options:
                known = told.authorities or "FFmpeg's own"
                why += f" (certificates are checked by {known}; SSL_CERT_FILE names another file)"
            raise DecodeError("unreadable", why) from error
        assert isinstance(container, InputContainer)
        yield Movie(container, file if played else None, codecs), played


def _mode(path: str) -> int:
    """Returns what kind of file there is."""
    try:
        return os.stat(path).st_mode
    except OSError as error:
        raise DecodeError("missing", f"no such file or device ({error.strerror})") from error


def _why(error: Exception, patience: float) -> str:
    """Returns what an error means, for people; after `patience` seconds one was given up."""
    if isinstance(error, av.error.ExitError):
        return nothing_came(patience)
    return getattr(error, "strerror", None) or without_password(str(error))


def nothing_came(seconds: float) -> str:
    """Returns why a stream is given up."""
    return f"nothing came for {seconds:g} s"


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
        scaler, pick, boxes = Scaler(told.size), Picker(a_second, movie.fps), None
        pixels = np.empty((told.crops, told.size, told.size, 3), np.uint8)
        invented, count = movie.stamps_are_invented, 0
        for frame, arrived, unused in _frames(movie, told, Pace(played)):
            yield bytes([Kind.ALIVE])
            if frame is None:
                continue
            if invented:
                seconds = count / movie.fps
                count += 1
            elif frame.pts is not None:
                seconds = frame.pts * movie.tick
            else:
                continue
            boxes = boxes or boxes_of(frame, geometry, movie.pixel_width, np.random.default_rng(0))
            for moment, chosen, anew in pick(seconds, frame):
                for crop, box in enumerate(boxes):
                    scaler(chosen, box, pixels[crop])
                head = HEAD.pack(*Head(moment, arrived, unused, int(anew)))
                yield bytes([Kind.FRAME]) + head + pixels.tobytes()
        movie.refuse_cut()
        yield bytes([Kind.END])


def _frames(
    movie: Movie, told: Settings, pace: Pace
) -> Iterator[tuple[VideoFrame | None, float, int]]:
    """Yields each frame, when its data had come, and how many were left out so far.

    In place of a frame it yields None where there is none, so that who waits knows that data come.

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
            why = _why(error, told.patience)
            raise DecodeError("broken_off", f"the stream breaks off: {why}") from error
        if packet is None:
            return
        arrived = time.monotonic()
        if packet.dts is not None:
            seconds, now = packet.dts * movie.tick, arrived
            while (left := pace.hold(seconds, now)) > 0:
                yield None, arrived, unused
                time.sleep(min(left, _TURN))
                now = time.monotonic()
            if packet.is_keyframe or not late:
                late = pace.late(seconds, arrived - before, now)
            arrived = now
        frames = []
        if late and packet.size and not packet.is_keyframe:
            unused += 1
        else:
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:  # as where parts were lost on the way
                unused += 1
        for frame in frames or (None,):
            assert frame is None or isinstance(frame, VideoFrame)
            yield frame, arrived, unused


def main(arguments: list[str]) -> None:
    """Sends messages over an inherited file descriptor, once it was told its settings there."""
    for ignored in (signal.SIGINT, signal.SIGTERM):  # a group is told: this is for who started it
        signal.signal(ignored, signal.SIG_IGN)
    pipe = Connection(int(arguments[0]))
    with contextlib.suppress(OSError, EOFError):  # who started it is gone
        told = Settings(**json.loads(pipe.recv_bytes()))
        confine(told.memory)
        pipe.send_bytes(bytes([Kind.ALIVE]))
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
