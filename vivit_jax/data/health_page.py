"""The doctor's report as one HTML page: no other file, no network, no script."""

import base64
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vivit_jax.data.findings import CAUSES, Finding
from vivit_jax.text import escaped, shown

_BARS = 24  # of a histogram
_CLASSES = 400  # most rows of the table of classes
_ROWS = 2000  # most rows of the table of videos
_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #333; margin: 2em auto; max-width: 1100px;
  padding: 0 1em }
h1 { font-size: 1.5em } h2 { font-size: 1.15em; margin-top: 2em }
table { border-collapse: collapse } td, th { padding: .2em .8em .2em 0; text-align: left;
  vertical-align: top } th { border-bottom: 1px solid #ccc } td.n, th.n { text-align: right }
.bad { color: #c05621 } .warning { color: #975a16 } .good { color: #2f855a } .dim { color: #888 }
.figures { display: flex; flex-wrap: wrap; gap: 2em } figure { margin: 0; width: 300px }
figcaption { font-size: .9em } svg text { font: 11px system-ui, sans-serif; fill: #666 }
img { display: block; max-width: 420px; border: 1px solid #ccc }
code { display: block; width: 20em; overflow-wrap: anywhere }
"""


class Row(NamedTuple):
    """A video that something is to be said of, with a JPEG, or b""."""

    id: str
    split: str
    labels: Sequence[str]
    findings: Sequence[Finding]
    strip: bytes


class Health(NamedTuple):
    """What the page shows.

    Attributes:
      title: of the page: what was checked.
      summary: lines of text.
      counts: videos by cause.
      bad: the causes that make a video bad.
      rows: the videos that something is to be said of, bad ones first.
      seconds: of each video that could be read.
      rates: frames a second, likewise.
      short_sides: pixels, likewise.
      classes: {split: videos by class}.
    """

    title: str
    summary: Sequence[str]
    counts: Mapping[str, int]
    bad: frozenset[str]
    rows: Sequence[Row]
    seconds: Sequence[float]
    rates: Sequence[float]
    short_sides: Sequence[float]
    classes: Mapping[str, Counter[str]]


def render(health: Health) -> str:
    """Returns the page."""
    title = escaped(health.title)
    summary = "".join(f"<p>{escaped(line)}</p>" for line in health.summary)
    figures = "".join(
        _histogram(values, caption)
        for values, caption in (
            (health.seconds, "seconds"),
            (health.rates, "frames a second"),
            (health.short_sides, "short side, pixels"),
        )
    )
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>{summary}"
        f"<h2>What was found</h2>{_causes(health)}"
        f'<h2>How long, how fast, how large</h2><div class="figures">{figures}</div>'
        f"{_balance(health.classes)}{_videos(health)}</body></html>\n"
    )


def _causes(health: Health) -> str:
    """Returns the table of causes."""
    if not health.counts:
        return '<p class="good">Nothing.</p>'
    lines = [
        f'<tr><td class="{kind}">{cause}</td><td class="n">{health.counts[cause]}</td>'
        f"<td>{kind}</td><td>{escaped(CAUSES[cause].meaning)}</td></tr>"
        for cause in CAUSES
        if cause in health.counts
        for kind in ("bad" if cause in health.bad else "warning",)
    ]
    head = '<tr><th>cause</th><th class="n">videos</th><th></th><th></th></tr>'
    return f"<table>{head}{''.join(lines)}</table>"


def _histogram(values: Sequence[float], caption: str) -> str:
    """Returns a figure of bars; of what varies more than tenfold in powers."""
    kept = np.array([value for value in values if math.isfinite(value) and value > 0])
    if not len(kept):
        return ""
    low, high = float(kept.min()), float(kept.max())
    powers = high > 10 * low
    if powers:
        edges = np.geomspace(low, high * (1 + 1e-9), _BARS + 1)
    else:
        spread = max(high - low, 0.1 * high)
        edges = np.linspace(low - 0.02 * spread, high + 0.02 * spread, _BARS + 1)
    counts, _ = np.histogram(kept, edges)
    width, height, bar = 300, 120, 300 / _BARS
    bars = "".join(
        f'<rect x="{i * bar:.1f}" y="{height - tall:.1f}" width="{bar - 1:.1f}" '
        f'height="{tall:.1f}" fill="#2b6cb0"><title>{_number(edges[i])} to '
        f"{_number(edges[i + 1])}: {count}</title></rect>"
        for i, count in enumerate(counts)
        if count
        for tall in (max(1.0, height * count / counts.max()),)
    )
    places = [(0, "start"), (_BARS // 2, "middle"), (_BARS, "end")]
    labels = "".join(
        f'<text x="{i * bar:.1f}" y="{height + 15}" text-anchor="{anchor}">'
        f"{_number(edges[i])}</text>"
        for i, anchor in places
    )
    middle = f"median {_number(float(np.median(kept)))}"
    scale = ", in powers" if powers else ""
    return (
        f'<figure><svg width="{width}" height="{height + 20}" role="img">{bars}'
        f'<line x1="0" x2="{width}" y1="{height}" y2="{height}" stroke="#999"/>{labels}</svg>'
        f"<figcaption>{caption}: {_number(low)} to {_number(high)}, {middle}{scale}; the highest "
        f"bar is {counts.max()} videos</figcaption></figure>"
    )


def _number(value: float) -> str:
    """Returns a number short enough for an axis."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _balance(classes: Mapping[str, Counter[str]]) -> str:
    """Returns the table of classes: videos of each in each split."""
    names = sorted(set().union(*classes.values()), key=shown)
    if not names:
        return ""
    largest = max(max(counts.values(), default=1) for counts in classes.values())
    lines = []
    for name in names[:_CLASSES]:
        cells = "".join(
            f'<td class="n{" bad" * (not counts[name])}">{counts[name]}</td><td><svg width="160" '
            f'height="10"><rect width="{160 * counts[name] / largest:.1f}" height="10" '
            f'fill="#2b6cb0"/></svg></td>'
            for counts in classes.values()
        )
        lines.append(f"<tr><td>{escaped(name)}</td>{cells}</tr>")
    head = "".join(f'<th class="n">{escaped(split)}</th><th></th>' for split in classes)
    more = len(names) - _CLASSES
    note = f"<p>... and {more} classes more.</p>" if more > 0 else ""
    return f"<h2>Classes</h2><table><tr><th>class</th>{head}</tr>{''.join(lines)}</table>{note}"


def _videos(health: Health) -> str:
    """Returns the table of videos that something is to be said of."""
    rows = health.rows
    if not rows:
        return ""
    lines = []
    for row in rows[:_ROWS]:
        found = "<br>".join(
            f'<span class="{kind}">{finding.cause}</span> {escaped(finding.found)}'
            for finding in row.findings
            for kind in ("bad" if finding.cause in health.bad else "warning",)
        )
        data = base64.b64encode(row.strip).decode()
        picture = f'<img alt="" src="data:image/jpeg;base64,{data}">' if data else ""
        labels = escaped(", ".join(row.labels))
        lines.append(
            f"<tr><td>{picture}</td><td><code>{escaped(row.id)}</code>"
            f'<span class="dim">{escaped(row.split)} {labels}</span></td><td>{found}</td></tr>'
        )
    more = len(rows) - _ROWS
    note = f"<p>... and {more} videos more.</p>" if more > 0 else ""
    head = "<tr><th>from first to last frame</th><th>video</th><th>found</th></tr>"
    return f"<h2>Videos</h2><table>{head}{''.join(lines)}</table>{note}"
