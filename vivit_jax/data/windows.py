"""All windows of a video, one after another, however long it is.

A window is what a model sees at once: T moments at one rate. All windows of a video lie on one grid
of moments, so that where they overlap a frame is decoded once. The grid is read in stretches, by
decoding processes, a few ahead of what is asked for: memory does not grow with the video. So a
stretch is short, in bytes and in time, and has no gap that is sought across. One that is damaged is
read again in halves, down to a window: what is damaged costs the windows that have a part in it.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import NamedTuple

import numpy as np

from vivit_jax.data.clips import Moments
from vivit_jax.data.container import READ_AHEAD
from vivit_jax.data.decode import Extent, measure
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pool import DecodeFailure, DecodePool
from vivit_jax.data.worker import Task
from vivit_jax.errors import InputError, Unread

GROUP = 16  # windows that are shown to a model at once: bounds memory
STRETCH = 32_000_000  # bytes of pixels that one task of a decoding process gives, about
SECONDS = 60.0  # of video that it reads, at most, where a window is not longer
_ROUNDING = 1e-6  # of a moment
_HALVED = ("corrupt", "truncated")  # causes for which a part may be good


class Rate(NamedTuple):
    """How far apart a window's moments are; the first of these that is not 0 counts.

    Attributes:
      seconds: of a whole window.
      fps: moments a second.
      stride: source frames from one moment to the next, at the video's mean rate.
    """

    seconds: float = 0.0
    fps: float = 0.0
    stride: int = 1

    def a_second(self, frames: int, fps: float) -> float:
        """Returns the moments a second in a video of `fps` frames a second."""
        return (frames / self.seconds if self.seconds else self.fps) or fps / self.stride


@dataclasses.dataclass(frozen=True)
class Grid:
    """Where the windows of a video lie.

    Attributes:
      frames: T, moments of a window.
      rate: moments a second.
      starts: the first moment of each window, rising.
      moments: that the video has.
    """

    frames: int
    rate: float
    starts: Sequence[int]
    moments: int

    def __len__(self) -> int:
        """Returns how many windows there are."""
        return len(self.starts)

    def span(self, number: int) -> tuple[float, float]:
        """Returns when a window begins and ends, seconds from the first frame."""
        first = self.starts[number]
        return first / self.rate, (first + self.frames) / self.rate


class Stretch(NamedTuple):
    """Moments that are read in one go.

    Attributes:
      begin: the number of the first, among all that are wanted.
      end: of the first after them.
      pixels: uint8 [crops moments H W 3], or why there are none.
    """

    begin: int
    end: int
    pixels: np.ndarray | DecodeFailure


class Window(NamedTuple):
    """A window that was read.

    Attributes:
      number: its place in the grid.
      pixels: uint8 [crops T H W 3], or why there are none.
    """

    number: int
    pixels: np.ndarray | DecodeFailure


def grid(
    extent: Extent,
    frames: int,
    rate: Rate,
    hop: float = 0.0,
    share: float = 1.0,
    part: tuple[float, float] = (0.0, math.inf),
) -> Grid:
    """Returns the windows that cover a video: from its first frame to its last.

    Args:
      extent: of the video.
      frames: T, moments of a window.
      rate: of them.
      hop: seconds from the beginning of one window to that of the next; 0 for a share of a
        window's length. At least one moment's. The last window ends with the video, wherever that
        makes it begin.
      share: 1 for windows that do not overlap.
      part: of the video that is covered, seconds from the first frame; of one that is shorter than
        a window, the window around its middle.

    Raises:
      Unread: a window is longer than the video.
      InputError: the part begins after it.
    """
    a_second = rate.a_second(frames, extent.fps)
    moments = int(extent.seconds * a_second + _ROUNDING)
    if moments < frames:
        raise Unread(
            f"a window of {frames / a_second:.2f} s is longer than the video, which has "
            f"{extent.seconds:.2f} s: give a shorter --window.",
            "too_short",
        )
    step = max(1, round(hop * a_second if hop else share * frames))
    if part[0] >= extent.seconds:
        raise InputError(
            f"the part that is wanted begins at {part[0]:g} s of a video of {extent.seconds:.2f} s."
        )
    first, end = (min(moments, round(min(at, extent.seconds) * a_second)) for at in part)
    if end - first < frames:
        first = min(max(0, (first + end - frames) // 2), moments - frames)
        end = first + frames
    last = end - frames
    starts = [*range(first, last + 1, step)]
    if starts[-1] < last:
        starts.append(last)
    return Grid(frames, a_second, starts, moments)


def measured(pool: DecodePool, video: str) -> Extent:
    """Returns the extent of a video.

    Raises:
      Unread: nothing of it can be shown; names the file and the cause.
    """
    found = pool.call(measure, video)
    if isinstance(found, DecodeFailure):
        raise Unread(f"{video} cannot be read: {found.cause}: {found.message}.", found.cause)
    return Extent(*found)


def most(frames: int, geometry: Geometry) -> int:
    """Returns the most moments of a task: about STRETCH bytes of pixels, and at least a window."""
    return max(frames, STRETCH // (geometry.boxes * geometry.size**2 * 3))


def pool_of(workers: int, frames: int, geometry: Geometry, **limits: float) -> DecodePool:
    """Returns decoding processes for windows of T frames; see DecodePool."""
    size = most(frames, geometry) * geometry.boxes * geometry.size**2 * 3
    return DecodePool(workers, size, **limits)  # type: ignore[arg-type]


def stretches(moments: np.ndarray, windows: Grid, count: int) -> list[tuple[int, int]]:
    """Returns where the stretches that are read in one go begin and end, as Stretch has it.

    Args:
      moments: all that are wanted, rising.
      windows: theirs.
      count: of moments, the most of a stretch.
    """
    span = max(windows.frames, round(SECONDS * windows.rate))
    gap = max(1, READ_AHEAD * windows.rate)  # within a window there is none
    ends = np.append(np.flatnonzero(np.diff(moments) > gap) + 1, len(moments))
    found = [0]
    while found[-1] < len(moments):
        begin = found[-1]
        late = np.searchsorted(moments, moments[begin] + span)
        far = ends[np.searchsorted(ends, begin, side="right")]
        found.append(min(begin + count, int(late), int(far)))
    return [*itertools.pairwise(found)]


def read(
    pool: DecodePool, video: str, windows: Grid, geometry: Geometry, workers: int
) -> Generator[Window]:
    """Yields all windows of a video in order; close it when done.

    Args:
      pool: as `pool_of` makes it for the same frames and geometry.
      video: its path.
      windows: as `grid` returns them.
      geometry: which part of the picture, as to test.
      workers: processes of the pool.
    """
    each = np.asarray(windows.starts)[:, None] + np.arange(windows.frames)
    moments = np.unique(each)  # where windows lie apart, not all of the video's
    parts = stretches(moments, windows, most(windows.frames, geometry))

    def decoded(begin: int, end: int) -> list[Stretch]:
        seconds = moments[begin:end] / windows.rate
        pixels = pool.decode(Task(video, Moments(tuple(seconds.tolist())), geometry, (0,)))
        damaged = isinstance(pixels, DecodeFailure) and pixels.cause in _HALVED
        if not damaged or end - begin <= windows.frames:
            return [Stretch(begin, end, pixels)]
        middle = (begin + end) // 2
        return [*decoded(begin, middle), *decoded(middle, end)]

    with (
        concurrent.futures.ThreadPoolExecutor(workers + 1) as threads,
        contextlib.closing(_ahead(threads, decoded, parts, workers + 1)) as arriving,
    ):
        held: collections.deque[Stretch] = collections.deque()
        for number, start in enumerate(np.searchsorted(moments, windows.starts).tolist()):
            while not held or held[-1].end < start + windows.frames:
                held.extend(next(arriving))
            while held[0].end <= start:
                held.popleft()
            yield Window(number, _cut(held, start, start + windows.frames))


def _ahead(
    threads: concurrent.futures.ThreadPoolExecutor,
    decoded: Callable[[int, int], list[Stretch]],
    parts: Iterable[tuple[int, int]],
    count: int,
) -> Generator[list[Stretch]]:
    """Yields what becomes of parts, in order; so many are under way at once."""
    begun = (threads.submit(decoded, *part) for part in parts)
    waiting = collections.deque(itertools.islice(begun, count))
    try:
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(itertools.islice(begun, 1))
    finally:
        for future in waiting:
            future.cancel()


def _cut(held: Sequence[Stretch], first: int, end: int) -> np.ndarray | DecodeFailure:
    """Returns the moments [first, end) out of stretches, uint8 [crops T H W 3]."""
    parts = []
    for one in held:
        low, high = max(first, one.begin) - one.begin, min(end, one.end) - one.begin
        if low >= high:
            continue
        if isinstance(one.pixels, DecodeFailure):
            return one.pixels
        parts.append(one.pixels[:, low:high])
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
