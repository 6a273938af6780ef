"""Curves of runs as few points: what is drawn of a long run is what a person could see of it."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from vivit_jax.drawing import series
from vivit_jax.page.runs import Record, Run, called, is_end

POINTS = 1000  # of a curve, about
_ALL_POINTS = 60_000  # of a page
FIRST = {  # these charts first, with what they are called
    "loss": "loss",
    "top1": "top-1",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "clips_per_second": "clips a second",
    "data_wait": "share of time waiting for data",
    "goodput": "goodput",
    "mfu": "share of the device's peak (MFU)",
}
_LEFT_OUT = {"step", "clips_per_second_per_device", "skipped", "traced"}
_NO_CURVE = {"step", "videos", "coverage", "seconds"}  # of results
_MOST = 24  # charts


def charts(runs: Sequence[Run]) -> tuple[list[dict[str, Any]], int]:
    """Returns the charts, and how many more there would be.

    A chart is a title, and for each run that has it a line, dots, or both. Lines are of training,
    dots of evaluations. A value that is no number leaves a gap. A line that is thinned has "means"
    too, which a moving average is made of.
    """
    trained = [_keys(run.metrics) - _LEFT_OUT for run in runs]
    judged = [_judged(run) for run in runs]
    found = sorted(set().union(*trained, *judged), key=_order)
    every = found[:_MOST]
    most = max(50, min(POINTS, _ALL_POINTS // max(1, len(runs) * len(every))))
    made = []
    for key in every:
        lines = []
        for number, run in enumerate(runs):
            if key in trained[number]:
                curve = _curve(run.metrics, key)
                lines.append({"run": number, "kind": "line", **_points(thinned(*curve, most))})
                if len(curve[0]) > most:
                    lines[-1]["means"] = _points(means(*curve, most))
            if key in judged[number]:
                dots = thinned(*_curve(run.counted, key), most)
                lines.append({"run": number, "kind": "dots", **_points(dots)})
        made.append({"key": key, "title": FIRST.get(key) or called(key), "lines": lines})
    return made, len(found) - len(every)


def thinned(
    steps: Sequence[int], values: Sequence[float], most: int = POINTS
) -> tuple[list[int], list[float | None]]:
    """Returns a curve in about `most` points: of each of equal parts the lowest and the highest.

    So no spike is lost, and none is made up: every point is one of the curve's. None is a gap.
    """
    count = len(steps)
    kept = range(count)
    if count > most:
        y = np.asarray(values, float)
        parts = _parts(count, most)
        kept = sorted({0, count - 1}.union(*map(set, (_extremes(part, y) for part in parts))))
    return [int(steps[i]) for i in kept], [_short(values[i]) for i in kept]


def means(
    steps: Sequence[int], values: Sequence[float], most: int = POINTS
) -> tuple[list[int], list[float | None]]:
    """Returns the mean of each of the parts that `thinned` makes, at the step in its middle.

    A moving average over lowest and highest values would be far off where a curve has spikes.
    None is a part of gaps alone.
    """
    y, parts = np.asarray(values, float), _parts(len(steps), most)
    known = [y[part][np.isfinite(y[part])] for part in parts]
    middles = [int(steps[part[len(part) // 2]]) for part in parts]
    return middles, [_short(some.mean()) if len(some) else None for some in known]


def _parts(count: int, most: int) -> list[np.ndarray]:
    """Returns the numbers of a curve's values in equal parts, of which each gives two points."""
    return np.array_split(np.arange(count), max(1, most // 2))


def _curve(records: Iterable[Record], key: str) -> tuple[list[int], list[float]]:
    """Returns the steps of what is a number or none, and the numbers."""
    return series((x for x in records if isinstance(x.get(key), int | float | None)), key)


def _points(curve: tuple[list[int], list[float | None]]) -> dict[str, list[Any]]:
    """Returns a curve as the script takes it."""
    return {"x": curve[0], "y": curve[1]}


def _extremes(part: np.ndarray, values: np.ndarray) -> list[int]:
    """Returns the numbers of the lowest and the highest value of a part, and of a gap in it."""
    known = part[np.isfinite(values[part])]
    gap = part[~np.isfinite(values[part])][:1].tolist()
    if not len(known):
        return gap
    return [int(known[values[known].argmin()]), int(known[values[known].argmax()]), *gap]


def _keys(records: Iterable[dict[str, Any]]) -> set[str]:
    """Returns the names of what is a number somewhere."""
    return {
        key
        for record in records
        for key, value in record.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def _judged(run: Run) -> set[str]:
    """Returns the results that are drawn: those of training too, and what is there more than once.

    An interval's ends and seconds are not.
    """
    steps: dict[str, set[int]] = {}
    for record in run.counted:
        for key in _keys([record]) - _NO_CURVE:
            steps.setdefault(key, set()).add(record["step"])
    keys = {k for k in steps if not (is_end(k) or k.endswith(("_seconds", "_coverage")))}
    return {key for key in keys if len(steps[key]) > 1} | keys & _keys(run.metrics)


def _order(key: str) -> tuple[int, str]:
    """Returns where a chart stands."""
    return ([*FIRST].index(key) if key in FIRST else len(FIRST)), key


def _short(value: float) -> float | None:
    """Returns a number of six digits; None where it is none."""
    return float(f"{value:.6g}") if math.isfinite(value) else None
