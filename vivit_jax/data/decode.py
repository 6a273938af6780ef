"""Pixels of a video's clips: only the frames that are shown are decoded whole and converted.

The packets of a stretch of the file are read before any is decoded, for reading costs a
hundredth of decoding: their time stamps tell which frame is nearest to each moment that is
wanted, so decoding starts at the keyframe before it and leaves out what nothing depends on.
Files whose packets do not tell (repeated or missing stamps, stamps that show nothing, a decoder
that complains) are decoded in full instead, and the choice is made among the frames that came
out; where not even those are in order of time, frames are counted at the mean rate.
"""

import bisect
import contextlib
import itertools
import pathlib
from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple

import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame

from vivit_jax.data.canvas import Canvas
from vivit_jax.data.changes import movement
from vivit_jax.data.clips import NEARER, Moments, Movement, Sampling, clip_times
from vivit_jax.data.container import READ_AHEAD, DecodeError, Movie, complaints, open_movie
from vivit_jax.data.geometry import Geometry

__all__ = ["DecodeError", "Distrusted", "decode_packets", "measure", "part_of", "read_views"]


class Distrusted(Exception):
    """The packets' or frames' time stamps do not tell which frame is shown when."""


class Extent(NamedTuple):
    """What of a video can be shown.

    Attributes:
      seconds: from the first frame until the last has been shown.
      fps: mean frame rate.
      height: of the coded picture, pixels.
      width: likewise.
      lost: what the file promises and does not have, in words; "" where all is there.
    """

    seconds: float
    fps: float
    height: int
    width: int
    lost: str = ""


def measure(video: str | bytes | pathlib.Path) -> Extent:
    """Returns what of a video can be shown; decodes nothing.

    Raises:
      DecodeError: nothing can.
    """
    with open_movie(video) as movie:
        lost, end = "", movie.end
        try:
            movie.refuse_cut()
        except DecodeError as cut:
            lost = cut.message
        if lost or not movie.end_is_own or end is None:
            end = _last_shown(movie, _as_many_as_there_are(movie))
        if end <= movie.begin:
            raise DecodeError(*("truncated", lost) if lost else ("empty", "no picture in the file"))
        seconds = end - movie.begin
        return Extent(seconds, movie.fps, movie.codec.height, movie.codec.width, lost)


def _as_many_as_there_are(movie: Movie) -> Iterator[Packet]:
    """Yields the whole packets up to where the file cannot be read any further."""
    with contextlib.suppress(av.error.FFmpegError):
        yield from (packet for packet in movie.packets(movie.begin) if not packet.is_corrupt)


class _EndsAt(Exception):
    """The video ends before a moment that is wanted, and its header did not know."""

    def __init__(self, seconds: float):
        super().__init__(seconds)
        self.seconds = seconds


def read_views(
    video: str | bytes | pathlib.Path,
    sampling: Sampling | Moments,
    geometry: Geometry,
    key: tuple[int, ...],
    span: tuple[float, float] | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Returns the views of a video: uint8 [V T H W 3], clip by clip, then crop by crop.

    Args:
      video: a path, or a file's content.
      sampling: which moments.
      geometry: which part of the picture.
      key: seeds what is drawn; the same key gives the same pixels.
      span: the only part that clips are taken from, seconds from the first frame; None for all.
      out: uint8 memory for the pixels, in one axis; None for new.

    Raises:
      DecodeError: the video does not give what was asked; nothing is made up in its place.
    """
    method, end = 0, None
    moved: dict[tuple[float, float], Movement] = {}  # of parts, each looked at once
    for _ in range(_ATTEMPTS):
        with complaints() as said, open_movie(video, probe=method > 0) as movie:
            if not isinstance(sampling, Moments):  # who names them has measured what is there
                movie.refuse_cut()
            opened = len(said)
            if movie.stamps_are_invented:
                method = len(_METHODS) - 1
            movie.seekable = method < 2
            try:
                end = end or movie.end or _measured_end(movie)
                rng = np.random.default_rng((*key, 0))
                part = part_of(movie, end, span)
                if isinstance(sampling, Sampling) and sampling.kind == "key_frames":
                    moved[part] = moved.get(part) or movement(video, *part, probe=method > 0)
                times = clip_times(sampling, *part, movie.fps, rng, moved.get(part))
                canvas = Canvas(times, geometry, np.random.default_rng((*key, 1)), movie, out)
                _METHODS[method](movie, canvas)
                if damage := movie.said_by_reader(said[opened:]):
                    raise DecodeError("corrupt", damage[0])
                return canvas.views()
            except _EndsAt as found:
                end = found.seconds
            except Distrusted:
                method += 1
            except MemoryError:  # FFmpeg's is one of its errors, too
                raise
            except av.error.FFmpegError as error:
                if method:
                    raise DecodeError("corrupt", f"decoding fails: {error.strerror}") from error
                method = 1  # perhaps it only lacked what probing finds out
    raise DecodeError("corrupt", "no two ways of reading it agree on where it ends")


def part_of(movie: Movie, end: float, span: tuple[float, float] | None) -> tuple[float, float]:
    """Returns when the part of a video that is wanted begins and ends, presentation time.

    Raises:
      DecodeError: the video ends before it begins.
    """
    if span is None:
        return movie.begin, end
    first, last = (movie.begin + seconds for seconds in span)
    if first + 0.5 / movie.fps >= end:
        length = f"{end - movie.begin:.2f}"
        raise DecodeError("truncated", f"{span[0]:.2f} s are wanted of a video of {length} s")
    # On the grid of the video's frames, where moments are never between two.
    first = movie.begin + round((first - movie.begin) * movie.fps) / movie.fps
    return first, min(max(last, first + 1 / movie.fps), end)


def _by_packets(movie: Movie, canvas: Canvas) -> None:
    """Shows the frames by the packets' time stamps; decodes only what these depend on."""
    for moments in _stretches(canvas.moments):
        packets, at_end = movie.read(moments[0], moments[-1])
        visible = [packet for packet in packets if not packet.is_discard]
        order = {
            packet.pts: i
            for i, packet in enumerate(packets)
            if packet.pts is not None and not packet.is_discard
        }
        if len(order) != len(visible):  # stamps that are missing, or there twice
            raise Distrusted
        if at_end:
            _check_end(movie, moments[-1], _last_shown(movie, visible))
        wanted = _nearest(sorted(order), moments, movie.tick)
        skippable = movie.codec.name == "h264"
        for first, last in _spans(packets, sorted(order[stamp] for stamp in wanted)):
            span = packets[first : last + 1]
            for frame in decode_packets(movie, span, wanted if skippable else None):
                if frame.pts in wanted:
                    canvas.show(frame, wanted.pop(frame.pts))
        if wanted:
            raise Distrusted


def _by_frames(movie: Movie, canvas: Canvas) -> None:
    """Shows the frames by their own time stamps; decodes everything, to see what comes out."""
    # Without seeking, a second stretch would begin where the first ended: at no keyframe.
    for moments in _stretches(canvas.moments) if movie.seekable else [canvas.moments]:
        packets, at_end = movie.read(moments[0], moments[-1])
        shown = [frame.pts for frame in decode_packets(movie, packets)]
        stamps = [stamp for stamp in shown if stamp is not None]
        if len(stamps) != len(shown) or any(a >= b for a, b in itertools.pairwise(stamps)):
            raise Distrusted
        if at_end:
            end = stamps[-1] * movie.tick + 1 / movie.fps if stamps else movie.begin
            _check_end(movie, moments[-1], end)
        if not stamps:
            raise DecodeError("corrupt", "no picture comes out of the decoder")
        wanted = _nearest(stamps, moments, movie.tick)
        for frame in decode_packets(movie, packets):
            if frame.pts in wanted:
                canvas.show(frame, wanted[frame.pts])


def _by_count(movie: Movie, canvas: Canvas) -> None:
    """Shows the frames by their number, at the mean rate; decodes from the beginning."""
    wanted: dict[int, list[float]] = {}
    for moment in canvas.moments:
        place = (moment - NEARER - movie.begin) * movie.fps
        wanted.setdefault(max(0, int(np.ceil(place - 0.5))), []).append(moment)
    count = 0
    for frame in decode_packets(movie, movie.packets(movie.begin)):
        if count in wanted:
            canvas.show(frame, wanted.pop(count))
        count += 1
        if not wanted:
            return
    _check_end(movie, canvas.moments[-1], movie.begin + count / movie.fps)


_METHODS = (_by_packets, _by_frames, _by_frames, _by_count)  # sought, sought, not, not
_ATTEMPTS = 2 * len(_METHODS)  # each method, and once more with the end that it found


def _stretches(moments: list[float]) -> Iterator[list[float]]:
    """Yields runs of moments that are read in one go: far gaps are sought across."""
    first = 0
    for i in range(1, len(moments) + 1):
        if i == len(moments) or moments[i] - moments[i - 1] > READ_AHEAD:
            yield moments[first:i]
            first = i


def _nearest(stamps: list[int], moments: list[float], tick: float) -> dict[int, list[float]]:
    """Returns {time stamp of a frame: the moments it is nearest to}; the earlier on a tie."""
    nearest: dict[int, list[float]] = {}
    for moment in moments:
        target = (moment - NEARER) / tick
        after = bisect.bisect_left(stamps, target)
        before = max(0, after - 1)
        closer_after = after < len(stamps) and stamps[after] - target < target - stamps[before]
        nearest.setdefault(stamps[after if closer_after else before], []).append(moment)
    return nearest


def _spans(packets: list[Packet], needed: list[int]) -> list[tuple[int, int]]:
    """Returns the first and last packet of every stretch to decode, each from a keyframe.

    A frame that is shown before the keyframe it follows in the file depends on the one before.
    """
    spans: list[tuple[int, int]] = []
    for i in needed:
        stamp, first = packets[i].pts or 0, i
        while first > 0 and not (packets[first].is_keyframe and (packets[first].pts or 0) <= stamp):
            first -= 1
        while spans and first <= spans[-1][1]:
            first = min(first, spans.pop()[0])
        spans.append((first, i))
    return spans


def decode_packets(
    movie: Movie, packets: Iterable[Packet], wanted: Container[int | None] | None = None
) -> Iterator[VideoFrame]:
    """Yields the frames of packets that begin with a keyframe.

    Args:
      movie: whose packets.
      packets: in the file's order.
      wanted: time stamps; others are left out where no frame depends on them.

    Raises:
      DecodeError: a frame is damaged, and so may be all that follow it.
      Distrusted: what the file calls a keyframe is none.
    """
    codec, first = movie.codec, None
    codec.flush_buffers()
    for packet in itertools.chain(packets, [None]):
        if packet and first is None:
            first = packet.pts
        if packet and wanted is not None:
            codec.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        for frame in codec.decode(packet):
            if movie.seekable and frame.pts == first and not frame.key_frame:
                raise Distrusted
            # Frames shown before the keyframe may lack those they refer to; nobody wants them.
            led_in = frame.pts is not None and first is not None and frame.pts < first
            if frame.is_corrupt and not led_in:
                when = "" if frame.pts is None else f" at {frame.pts * movie.tick:.2f} s"
                raise DecodeError("corrupt", f"the picture{when} is damaged")
            yield frame


def _last_shown(movie: Movie, packets: Iterable[Packet]) -> float:
    """Returns when the last of the packets' frames has been shown, seconds; keeps none of them."""
    last = max(packets, key=lambda packet: packet.pts or 0, default=None)
    if last is None:
        return movie.begin
    return (last.pts or 0) * movie.tick + ((last.duration or 0) * movie.tick or 1 / movie.fps)


def _measured_end(movie: Movie) -> float:
    """Returns where a video ends whose header does not say: reads the whole file."""
    end = _last_shown(movie, movie.packets(movie.begin))
    if end <= movie.begin:
        raise DecodeError("empty", "no picture in the file")
    raise _EndsAt(end)


def _check_end(movie: Movie, wanted: float, end: float) -> None:
    """Returns if the file reaches `wanted`, the last moment; `end` is where it was found to end.

    Raises:
      DecodeError: much less is there than the picture stream's own header promises.
      _EndsAt: the header counted something else, such as a longer sound.
    """
    if wanted < end - 0.5 / movie.fps + NEARER:
        return
    if movie.end_is_own and movie.end is not None:
        missing = movie.end - end
        if missing > max(0.5, 0.1 * (movie.end - movie.begin)):
            raise DecodeError("truncated", f"the video ends at {end:.2f} s of {movie.end:.2f} s")
    if end <= movie.begin:
        raise DecodeError("empty", "no picture in the file")
    raise _EndsAt(end)
