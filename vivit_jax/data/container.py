"""Video files, opened with distrust: what FFmpeg may read, and what their headers say of time.

FFmpeg reads hundreds of formats, among them text that plays another file, so only the formats and
codecs of videos are let in, through an open file and no other protocol. Probing is switched off:
it decodes the first frames of every file to learn what the headers of nearly all already say,
which costs as much as a quarter of reading a clip.
"""

import contextlib
import functools
import io
import logging
import os
import pathlib
import re
import stat
from collections.abc import Collection, Iterator, Sequence
from typing import Any, BinaryIO

import av
import av.container
import av.error
import av.logging
import av.stream
from av.packet import Packet

from vivit_jax.data.promised import lost_bytes

log = logging.getLogger(__name__)
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf"
CODECS = (
    *("h264", "hevc", "vp8", "vp9", "av1", "mpeg1video", "mpeg2video", "mpeg4", "mjpeg", "h263"),
    *("h263p", "flv1", "msmpeg4v2", "msmpeg4v3", "wmv1", "wmv2", "wmv3", "vc1"),
)
# Tags may be in any encoding: PyAV 19 keeps what it cannot read, older ones must be told to.
OLD_PYAV = int(av.__version__.split(".")[0]) < 19
TAGS: dict[str, Any] = {"metadata_errors": "replace"} if OLD_PYAV else {}
FIXED = (8, 1, 2)  # FFmpeg's version from which no known fault of its decoders is open
MAX_PIXELS = 8192 * 8192
READ_AHEAD = 10.0  # seconds: what lies nearer than this is read past (not decoded), not sought
MAX_REORDER = 16  # frames that can come before one in the file and after it on the screen


Complaint = tuple[int, str, str]  # level, who, what


class DecodeError(Exception):
    """A video that cannot give what was asked.

    Attributes:
      cause: one word to count by: missing, empty, unreadable, no_video, codec, too_large,
        truncated, corrupt, memory.
      message: what was found, for a person.
    """

    def __init__(self, cause: str, message: str):
        super().__init__(cause, message)
        self.cause = cause
        self.message = message

    def __str__(self) -> str:
        """Returns the message."""
        return self.message


class Movie:
    """The picture stream of an open file.

    Attributes:
      begin: presentation time of the first frame, seconds.
      end: when the last frame has been shown by the header, seconds; None where it does not say.
      end_is_own: whether `end` is the picture stream's and not perhaps that of a longer sound.
      fps: mean frame rate.
      tick: seconds of one unit of a time stamp.
      seekable: whether keyframes are believed to be where the file says.
    """

    def __init__(
        self,
        container: av.container.InputContainer,
        file: BinaryIO | None,
        codecs: Collection[str] = CODECS,
    ):
        """Takes the picture stream of a container, and no other.

        Args:
          container: as FFmpeg has opened it.
          file: what it reads; None for a stream, which promises no bytes.
          codecs: that are let in.
        """
        self.container, self._file = container, file
        self.stream = _picture_stream(container, codecs)
        self.codec = self.stream.codec_context
        self.tick = float(self.stream.time_base or 0)
        self.seekable = True
        self.begin = (self.stream.start_time or 0) * self.tick
        self._avi = container.format.name == "avi"
        self.fps = _mean_rate(self.stream, empty=self._avi)
        self.end, self.end_is_own = self._declared_end()
        for other in container.streams:
            if other.index != self.stream.index:
                other.discard = av.stream.Discard.all
        self.codec.thread_type = "SLICE"
        self.codec.thread_count = 1
        self.codec.options = {"max_pixels": str(MAX_PIXELS)}

    @property
    def stamps_are_invented(self) -> bool:
        """Whether time stamps say only the order in the file: AVI with reordered frames."""
        return self._avi and self.codec.has_b_frames

    @property
    def pixel_width(self) -> float:
        """Width over height of a pixel on the screen; final once a frame is decoded."""
        ratio = float(self.stream.sample_aspect_ratio or self.codec.sample_aspect_ratio or 1)
        return ratio if 0.1 <= ratio <= 10 else 1.0  # beyond, the header talks nonsense

    def refuse_cut(self) -> None:
        """Returns if all bytes of the file are there that it says it has.

        Raises:
          DecodeError: some are not.
        """
        if self._file is None:
            return
        lost, promised = lost_bytes(self._file, self.stream.index_entries)
        if lost:
            message = f"{promised - lost:,} of {promised:,} bytes are there"
            raise DecodeError("truncated", message)

    def said_by_reader(self, complaints: Sequence[Complaint]) -> list[str]:
        """Returns those that are of the file's structure: it was damaged, and read past."""
        reader = self.container.format.name
        return [f"the reader says {text.strip()!r}" for _, who, text in complaints if who == reader]

    def packets(self, first: float) -> Iterator[Packet]:
        """Yields the packets from a keyframe at or before `first` (seconds) to the end."""
        if self.seekable and first - self.begin > READ_AHEAD:
            for target in (first, first - READ_AHEAD):
                self.container.seek(int(target / self.tick), stream=self.stream)
                packets = self._demux()
                packet = next(packets, None)
                if packet and packet.is_keyframe and (packet.pts or 0) * self.tick <= first:
                    yield packet
                    yield from packets
                    return
            self.container.seek(int(self.begin / self.tick), stream=self.stream)
        yield from self._demux()

    def read(self, first: float, last: float) -> tuple[list[Packet], bool]:
        """Returns the packets that can hold the frames nearest to any of [first, last], seconds.

        Returns:
          Packets in the file's order, from a keyframe at or before `first`, and whether the
          file ended with them.
        """
        packets, after = [], 0
        for packet in self.packets(first):
            packets.append(packet)
            after += packet.pts is not None and packet.pts * self.tick > last
            if after > MAX_REORDER:
                return packets, False
        return packets, True

    def _demux(self) -> Iterator[Packet]:
        """Yields the stream's packets that hold data."""
        for packet in self.container.demux(self.stream):
            if packet.size:
                if self._avi and not self.codec.has_b_frames:
                    packet.pts = packet.dts  # all that it says; the other is FFmpeg's guess
                yield packet

    def _declared_end(self) -> tuple[float | None, bool]:
        """Returns `end` and `end_is_own`, by the header."""
        with contextlib.suppress(KeyError, ValueError):  # Matroska has it as text, if at all
            hours, minutes, seconds = self.stream.metadata["DURATION"].split(":")
            return int(hours) * 3600 + int(minutes) * 60 + float(seconds), True
        alone = len(self.container.streams) == 1
        if self.stream.duration:  # FFmpeg fills in the file's where a stream has none
            own = alone or self.stream.frames > 0
            return self.begin + self.stream.duration * self.tick, own
        if self.container.duration:
            start = (self.container.start_time or 0) / av.time_base
            return start + self.container.duration / av.time_base, alone
        return None, False


@contextlib.contextmanager
def open_movie(video: str | bytes | pathlib.Path, probe: bool = False) -> Iterator[Movie]:
    """Yields the open video; closes it at the end.

    Args:
      video: a path, or a file's content.
      probe: decode the first frames on opening, as FFmpeg does by default: for files whose
        headers do not tell how far frames are reordered.

    Raises:
      DecodeError: it is missing, empty, no video, or of a format or codec that is not let in.
    """
    options = {"format_whitelist": FORMATS}
    if not probe:
        options["codec_whitelist"] = "none"
    with open_file(video) as file:
        try:
            container = av.open(file, "r", options=options, **TAGS)
        except MemoryError:  # FFmpeg's is one of its errors, too
            raise
        except av.error.FFmpegError as error:
            raise DecodeError(
                "unreadable", f"not a video in a format that is read ({error.strerror})"
            ) from error
        with container:
            yield Movie(container, file)


@contextlib.contextmanager
def complaints() -> Iterator[Sequence[Complaint]]:
    """Yields a list that FFmpeg's errors are added to."""
    level, repeated = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # also what it said of the video before
    try:
        with av.logging.Capture() as said:
            yield said
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(repeated)


@functools.cache
def tell_decoder() -> None:
    """Logs which FFmpeg reads videos, once, and warns of one whose faults are known."""
    version = av.ffmpeg_version_info
    log.info("Videos are decoded by FFmpeg %s, of PyAV %s.", version, av.__version__)
    found = re.match(r"n?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found and tuple(int(part or 0) for part in found.groups()) < FIXED:
        log.warning(
            "FFmpeg %s has faults that a video made for it can use against you, which %s has not: "
            "pip install --upgrade av.",
            *(version, ".".join(map(str, FIXED))),
        )


def open_file(video: str | bytes | pathlib.Path):
    """Returns an open regular file, or the bytes as one."""
    if isinstance(video, bytes):
        if not video:
            raise DecodeError("empty", "no bytes")
        return io.BytesIO(video)
    try:
        status = os.stat(video)  # before opening: a pipe would wait for ever
        if not stat.S_ISREG(status.st_mode):
            raise DecodeError("unreadable", "not a regular file")
        if not status.st_size:
            raise DecodeError("empty", "the file has no bytes")
        return open(video, "rb")
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DecodeError("missing", "no such file") from error
    except (OSError, ValueError) as error:
        raise DecodeError("unreadable", f"cannot be opened: {error}") from error


def _picture_stream(container: av.container.InputContainer, codecs: Collection[str]):
    """Returns the first stream of moving pictures: cover art is not one."""
    streams = [
        stream
        for stream in container.streams.video
        if not stream.disposition & av.stream.Disposition.attached_pic
    ]
    if not streams:
        raise DecodeError("no_video", "no stream of moving pictures in the file")
    stream = streams[0]
    codec = stream.codec_context
    name = codec.codec.canonical_name if codec else "unknown"
    if name not in codecs:
        raise DecodeError("codec", f"codec {name} is not read")
    if codec.width * codec.height > MAX_PIXELS:
        raise DecodeError("too_large", f"{codec.width}x{codec.height} pixels a frame")
    if not stream.time_base:
        raise DecodeError("unreadable", "its time stamps have no unit")
    return stream


def _mean_rate(stream, empty: bool) -> float:
    """Returns frames a second.

    The header's mean rate counts frames that an edit list hides, whose stamps moreover are
    squeezed, and those that a file leaves `empty`. An index of every frame tells better.
    """
    index = stream.index_entries
    if len(index) > 1 and (empty or len(index) == stream.frames):
        first = 0
        if index[0].is_discard:
            first = max(i for i, entry in enumerate(index[: len(index) // 2]) if entry.is_discard)
        ticks = index[-1].timestamp - index[first].timestamp
        if ticks > 0:
            return (len(index) - 1 - first) / float(ticks * stream.time_base)
    return float(stream.average_rate or stream.guessed_rate or 25)
