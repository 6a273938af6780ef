"""Where the time of runs went: a bar and a column a run."""

from collections.abc import Mapping, Sequence
from typing import Any

from vivit_jax.clock import PHASES, add_up, goodput
from vivit_jax.metrics import duration
from vivit_jax.page.runs import Run
from vivit_jax.page.summary import heads
from vivit_jax.page.tables import Markup, Number, missing, plain, section, share, table
from vivit_jax.text import escaped

_PHASE_KINDS = {  # colours
    "step": "good",
    "data_wait": "wait",
    "evaluation": "side",
    "save": "side",
    "lost": "bad",
    "down": "bad",
}


def times(runs: Sequence[Run]) -> Markup:
    """Returns where the time went: a bar and a column a run."""
    spent = [_spent(run) for run in runs]
    if not any(spent):
        return section("time", "Where the time went", missing("No times were written yet."))
    bars = "".join(
        f'<div class="timeline"><span>{escaped(run.name)}</span>{_bar(total)}</div>'
        for run, total in zip(runs, spent, strict=True)
        if total
    )
    rows: list[list[Any]] = [
        ["goodput", *(share(goodput(total)) if total else None for total in spent)],
        ["wall time", *(_seconds(sum(total.values())) if total else None for total in spent)],
    ]
    for phase, what in PHASES.items():
        if any(total and total[phase] for total in spent):
            kind = _PHASE_KINDS.get(phase, "other")
            name = f'<i class="swatch {kind}"></i>{phase.replace("_", " ")}'
            about = f' <span class="dim">{escaped(what)}</span>'
            cells = [_phase(total, phase) if total else None for total in spent]
            rows.append([Markup(name + about), *cells])
    return section("time", "Where the time went", bars, table(["", *heads(runs)], rows))


def _spent(run: Run) -> dict[str, float] | None:
    """Returns the seconds of each phase; None where none are known."""
    try:
        total = add_up(run.time)
    except (KeyError, TypeError, AttributeError):
        run.problems.append("time.jsonl has lines that are no records.")
        return None
    return total if sum(total.values()) > 0 else None


def _bar(total: Mapping[str, float]) -> str:
    """Returns a bar of the phases in the order in which they come."""
    wall, at, parts = sum(total.values()), 0.0, []
    for phase, seconds in total.items():
        width = 1000 * seconds / wall
        if width > 0.5:
            kind = _PHASE_KINDS.get(phase, "other")
            parts.append(
                f'<rect class="{kind}" x="{at:.1f}" width="{max(0.5, width - 1.5):.1f}" '
                f'height="22">'
                f"<title>{phase.replace('_', ' ')}: {duration(seconds)}</title></rect>"
            )
        at += width
    return (
        f'<svg viewBox="0 0 1000 22" preserveAspectRatio="none" role="img">{"".join(parts)}</svg>'
    )


def _phase(total: Mapping[str, float], phase: str) -> Number | None:
    """Returns the seconds of a phase and their share."""
    if not total[phase]:
        return None
    of_all = 100 * total[phase] / sum(total.values())
    text = f'{plain(round(total[phase], 1))} s <span class="dim">{of_all:.1f} %</span>'
    return Number(total[phase], text)


def _seconds(seconds: float) -> Number:
    """Returns a length of time."""
    return Number(seconds, duration(seconds))
