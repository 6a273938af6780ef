"""What went wrong: updates left out, runs that went back, videos that could not be read."""

import pathlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from vivit_jax.data.findings import CAUSES
from vivit_jax.data.survey import CHECKS
from vivit_jax.errors import some
from vivit_jax.page.runs import Record, Run, lines
from vivit_jax.page.tables import Markup, missing, table
from vivit_jax.text import escaped

_LINES = 12  # of skipped updates
_BAD = 300  # bad videos listed


def read_doctor(run: Run) -> list[Record] | None:
    """Returns what the dataset doctor found, where a run was given its bad list; else None."""
    excluded = run.option("data", "exclude", "")
    file = pathlib.Path(str(excluded)).with_name(CHECKS) if excluded else None
    if file is None or not file.is_file():
        return None
    return lines(file, run.problems, "split")


def trouble(run: Run) -> str:
    """Returns what went wrong in a run: updates left out, rollbacks, and files that are spoilt."""
    parts: list[str] = [missing(problem) for problem in run.problems]
    for line in run.rollbacks:
        parts.append(
            f'<p class="warning">At step {escaped(str(line["step"]))} it went back to step '
            f"{escaped(str(line.get('to', '?')))}: {escaped(str(line.get('reason', '')))}.</p>"
        )
    if run.skipped:
        whys = Counter(str(line.get("why", "not finite")) for line in run.skipped)
        told = ", ".join(f"{count:,} {escaped(why)}" for why, count in whys.most_common())
        rows = [
            [line["step"], str(line.get("why", "")), some(map(str, line.get("examples", ())), 4)]
            for line in run.skipped[-_LINES:]
        ]
        parts.append(f"<p>Updates left out: {told}. The last:</p>")
        parts.append(table(["step", "why", "videos"], rows, "sortable"))
    return "".join(parts) or '<p class="good">No update was left out, and it never went back.</p>'


def health(run: Run, doctor: Sequence[Mapping[str, Any]] | None) -> str:
    """Returns which videos could not be read, and what the dataset doctor said of the data.

    Args:
      run: whose.
      doctor: lines of its checks.jsonl; None where the run was not given what it found.
    """
    parts = []
    if doctor is not None:
        bad = sum(bool(line.get("bad")) for line in doctor)
        parts.append(f"<p>The dataset doctor checked {len(doctor):,} videos: {bad:,} are bad.</p>")
        found = Counter(
            str(finding[0]) for line in doctor for finding in line.get("findings", ()) if finding
        )
        parts.append(_causes(found) if found else "")
    if not run.bad:
        return "".join((*parts, _none_bad(run)))
    found = Counter(str(record.get("cause", "unknown")) for record in run.bad)
    parts.append(f"<p>{len(run.bad):,} videos could not be read:</p>")
    parts.append(_causes(found))
    rows = [
        [str(x["id"]), str(x.get("split", "")), str(x.get("cause", "")), str(x.get("message", ""))]
        for x in run.bad[:_BAD]
    ]
    listed = table(["video", "split", "cause", "message"], rows, "sortable long")
    more = len(run.bad) - _BAD
    note = f'<p class="dim">and {more:,} videos more</p>' if more > 0 else ""
    parts.append(f"<details><summary>Which</summary>{listed}{note}</details>")
    return "".join(parts)


def _none_bad(run: Run) -> str:
    """Returns what it means that no bad video is known of."""
    if any(problem.startswith("bad_videos") for problem in run.problems):
        return missing("Which videos could not be read is not known: bad_videos.jsonl is spoilt.")
    if not run.metrics and not run.results:
        return missing("No video was read yet.")
    return '<p class="good">Every video that was asked for could be read.</p>'


def _causes(found: Counter[str]) -> Markup:
    """Returns a table of causes with what they mean."""
    rows = [
        (cause, count, CAUSES[cause].meaning if cause in CAUSES else "")
        for cause, count in found.most_common()
    ]
    return table(("cause", "videos", ""), rows, "sortable")
