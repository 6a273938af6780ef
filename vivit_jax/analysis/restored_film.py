"""A video restored window by window, written while it is read, and judged by its own truth."""

import contextlib
import dataclasses
import itertools
import math
import pathlib
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vivit_jax import film
from vivit_jax.analysis.restoring import Task
from vivit_jax.analysis.stitching import Stitcher
from vivit_jax.data.pool import DecodeFailure
from vivit_jax.data.windows import Grid, Window
from vivit_jax.errors import InputError
from vivit_jax.measures import pictures
from vivit_jax.watching import NOT_FINITE, Lost, Watched, Watcher, add_lost, gathered

ROWS = ("given", "plain", "model", "restored")  # of what is judged
_GREY = 127


class Judge:
    """How near pictures are to the truth, over the pixels that were hidden."""

    def __init__(self):
        """Has seen nothing yet."""
        self._errors, self._alike = np.zeros(len(ROWS)), np.zeros(len(ROWS))
        self._pixels = 0

    def look(
        self,
        truth: Float[np.ndarray, "H W 3"],
        each: Float[np.ndarray, "rows H W 3"],
        hidden: Bool[np.ndarray, "H W"],
    ) -> None:
        """Takes in a frame, as every row has it."""
        if not hidden.any():
            return
        self._pixels += int(hidden.sum())
        for i, one in enumerate(each):
            self._errors[i] += ((one - truth) ** 2).mean(axis=-1)[hidden].sum()
            self._alike[i] += pictures.ssim_map(one, truth).mean(axis=-1)[hidden].sum()

    def results(self) -> dict[str, dict[str, float | None]]:
        """Returns PSNR (dB; None where there is no error) and SSIM of every row."""
        count = max(self._pixels, 1)
        rows = zip(ROWS, self._errors / count, self._alike / count, strict=True)
        return {
            name: {"psnr": _finite(pictures.of_error(error)), "ssim": round(alike, 4)}
            for name, error, alike in rows
        }


def _finite(decibels: float) -> float | None:
    """Returns a PSNR as JSON can have it."""
    return round(decibels, 3) if math.isfinite(decibels) else None


class Restorer:
    """Restores videos, one after another."""

    def __init__(self, watcher: Watcher, task: Task, slot: int, size: int, judges: bool):
        """Prepares.

        Args:
          watcher: cuts videos into windows that overlap.
          task: what becomes of them.
          slot: frames of a slot, on whose grid windows are put.
          size: height and width of a frame as the model sees it.
          judges: whether the videos are the truth that is to be restored.
        """
        self._watcher, self._task, self._judges = watcher, task, judges
        self._slot, self._size = slot, size

    def restore(self, video: str, file: pathlib.Path) -> tuple[Watched, dict[str, Any]]:
        """Returns what was read of a video, and an answer; writes original | given | restored.

        Args:
          video: its path.
          file: mp4.

        Raises:
          InputError: nothing of the video can be read, or a window is longer than it.
        """
        extent, grid = self._watcher.survey(video)
        # Slots are the video's, wherever a window begins: the last may end a part of a slot early.
        starts = sorted({start // self._slot * self._slot for start in grid.starts})
        grid = dataclasses.replace(grid, starts=starts)
        if any(end - begin > grid.frames for begin, end in itertools.pairwise(starts)):
            raise InputError(
                f"{video}: its windows lie further apart than they are long, so that what is "
                "between them would not be restored: give a shorter --hop, or none."
            )
        rows: list[np.ndarray | None] = []
        lost: list[Lost] = []
        watched: list[Watched] = []
        judge, stitcher = Judge(), Stitcher()
        self._task.begin()

        def made() -> Generator[UInt8[np.ndarray, "h w 3"]]:
            with contextlib.closing(self._watcher.groups(video, grid)) as groups:
                for group in groups:
                    failed = self._put(group, grid, stitcher)
                    for window in group:
                        why = failed.get(window.number)
                        rows.append(None if why else np.zeros(1, np.float32))
                        if why:
                            add_lost(lost, Lost(*grid.span(window.number), *why))
                    following = group[-1].number + 1
                    end = grid.starts[following] if following < len(grid) else None
                    end = grid.starts[-1] + grid.frames if end is None else end
                    yield from self._shown(stitcher, end, judge)
            watched.append(gathered(video, extent, grid, rows, lost))

        film.write_film(file, made(), grid.rate)
        answer: dict[str, Any] = {**self._task.told(), "file": str(file)}
        if self._judges:
            answer["evaluation"] = judge.results()
        return watched[0], answer

    def _put(
        self, group: Sequence[Window], grid: Grid, stitcher: Stitcher
    ) -> dict[int, DecodeFailure]:
        """Restores the windows of a group; returns why some were not, by their numbers."""
        phases: dict[int, list[Window]] = {}
        failed: dict[int, DecodeFailure] = {}
        for window in group:
            if isinstance(window.pixels, DecodeFailure):
                failed[window.number] = window.pixels
            else:
                slot = grid.starts[window.number] // self._slot
                phases.setdefault(self._task.phase(slot), []).append(window)
        for some in phases.values():
            clips = np.stack([window.pixels[0] for window in some])  # type: ignore[index]
            slots = [grid.starts[window.number] // self._slot for window in some]
            restored = self._task.restore(clips, slots)
            hidden = np.broadcast_to(restored.hidden, clips.shape)
            layers = (clips / np.float32(255), *restored[: len(ROWS)], hidden)
            each = np.stack(layers, axis=2, dtype=np.float32)
            for window, frames in zip(some, each, strict=True):
                if np.isfinite(frames).all():
                    stitcher.add(grid.starts[window.number], frames, restored.trust)
                else:
                    failed[window.number] = NOT_FINITE
        return failed

    def _shown(
        self, stitcher: Stitcher, end: int, judge: Judge
    ) -> Generator[UInt8[np.ndarray, "h w 3"]]:
        """Yields the frames that are complete; grey where none could be read."""
        for _, frame in stitcher.before(end):
            if frame is None:
                panels = np.full((3, 1, self._size, self._size, 3), _GREY, np.uint8)
            else:
                if self._judges:
                    judge.look(frame[0], frame[1:-1], frame[-1][..., 0] > 0.5)
                shown = frame[[0, 1, 1 + len(ROWS) - 1]]
                panels = np.round(255 * shown).clip(0, 255).astype(np.uint8)[:, None]
            yield film.side_by_side(film.enlarge(panels))[0]
