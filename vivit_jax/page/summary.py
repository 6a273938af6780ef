"""What runs came to and what they were told: results and configs, a column a run."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from vivit_jax.measures.bootstrap import Interval
from vivit_jax.metrics import HELD_OUT
from vivit_jax.page.runs import Run, called, flat, is_end
from vivit_jax.page.tables import Markup, Number, cell, missing, section, share, table
from vivit_jax.text import escaped

_INTERVALS = (
    "In brackets: 95 % bootstrap intervals over the judged videos. They tell of these videos, not "
    "of another seed's run, and are left out where no draw differs."
)
_SAME = 1e-3  # or the scores are not those of the result
_ABOUT = ("step", "split", "videos")
_LOWER = ("ece", "loss")  # the lower the better
_NEITHER = (
    "seconds",
    "coverage",
    "videos",
    "temperature",
    "learning_rate",
    "weight_decay",
    "feature_",  # how features spread
)


def results(runs: Sequence[Run], intervals: Sequence[Mapping[str, Interval]]) -> Markup:
    """Returns the table of the newest results, a column a run."""
    if not any(run.results for run in runs):
        return section("results", "Results", missing("No evaluation yet."))
    keys = dict.fromkeys(key for run in runs for key in run.last)
    keys = [key for key in keys if not is_end(key) and key not in _ABOUT]
    rows: list[list[Any]] = [["judged", *(_judged(run) for run in runs)]]
    splits = {run.split for run in runs if run.results}
    compared = HELD_OUT if HELD_OUT in splits else "train"  # never a split with the other
    for key in keys:
        values = [run.last.get(key) for run in runs]
        best = _best(key, [run.last.get(key) if run.split == compared else None for run in runs])
        cells = [
            _result(key, value, run.last, found.get(key), i in best)
            for i, (value, run, found) in enumerate(zip(values, runs, intervals, strict=True))
        ]
        rows.append([called(key), *cells])
    note = f'<p class="dim">{_INTERVALS}</p>' if any(intervals) else ""
    return section("results", "Results", table(["", *heads(runs)], rows, "results"), note)


def ends(key: str, record: Mapping[str, Any], found: Interval | None) -> tuple[float, float] | None:
    """Returns the ends of a result's interval; None where it has none.

    Args:
      key: the result's name.
      record: a line of results.jsonl, which may tell them.
      found: what was made of the scores beside it; None where there are none.
    """
    name, head, number = key.partition("_head_")
    low, high = (record.get(f"{name}{end}{head}{number}") for end in ("_low", "_high"))
    if isinstance(low, int | float) and isinstance(high, int | float):
        return low, high
    if found and abs(found.value - record[key]) < _SAME and math.isfinite(found.low + found.high):
        return found.low, found.high
    return None


def configs(runs: Sequence[Run]) -> Markup:
    """Returns the options that differ, and all of each run, folded away."""
    each = [flat(run.settings) for run in runs]
    names = list(dict.fromkeys(name for options in each for name in options))
    parts = []
    if len(runs) > 1:
        rows = [
            [name, *(_option(options.get(name, _NONE)) for options in each)]
            for name in names
            if any(options.get(name, _NONE) != each[0].get(name, _NONE) for options in each)
        ]
        said = table(["option", *heads(runs)], rows, "long") if rows else ""
        parts.append(said or missing("All options are the same."))
    rows = [[name, *(_option(options.get(name, _NONE)) for options in each)] for name in names]
    whole = table(["option", *heads(runs)], rows, "long")
    parts.append(f"<details><summary>All {len(names)} options</summary>{whole}</details>")
    title = "What differs between the configs" if len(runs) > 1 else "Config"
    return section("config", title, *parts)


_NONE = object()  # an option that a config lacks


def _option(value: Any) -> Any:
    """Returns an option as it stands on a command line."""
    if value is _NONE:
        return None
    if isinstance(value, list):
        return ", ".join(map(str, value)) or Markup('<span class="dim">empty</span>')
    return Markup('<span class="dim">empty</span>') if value == "" else str(value)


def heads(runs: Sequence[Run]) -> list[Markup]:
    """Returns the heads of the columns of runs."""
    return [
        Markup(f'<i class="swatch run{i % 8}"></i>{escaped(run.name)}')
        for i, run in enumerate(runs)
    ]


def _judged(run: Run) -> str | None:
    """Returns what the newest results are of."""
    if not run.results:
        return "no evaluation yet"
    split = "held-out" if run.split == HELD_OUT else "training"
    videos = run.last.get("videos")
    told = f"{videos:,} {split} videos" if isinstance(videos, int) else f"{split} videos"
    return f"step {run.last['step']:,}, {told}"


def _result(
    key: str, value: Any, record: Mapping[str, Any], found: Interval | None, best: bool
) -> Any:
    """Returns the cell of a result, with its interval."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, int | float):
        return str(value)
    text = cell(share(value)) if _is_share(key) else cell(value)
    limits = ends(key, record, found)
    if limits:
        low, high = (f"{100 * end:.1f}" for end in limits)
        text += f' <span class="dim">[{low}, {high}]</span>' * (low != high)
    return Number(value, f"<b>{text}</b>" if best else text)


def _is_share(key: str) -> bool:
    """Returns whether a result is a share from 0 to 1."""
    parts = ("top1", "top5", "precision", "recall", "f1", "coverage", "accuracy")
    return any(part in key for part in parts)


def _best(key: str, values: Sequence[Any]) -> set[int]:
    """Returns which runs have the best of a result; none where they are equal, or nobody knows."""
    known = {i: x for i, x in enumerate(values) if isinstance(x, int | float) and math.isfinite(x)}
    if len(set(known.values())) < 2 or any(word in key for word in _NEITHER):
        return set()
    lower = any(word in key for word in _LOWER)
    best = min(known.values()) if lower else max(known.values())
    return {i for i, value in known.items() if value == best}
