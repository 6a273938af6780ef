"""From a video file to what a record keeps of it: upright frames of one size, and when they show.

Every frame is decoded once, in order. Frames are shown by their own time stamps, so a variable
frame rate survives; where those are invented or out of order, frames are counted at the mean rate,
as data/decode.py does. Rotation is applied and pixels are made square, so that neither has to be
known afterwards.
"""

import contextlib
import fractions
import io
import math
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import av
import av.error
from av.filter import Graph
from av.packet import Packet
from av.video.frame import PictureType, VideoFrame
from av.video.stream import VideoStream

from vivit_jax.data.container import Complaint, DecodeError, Movie, complaints, open_movie
from vivit_jax.data.decode import Distrusted, decode_packets, part_of
from vivit_jax.data.digests import verified
from vivit_jax.data.record_format import NANO, Form
from vivit_jax.data.scale import quarter_turns

T = TypeVar("T")
COUNTED = 2  # the try at which a video's frames are counted, whatever their time stamps
_TINY = 1e-6  # seconds
_TRANSPOSE = {1: "transpose=cclock", 2: "hflip,vflip", 3: "transpose=clock"}  # by quarter turns
_UNSPECIFIED_MATRIX = 2
_LONGEST = 10**9  # bytes: a protocol buffer holds two billion


class Sink(Protocol):
    """Takes the frames of a video, in order."""

    def add(self, frame: VideoFrame, seconds: float) -> None:
        """Takes a frame that is shown from `seconds` after the first."""
        ...

    def content(self, length: float, shown: float, fps: float) -> dict[str, Any]:
        """Returns the features of the record.

        Args:
          length: seconds from the first frame to the end, by the file's header.
          shown: likewise, by the frames that were there.
          fps: mean rate.
        """
        ...


def encode(
    video: str, span: tuple[float, float] | None, form: Form, digest: str = ""
) -> dict[str, Any]:
    """Returns the content of a video's record; see record_format.features.

    Args:
      video: its path.
      span: the part of it that is wanted.
      form: of the record.
      digest: SHA-256 that the file must have; "" for any.

    Raises:
      DecodeError: it cannot be read to its end.
    """
    make = JpegSink if form.kind == "jpeg" else VideoSink

    def made(movie: Movie, said: Sequence[Complaint], attempt: int) -> dict[str, Any]:
        movie.refuse_cut()
        opened = len(said)
        movie.seekable = False  # everything is read, so nothing is sought
        counted = attempt == COUNTED or movie.stamps_are_invented
        record = _read(movie, span, counted, lambda movie: make(form, movie))
        if damage := movie.said_by_reader(said[opened:]):
            raise DecodeError("corrupt", damage[0])
        return record

    return tried(verified(video, digest), made)


def tried(
    video: str | bytes | pathlib.Path, made: Callable[[Movie, Sequence[Complaint], int], T]
) -> T:
    """Returns what is made of a video: at the first try, or probed, or by counting its frames.

    Args:
      video: a path, or a file's content.
      made: from the open video, what FFmpeg says of it, and the number of the try, up to COUNTED.

    Raises:
      DecodeError: nothing can be made of it.
    """
    for attempt in range(COUNTED + 1):
        with complaints() as said, open_movie(video, probe=attempt > 0) as movie:
            try:
                return made(movie, said, attempt)
            except Distrusted:
                continue
            except MemoryError:  # FFmpeg's is one of its errors, too
                raise
            except av.error.FFmpegError as error:
                if attempt:
                    raise DecodeError("corrupt", f"decoding fails: {error.strerror}") from error
    raise DecodeError("corrupt", "its frames have no order")


def _read(
    movie: Movie,
    span: tuple[float, float] | None,
    counted: bool,
    make: Callable[[Movie], Sink],
) -> dict[str, Any]:
    """Returns the content of an open video's record."""
    sink, last, ends = make(movie), None, _Ends(movie)
    first, until = movie.begin, math.inf
    if span is not None:
        first, until = part_of(movie, math.inf, span)
    held: tuple[VideoFrame, float] | None = None  # the frame that the part begins with
    count = 0
    for frame in decode_packets(movie, ends.watch()):
        if counted:
            seconds = movie.begin + count / movie.fps
        elif (
            frame.pts is None
            or (last is not None and frame.pts <= last)
            or movie.stamps_are_invented
        ):
            raise Distrusted
        else:
            last, seconds = frame.pts, frame.pts * movie.tick
        count += 1
        if seconds < first - _TINY:
            held = (frame, seconds)
            continue
        if seconds >= until:
            break
        if held and first - held[1] <= seconds - first:
            sink.add(held[0], held[1] - first)  # the nearest to the first moment of the part
        held = None
        sink.add(frame, seconds - first)
    if not count:
        raise DecodeError("empty", "no picture in the file")
    shown = movie.begin + count / movie.fps if counted else ends.shown()
    declared = movie.end or shown
    missing = min(declared, until) - shown
    if movie.end_is_own and missing > max(0.5, 0.1 * (declared - movie.begin)):
        raise DecodeError("truncated", f"the video ends at {shown:.2f} s of {declared:.2f} s")
    if span is not None:
        part_of(movie, shown, span)  # refuses a part that the file does not have
        declared, shown = min(declared, until), min(shown, until)
    return sink.content(declared - first, shown - first, movie.fps)


class _Ends:
    """Watches packets go by for where the last picture ends."""

    def __init__(self, movie: Movie):
        self._movie = movie
        self._last: tuple[int, int] | None = None

    def watch(self) -> Iterator[Packet]:
        """Yields all packets of the movie."""
        for packet in self._movie.packets(self._movie.begin):
            if packet.pts is not None and not packet.is_discard:
                self._last = max(self._last or (packet.pts, 0), (packet.pts, packet.duration or 0))
            yield packet

    def shown(self) -> float:
        """Returns when the last frame has been shown, seconds."""
        if self._last is None:
            return self._movie.begin
        stamp, duration = self._last
        return stamp * self._movie.tick + (duration * self._movie.tick or 1 / self._movie.fps)


class Upright:
    """Makes frames upright, of square pixels and of one size, in one pass of FFmpeg's filters."""

    def __init__(self, form: Form, movie: Movie, pixel_format: str):
        self._form, self._movie, self._pixel_format = form, movie, pixel_format
        self._graphs: dict[tuple, Any] = {}
        self.size: tuple[int, int] | None = None  # rows and columns of what comes out
        self.display = (0, 0)  # of what went in, upright and of square pixels

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Returns a frame of `size`."""
        turns = quarter_turns(frame)
        if self.size is None:
            self.size = self._choose(frame, turns)
        matrix, range_ = int(frame.colorspace), int(frame.color_range)
        key = (frame.width, frame.height, frame.format.name, turns, range_, matrix)
        if key not in self._graphs:
            try:
                self._graphs[key] = self._build(*key)
            except (ValueError, OSError):  # a matrix that the scaler does not know
                self._graphs[key] = self._build(*key[:5], _UNSPECIFIED_MATRIX)
        _, source, sink = self._graphs[key]
        source.push(frame)
        return sink.pull()

    def _choose(self, frame: VideoFrame, turns: int) -> tuple[int, int]:
        """Returns rows and columns: the short side as asked, the shape kept, nothing enlarged."""
        rows, columns = float(frame.height), frame.width * self._movie.pixel_width
        if turns % 2:
            rows, columns = columns, rows
        self.display = round(rows), round(columns)
        shrink = min(1.0, self._form.short_side / min(rows, columns))
        step = 1 if self._form.kind == "jpeg" else 2  # colours are shared by 2 x 2 pixels
        sides = (max(step, round(side * shrink / step) * step) for side in (rows, columns))
        rows, columns = sides
        return rows, columns

    def _build(self, width: int, height: int, pixels: str, turns: int, range_: int, matrix: int):
        """Returns a configured graph and its two ends."""
        assert self.size
        rows, columns = self.size if turns % 2 == 0 else self.size[::-1]
        graph = Graph()
        graph.threads = 1
        chain = [
            graph.add(
                "buffer",
                f"video_size={width}x{height}:pix_fmt={pixels}:time_base=1/1:"
                f"colorspace={matrix}:range={range_}",
            ),
            graph.add("scale", f"{columns}:{rows}:flags=bilinear"),
        ]
        for step in filter(None, _TRANSPOSE.get(turns, "").split(",")):
            name, _, option = step.partition("=")
            chain.append(graph.add(name, option) if option else graph.add(name))
        chain += [graph.add("format", self._pixel_format), graph.add("buffersink")]
        graph.link_nodes(*chain).configure()
        return graph, chain[0], chain[-1]


class JpegSink:
    """Keeps frames as JPEGs, with their times."""

    def __init__(self, form: Form, movie: Movie):
        self._form, self._upright = form, Upright(form, movie, "rgb24")
        self._half = 0.5 / movie.fps
        self._seen, self._next, self._bytes = 0, 0, 0
        self._frames: list[bytes] = []
        self._times: list[float] = []

    def add(self, frame: VideoFrame, seconds: float) -> None:
        """Encodes a frame, if it is one of those that are kept."""
        if self._kept(seconds):
            from PIL import Image

            picture = self._upright(frame).to_image()
            assert isinstance(picture, Image.Image)
            out = io.BytesIO()
            picture.save(out, "JPEG", quality=self._form.quality, subsampling="4:2:0")
            self._frames.append(out.getvalue())
            self._times.append(seconds)
            self._bytes += out.tell()
            if self._bytes > _LONGEST:
                raise DecodeError(
                    "too_large", f"more than {_LONGEST / 1e9:g} GB of frames; list it in parts"
                )
        self._seen += 1

    def _kept(self, seconds: float) -> bool:
        """Returns whether the next frame is kept."""
        if not self._form.fps:
            return self._seen % self._form.every == 0
        place = (seconds + self._half) * self._form.fps + _TINY  # the nearest frame to a moment
        if place < self._next:
            return False
        self._next = math.floor(place) + 1
        return True

    def content(self, length: float, shown: float, fps: float) -> dict[str, Any]:
        """Returns the features of the record."""
        return {
            "frames": self._frames,
            "nanoseconds": [round(seconds * NANO) for seconds in self._times],
            "length": round(length * NANO),
            "shown": round(shown * NANO),
            "nano_fps": round(fps * NANO),
            "display": list(self._upright.display),
        }


class VideoSink:
    """Encodes frames again, with keyframes near each other and settings that decode fast."""

    def __init__(self, form: Form, movie: Movie):
        self._form, self._movie = form, movie
        self._upright = Upright(form, movie, "yuv420p")
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4")
        self._stream: VideoStream | None = None
        self._tick = fractions.Fraction(1, 1)
        self._held: Packet | None = None

    def add(self, frame: VideoFrame, seconds: float) -> None:
        """Encodes a frame."""
        upright = self._upright(frame)
        if self._stream is None:
            self._stream = self._open(upright)
        upright.time_base = self._tick
        upright.pts = round(seconds / self._tick)
        upright.pict_type = PictureType.NONE
        for packet in self._stream.encode(upright):
            self._mux(packet)

    def _open(self, frame: VideoFrame) -> VideoStream:
        """Returns the stream, made for such frames."""
        rate = fractions.Fraction(self._movie.fps).limit_denominator(1001)
        # B-frames, deblocking and arithmetic coding are what decoding spends its time on. With
        # mbtree the same frames give other bytes now and then.
        options = {
            **{"preset": "medium", "tune": "fastdecode", "crf": str(self._form.crf)},
            **{"g": str(self._form.gop), "bf": "0", "mbtree": "0", "threads": "1"},
        }
        stream = self._container.add_stream("libx264", rate=rate, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = frame.width, frame.height, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.color_range = int(frame.color_range)
        stream.codec_context.colorspace = int(frame.colorspace)
        self._tick = self._movie.stream.time_base or 1 / rate
        if self._movie.stamps_are_invented or self._tick > 1 / (4 * rate):
            self._tick = fractions.Fraction(1, 90_000)
        stream.codec_context.time_base = self._tick
        return stream

    def _mux(self, packet: Packet) -> None:
        """Writes the packet before, whose length is then known."""
        if self._held is not None:
            self._container.mux(self._held)
        self._held = packet
        if self._file.tell() > _LONGEST:
            raise DecodeError(
                "too_large", f"more than {_LONGEST / 1e9:g} GB of video; list it in parts"
            )

    def content(self, length: float, shown: float, fps: float) -> dict[str, Any]:
        """Returns the features of the record."""
        assert self._stream
        for packet in self._stream.encode(None):
            self._mux(packet)
        if self._held is not None:
            last = (self._held.pts or 0) * (self._held.time_base or self._tick)
            unit = self._held.time_base or self._tick
            self._held.duration = max(1, round((shown - float(last)) / unit))
            self._container.mux(self._held)
        with contextlib.suppress(ValueError):
            self._container.close()
        return {"video": self._file.getvalue()}
