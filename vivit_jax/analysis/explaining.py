"""What a model made of each window of a video and where it looked, written while it is watched."""

import contextlib
import math
import pathlib
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from vivit_jax import film
from vivit_jax.analysis import deletion, overlay
from vivit_jax.analysis.attribution import Attributed, shares
from vivit_jax.data.pool import DecodeFailure
from vivit_jax.data.windows import Grid, Window
from vivit_jax.observer import Clips, Observer
from vivit_jax.watching import NOT_FINITE, Lost, Watched, Watcher, add_lost, gathered

JUDGED = 8  # windows of a video that are judged
RANDOM = 5  # random orders that each is judged beside
_TOLD = 3  # numbers before a window's slots: class, score, gap


class Explainer:
    """Explains videos, one after another."""

    def __init__(
        self,
        observer: Observer,
        watcher: Watcher,
        attributed: Callable[[Clips], Attributed],
        names: Sequence[str],
        removed: str = "",
    ):
        """Prepares.

        Args:
          observer: the model.
          watcher: cuts videos into windows.
          attributed: as attribution.attribute returns it.
          names: of the classes, head after head.
          removed: one of choices.REMOVED to judge some windows by deletion; "" for none.
        """
        self._observer, self._watcher, self._attributed = observer, watcher, attributed
        self._removed, self._names = removed, names

    def explain(self, video: str, out: pathlib.Path, name: str) -> tuple[Watched, dict[str, Any]]:
        """Returns what was made of a video, and an answer; writes its film and pictures.

        Args:
          video: its path.
          out: folder; made where it is missing.
          name: of the files.

        Raises:
          InputError: nothing of the video can be read, or a window is longer than it.
        """
        extent, grid = self._watcher.survey(video)
        kinds = ("explain.mp4", "explain.png", "timeline.png")
        film_file, strip_file, timeline = files = [out / f"{name}.{kind}" for kind in kinds]
        seen = _Seen()
        watched: list[Watched] = []

        def pictures() -> Generator[UInt8[np.ndarray, "h w 3"]]:
            with contextlib.closing(self._watcher.groups(video, grid)) as groups:
                for group in groups:
                    for number, panels in self._looked_at(group, grid, seen):
                        own = grid.frames
                        if number + 1 < len(grid):  # later frames are the next window's
                            own = min(own, grid.starts[number + 1] - grid.starts[number])
                        yield from film.side_by_side(film.enlarge(panels[:, :own]))
            watched.append(gathered(video, extent, grid, seen.rows, seen.lost))

        film.write_film(film_file, pictures(), grid.rate)
        assert seen.surest is not None
        film.write_strip(strip_file, seen.surest)
        answer = self._answer(watched[0], timeline)
        if seen.judged:
            answer["evaluation"] = {
                "windows": len(seen.judged),
                "method": deletion.mean_of([one for one, _ in seen.judged])._asdict(),
                "random": deletion.mean_of([one for _, one in seen.judged])._asdict(),
            }
        return watched[0], {**answer, "files": [str(file) for file in files]}

    def _looked_at(
        self, group: Sequence[Window], grid: Grid, seen: "_Seen"
    ) -> Generator[tuple[int, film.Panels]]:
        """Yields the windows of a group that were read: their numbers, frames and heat."""
        to_judge = np.linspace(0, len(grid) - 1, JUDGED).round().astype(int)
        good = {w.number: w.pixels for w in group if not isinstance(w.pixels, DecodeFailure)}
        found = self._attributed(np.stack([*good.values()])) if good else None
        places = {number: place for place, number in enumerate(good)}
        if found:
            finite = [np.isfinite(tubelets).all() for tubelets in found.tubelets]
            places = {number: place for number, place in places.items() if finite[place]}
        for window in group:
            if found is None or window.number not in places:
                why = window.pixels if isinstance(window.pixels, DecodeFailure) else NOT_FINITE
                seen.rows.append(None)
                add_lost(seen.lost, Lost(*grid.span(window.number), *why))
                continue
            place, clip = places[window.number], good[window.number][0]
            told = found.classes[place], found.scores[place], found.gaps[place]
            heat = shares(found.tubelets[place][None])[0]
            seen.rows.append(np.array([*told, *heat.sum(axis=(1, 2))], np.float32))
            if self._removed and window.number in to_judge:
                seen.judged.append(self._judge(clip, int(told[0]), found.tubelets[place]))
            panels = np.stack([clip, overlay.heated(clip, heat)])
            seen.show(panels, float(told[1]))
            yield window.number, panels

    def _judge(
        self, clip: np.ndarray, chosen: int, tubelets: np.ndarray
    ) -> tuple[deletion.Areas, deletion.Areas]:
        """Returns what the order of a window's tubelets is worth, and a random one."""
        orders = [deletion.ranked(tubelets), *deletion.at_random(RANDOM, tubelets.size)]
        first, *others = deletion.areas(self._observer, clip, chosen, orders, self._removed)
        return first, deletion.mean_of(others)

    def _answer(self, watched: Watched, timeline: pathlib.Path) -> dict[str, Any]:
        """Returns the windows of an answer, and draws their timeline."""
        classes, scores, gaps = watched.rows[:, :_TOLD].T
        slots, spans, windows = watched.rows[:, _TOLD:], watched.spans, []
        # Without classes, the scores are NaN in windows that are there, too.
        there = np.asarray(~np.isnan(slots).any(axis=1))
        labels = [
            self._names[int(k)] if ok and k >= 0 else ""
            for k, ok in zip(classes, there, strict=True)
        ]
        for i in np.flatnonzero(there):
            window = {"begin": round(spans[i, 0], 3), "end": round(spans[i, 1], 3)}
            if labels[i]:
                window |= {"class": labels[i], "score": round(float(scores[i]), 6)}
            windows.append({**window, "slots": [round(float(x), 4) for x in slots[i]]})
        overlay.write_timeline(timeline, spans, slots, scores, labels)
        answer: dict[str, Any] = {"explained": windows}
        if np.isfinite(gaps).any():  # of integrated gradients
            answer["completeness_gap"] = round(float(np.nanmax(gaps)), 6)
        return answer


class _Seen:
    """What is kept of the windows of a video."""

    def __init__(self):
        """Has seen none."""
        self.rows: list[np.ndarray | None] = []
        self.lost: list[Lost] = []
        self.judged: list[tuple[deletion.Areas, deletion.Areas]] = []
        self.surest: film.Panels | None = None
        self._score = -math.inf

    def show(self, panels: film.Panels, score: float) -> None:
        """Keeps the window whose class is surest; the first where there are no classes."""
        if self.surest is None or score > self._score:
            self.surest, self._score = panels, -math.inf if math.isnan(score) else score
