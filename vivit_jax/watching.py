"""What a model makes of every window of a video: the one walk that all commands on videos share."""

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np

from vivit_jax.data import windows
from vivit_jax.data.decode import Extent
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pool import DecodeFailure, DecodePool, cores
from vivit_jax.data.windows import GROUP
from vivit_jax.errors import InputError, Unread
from vivit_jax.metrics import Progress

log = logging.getLogger(__name__)
NOT_FINITE = DecodeFailure("not_finite", "the model's output is not finite")


class Lost(NamedTuple):
    """A part of a video that could not be read, or of which nothing could be told.

    Attributes:
      begin: seconds from the first frame.
      end: likewise.
      cause: DecodeError's, "crashed", "timeout" or "not_finite".
      message: for a person.
    """

    begin: float
    end: float
    cause: str
    message: str


class Watched(NamedTuple):
    """What was made of a video.

    Attributes:
      video: its path.
      extent: of it.
      grid: its windows.
      rows: float32 [n ...], a row a window; NaN where it could not be read.
      lost: what could not be; empty where all was there.
    """

    video: str
    extent: Extent
    grid: windows.Grid
    rows: np.ndarray
    lost: list[Lost]

    @property
    def spans(self) -> np.ndarray:
        """When each window begins and ends: float64 [n 2], seconds from the first frame."""
        return np.array([self.grid.span(number) for number in range(len(self.grid))])

    @property
    def there(self) -> np.ndarray:
        """Which windows were read: bool [n]."""
        flat = self.rows.reshape(len(self.rows), -1)
        return np.asarray(~np.isnan(flat).any(axis=1))


class Watcher:
    """Decoding processes, and how windows are made; a context manager."""

    def __init__(
        self,
        frames: int,
        rate: windows.Rate,
        geometry: Geometry,
        hop: float = 0.0,
        workers: int = 0,
        share: float = 1.0,
    ):
        """Makes the processes; entering starts them.

        Args:
          frames: T of a window.
          rate: of its frames.
          geometry: which part of the picture.
          hop: seconds from one window to the next; 0 for a share of a window's length.
          workers: decoding processes; 0 for one a core.
          share: see hop.
        """
        self._frames, self._rate, self._geometry, self._hop = frames, rate, geometry, hop
        self._share = share
        self._workers = workers or cores()
        # A process has as long as a window takes to be shown, however long that is.
        limits = {"timeout": max(windows.SECONDS, rate.seconds)}
        self._pool: DecodePool = windows.pool_of(self._workers, frames, geometry, **limits)

    def __enter__(self) -> "Watcher":
        """Starts the processes."""
        self._pool.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Ends them."""
        self._pool.close()

    def watch(
        self,
        video: str,
        see: Callable[[np.ndarray], np.ndarray],
        part: tuple[float, float] = (0.0, math.inf),
    ) -> Watched:
        """Returns what is made of all windows of a video, or of a part of it.

        Args:
          video: its path.
          see: from uint8 [n crops T H W 3] to a row for each; where a row is not finite, its
            window is lost.
          part: seconds from the first frame.

        Raises:
          InputError: nothing of the video can be read, or a window is longer than it.
        """
        extent, grid = self.survey(video, part)
        rows: list[np.ndarray | None] = []
        lost: list[Lost] = []
        with contextlib.closing(self.groups(video, grid)) as groups:
            for group in groups:
                good = [one for one in group if not isinstance(one.pixels, DecodeFailure)]
                made = iter(see(np.stack([one.pixels for one in good])) if good else ())  # type: ignore[arg-type]
                for one in group:
                    why = one.pixels if isinstance(one.pixels, DecodeFailure) else None
                    row = None if why else next(made)
                    if row is not None and not np.isfinite(row).all():
                        row, why = None, NOT_FINITE
                    if why:
                        add_lost(lost, Lost(*grid.span(one.number), *why))
                    rows.append(row)
        return gathered(video, extent, grid, rows, lost)

    def survey(
        self, video: str, part: tuple[float, float] = (0.0, math.inf)
    ) -> tuple[Extent, windows.Grid]:
        """Returns the extent of a video, and its windows; reads no pixels.

        Args:
          video: its path.
          part: of it that is wanted, seconds from the first frame.

        Raises:
          InputError: nothing of the video can be read, or a window is longer than it.
        """
        extent = windows.measured(self._pool, video)
        try:
            grid = windows.grid(extent, self._frames, self._rate, self._hop, self._share, part)
            return extent, grid
        except InputError as error:
            error.args = (f"{video}: {error}",)
            raise

    def groups(self, video: str, grid: windows.Grid) -> Generator[list[windows.Window]]:
        """Yields the windows of a video in order, some at once; close it when done."""
        progress = Progress("watching", len(grid))
        arriving = windows.read(self._pool, video, grid, self._geometry, self._workers)
        with contextlib.closing(arriving):
            while group := [*itertools.islice(arriving, GROUP)]:
                yield group
                progress.look(group[-1].number + 1)


def gathered(
    video: str,
    extent: Extent,
    grid: windows.Grid,
    rows: list[np.ndarray | None],
    lost: list[Lost],
) -> Watched:
    """Returns what was made of a video.

    Args:
      video: its path.
      extent: of it.
      grid: its windows.
      rows: of each window; None where it could not be read.
      lost: what could not be; what the file promises and does not have is added.

    Raises:
      InputError: there is no row.
    """
    if extent.lost:
        end = round(extent.seconds, 3)
        lost.append(Lost(end, end, "truncated", extent.lost))
    shape = next((row.shape for row in rows if row is not None), None)
    if shape is None:
        why = f"No window of {video} can be used: {lost[0].cause}: {lost[0].message}."
        raise Unread(why, lost[0].cause)
    nothing = np.full(shape, np.nan, np.float32)
    made = np.stack([nothing if row is None else row for row in rows]).astype(np.float32)
    return Watched(video, extent, grid, made, lost)


def add_lost(lost: list[Lost], one: Lost) -> None:
    """Adds a part that was lost, to the last one where that has the same cause and touches it."""
    last = lost[-1] if lost else None
    if last and one.begin <= last.end + 1e-6 and one[2:] == last[2:]:
        lost[-1] = last._replace(end=one.end)
    else:
        lost.append(one)
