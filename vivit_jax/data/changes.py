"""How much each frame of a video differs from those just before it, told by small pictures.

Every frame is decoded and scaled to ROWS x COLUMNS colours; a histogram of them tells another scene
by its colours, wherever things are, and the pixels tell what moves. Two frames' small pictures are
all that is kept, and a few numbers of each frame: time is linear in a video's length, and memory is
24 bytes a frame.
"""

import array
import itertools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import av.error
import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from vivit_jax.data.clips import Movement
from vivit_jax.data.container import DecodeError, Movie, complaints, open_movie

ROWS, COLUMNS = 24, 32
_LEVELS = 4  # of each colour, in the histogram
_REPEATED = 1e-6  # seconds by which a frame must be later than the one before


class Changes(NamedTuple):
    """What is known of the frames of a video, one after another.

    Attributes:
      seconds: when each is shown, from the first.
      histogram: share of the pixels whose colours the frame before has not; 0 for the first.
      pixels: mean difference to the frame before, of [0, 1]; 0 for the first.
      skipping: sqrt(histogram * pixels) to the frame before that; 0 for the first two.
      spread: standard deviation of its grey levels, of [0, 1].
      end: when the last has been shown.
      lost: why there are no more of them, though there should be; "" where all were read.
    """

    seconds: np.ndarray
    histogram: np.ndarray
    pixels: np.ndarray
    skipping: np.ndarray
    spread: np.ndarray
    end: float
    lost: str


def movement(
    video: str | bytes | pathlib.Path, begin: float, end: float, probe: bool = False
) -> Movement:
    """Returns what changes in a part of a video, by small grey pictures.

    What no other frame depends on is left out where FFmpeg can (H.264), and so is its smoothing of
    blocks: it is a look at a video before its frames are chosen, and is to cost little.

    Args:
      video: a path, or a file's content.
      begin: presentation time, seconds.
      end: likewise.
      probe: as in open_movie.
    """
    seconds, change, scaler = array.array("d"), array.array("d"), VideoReformatter()
    before: np.ndarray | None = None
    with open_movie(video, probe) as movie:
        movie.codec.options = {**movie.codec.options, "skip_loop_filter": "all"}
        if movie.codec.name == "h264":
            movie.codec.skip_frame = "NONREF"
        for when, frame in frames_of(movie, begin):
            if when >= end - movie.begin:
                break
            if when < begin - movie.begin - 0.5 / movie.fps:
                continue
            grey = _plane(frame, scaler, "gray", 1).astype(np.int16)
            moved = 0.0 if before is None else float(np.abs(grey - before).mean()) / 255
            seconds.append(movie.begin + when)
            change.append(moved)
            before = grey
    if not seconds:
        raise DecodeError("corrupt", "no picture comes out of the decoder")
    return Movement(np.array(seconds), np.array(change))


def _plane(frame: VideoFrame, scaler: VideoReformatter, form: str, colours: int) -> np.ndarray:
    """Returns a small picture of a frame: uint8 [ROWS, COLUMNS * colours]."""
    area = Interpolation.AREA
    small = scaler.reformat(frame, COLUMNS, ROWS, form, interpolation=area, threads=1)
    plane = small.planes[0]
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(ROWS, plane.line_size)
    return rows[:, : COLUMNS * colours]


class Small:
    """A small picture of a frame."""

    def __init__(self, frame: VideoFrame, scaler: VideoReformatter):
        self.pixels = _plane(frame, scaler, "rgb24", 3).reshape(-1, 3).astype(np.int16)
        red, green, blue = (self.pixels.astype(np.int64) * _LEVELS // 256).T
        numbers = (red * _LEVELS + green) * _LEVELS + blue
        self.histogram = np.bincount(numbers, minlength=_LEVELS**3) / len(numbers)
        self.spread = float(self.pixels.mean(axis=1).std()) / 255

    def difference(self, other: "Small") -> tuple[float, float]:
        """Returns how far two pictures are apart, by their histograms and by their pixels."""
        colours = float(np.abs(self.histogram - other.histogram).sum()) / 2
        return colours, float(np.abs(self.pixels - other.pixels).mean()) / 255


def changes(video: str | bytes) -> Changes:
    """Returns what is known of all frames of a video; it runs in a decoding process.

    A video that cannot be read to its end tells of what comes before.

    Raises:
      DecodeError: nothing of it can be read.
    """
    with complaints() as said, open_movie(video) as movie:
        opened = len(said)
        found = measure(movie)
        lost = [found.lost] if found.lost else movie.said_by_reader(said[opened:])
        try:
            movie.refuse_cut()
        except DecodeError as cut:
            lost = lost or [cut.message]
        return found._replace(lost=lost[0]) if lost else found


def measure(movie: Movie) -> Changes:
    """Returns what is known of all frames of an open video, from its first on."""
    columns = [array.array("f") for _ in range(4)]
    seconds, lost = array.array("d"), ""
    scaler, before = VideoReformatter(), []
    try:
        for when, frame in frames_of(movie, movie.begin):
            small = Small(frame, scaler)
            colours, pixels = small.difference(before[-1]) if before else (0.0, 0.0)
            far = small.difference(before[0]) if len(before) == 2 else (0.0, 0.0)
            values = colours, pixels, (far[0] * far[1]) ** 0.5, small.spread
            for column, value in zip(columns, values, strict=True):
                column.append(value)
            seconds.append(when)
            before = [*before[-1:], small]
    except av.error.FFmpegError as error:
        lost = f"decoding fails: {error.strerror}"
    except DecodeError as error:
        lost = error.message
    if not seconds:
        raise DecodeError("corrupt", lost or "no picture comes out of the decoder")
    return Changes(
        np.array(seconds),
        *(np.array(column) for column in columns),
        end=seconds[-1] + 1 / movie.fps,
        lost=lost,
    )


def frames_of(movie: Movie, begin: float) -> Iterator[tuple[float, VideoFrame]]:
    """Yields the frames of a video and when each is shown, seconds from the first of all.

    The first of them is a keyframe at or before `begin`, a presentation time in seconds. Frames
    whose time stamps do not rise are counted at the mean rate instead.
    """
    movie.codec.flush_buffers()
    last, invented = -1.0, movie.stamps_are_invented
    movie.seekable = not invented
    first = None
    for packet in itertools.chain(movie.packets(begin), [None]):
        if packet and first is None:
            first = packet.pts
        for frame in movie.codec.decode(packet):
            if frame.pts is not None and first is not None and frame.pts < first and not invented:
                continue  # shown before the keyframe: it may lack the frames it refers to
            if frame.is_corrupt:
                raise DecodeError("corrupt", f"the picture after {max(last, 0):.2f} s is damaged")
            when = last + 1 / movie.fps if last >= 0 else 0.0
            if frame.pts is not None and not invented:
                when = frame.pts * movie.tick - movie.begin
            if when < -_REPEATED:  # an edit list hides it
                continue
            if when <= last + _REPEATED:
                when = last + 1 / movie.fps
            last = max(when, 0.0)
            yield last, frame
