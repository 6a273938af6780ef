"""Some stretches of a video, however long it is: as pictures, and as a film of them.

What lies far apart is sought, not read; what lies near is decoded in one go. Made in a worker
process, which is confined to memory: what it returns are compressed pictures, or a whole mp4 of
them.
"""

import io
import math
from collections.abc import Iterator, Sequence

from av.video.frame import VideoFrame
from PIL import Image

from vivit_jax.data.container import READ_AHEAD, Complaint, DecodeError, Movie
from vivit_jax.data.decode import Distrusted, decode_packets
from vivit_jax.data.encoding import COUNTED, Upright, VideoSink, tried
from vivit_jax.data.record_format import Form

Span = tuple[float, float]
_QUALITY = 88  # of a JPEG
_TINY = 1e-6  # seconds


def pictures(video: str, moments: Sequence[float], short_side: int) -> list[bytes]:
    """Returns a JPEG for each moment: the frame that is shown then.

    Args:
      video: its path.
      moments: seconds from the first frame, rising.
      short_side: pixels, at most.

    Raises:
      DecodeError: a moment cannot be shown.
    """
    form = Form("jpeg", short_side)

    def made(movie: Movie, said: Sequence[Complaint], attempt: int) -> list[bytes]:
        counted = _sought(movie, attempt)
        upright = Upright(form, movie, "rgb24")
        spans = [(moment, moment) for moment in moments]
        shown = [_jpeg(upright(frame)) for _, frame, _ in _within(movie, spans, counted)]
        if len(shown) < len(moments):
            raise DecodeError("truncated", f"the video ends before {moments[len(shown)]:.2f} s")
        return shown

    return tried(video, made)


def film(video: str, spans: Sequence[Span], short_side: int) -> bytes:
    """Returns an mp4 (H.264) of stretches, one after another, at the video's own rate.

    Args:
      video: its path.
      spans: seconds from the first frame, rising, and none within another.
      short_side: pixels, at most; nothing is enlarged.

    Raises:
      DecodeError: a stretch cannot be shown.
    """
    form = Form("video", short_side, gop=48, crf=23)

    def made(movie: Movie, said: Sequence[Complaint], attempt: int) -> bytes:
        counted = _sought(movie, attempt)
        sink, before, last = VideoSink(form, movie), [0.0], -math.inf
        apart = min(2 * movie.tick, 0.5 / movie.fps)  # the tick of an AVI is a frame long
        for begin, end in spans:
            before.append(before[-1] + end - begin)
        for number, frame, seconds in _within(movie, spans, counted):
            begin, end = spans[number]
            if begin < seconds > end - 0.25 / movie.fps:
                continue  # of which hardly anything is shown: the next stretch would begin with it
            at = before[number] + max(0.0, seconds - begin)
            if at > last + apart:
                sink.add(frame, at)
                last = at
        if last < 0:
            raise DecodeError("empty", "no picture in these stretches")
        shown = max(before[-1], last + 1 / movie.fps)
        return sink.content(shown, shown, movie.fps)["video"]

    return tried(video, made)


def _sought(movie: Movie, attempt: int) -> bool:
    """Lets the first try alone seek; returns whether frames are to be counted."""
    movie.seekable = attempt == 0
    return attempt == COUNTED or movie.stamps_are_invented


def _within(
    movie: Movie, spans: Sequence[Span], counted: bool
) -> Iterator[tuple[int, VideoFrame, float]]:
    """Yields (number of a stretch, frame, seconds) for what is shown within each stretch.

    The first is the frame that is shown when the stretch begins; of a stretch without length it is
    the only one. Where nothing can be sought all is one run: a decoder that begins anew needs a
    keyframe.
    """
    first, together = 0, counted or not movie.seekable
    for number in range(1, len(spans) + 1):
        last = number == len(spans)
        if last or (not together and spans[number][0] - spans[number - 1][1] > READ_AHEAD):
            yield from _of_a_run(movie, range(first, number), spans, counted)
            first = number


def _of_a_run(
    movie: Movie, numbers: range, spans: Sequence[Span], counted: bool
) -> Iterator[tuple[int, VideoFrame, float]]:
    """Yields the same for stretches that are decoded in one go."""
    waiting = list(numbers)
    for frame, begin, end in _shown(movie, 0.0 if counted else spans[waiting[0]][0], counted):
        for number in tuple(waiting):
            if end <= spans[number][0] + _TINY:
                break
            yield number, frame, begin
            if end >= spans[number][1] - _TINY:
                waiting.remove(number)
        if not waiting:
            return


def _shown(movie: Movie, start: float, counted: bool) -> Iterator[tuple[VideoFrame, float, float]]:
    """Yields frames and from when to when each is shown, from one at or before `start`."""
    held: tuple[VideoFrame, float] | None = None
    frames = decode_packets(movie, movie.packets(movie.begin + start))
    for count, frame in enumerate(frames):
        if counted:
            seconds = count / movie.fps
        elif frame.pts is None:
            raise Distrusted
        else:
            seconds = frame.pts * movie.tick - movie.begin
        if held:
            if seconds <= held[1]:
                raise Distrusted
            yield *held, seconds
        held = frame, seconds
    if held:
        yield *held, math.inf


def _jpeg(frame: VideoFrame) -> bytes:
    """Returns a frame of RGB as a JPEG file."""
    out = io.BytesIO()
    Image.fromarray(frame.to_ndarray()).save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()
