"""The whole page of some runs: one HTML file that needs no other and may reach no network.

Style and script lie beside this file and are put inside; the page's own policy lets a browser run
these two by their digests, show pictures and films that are in the page, and load nothing else.
"""

import base64
import hashlib
import importlib.resources
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vivit_jax.measures.bootstrap import Interval
from vivit_jax.metrics import HELD_OUT
from vivit_jax.page import classes, health, summary
from vivit_jax.page.curves import charts
from vivit_jax.page.judged import Head, Judged
from vivit_jax.page.runs import Run, called
from vivit_jax.page.tables import Markup, beside, missing, section
from vivit_jax.page.times import times
from vivit_jax.page.videos import Pictures, Shown, as_uri
from vivit_jax.text import escaped, shown

_PANELS = {
    "reconstruction": "from left to right: the original, what the encoder saw, what was predicted, "
    "and both together",
    "feature_pca": "from left to right: the original, and its features in three colours",
}
_ATTENDED = (
    "Beside each clip: where the model looked for what it says, by its attention, or where that "
    "cannot be followed by integrated gradients."
)


class Told(NamedTuple):
    """What a page says of a run.

    Attributes:
      run: its files.
      judged: scores of its newest evaluation; None where there are none.
      intervals: of its results, by name.
      pictures: films of its videos; None where there are no scores.
      filled: films that its evaluation wrote, with their names.
      doctor: lines of the dataset doctor's checks.jsonl; None where there is none.
    """

    run: Run
    judged: Judged | None
    intervals: Mapping[str, Interval]
    pictures: Pictures | None
    filled: Sequence[tuple[str, bytes]]
    doctor: Sequence[Mapping[str, Any]] | None


def render(told: Sequence[Told], made: str) -> str:
    """Returns the page.

    Args:
      told: of each run.
      made: when, in words.
    """
    runs = [one.run for one in told]
    title = runs[0].name if len(runs) == 1 else f"{len(runs)} runs"
    (drawn, more), configs = charts(runs), summary.configs(runs)
    pair = _beside_each_other if len(runs) == 1 else _one_after_another
    matrices = [_matrix(one) for one in told]
    data = {"runs": [shown(run.name) for run in runs], "charts": drawn, "matrices": matrices}
    body = "".join(
        (
            f'<header><h1>{escaped(title)}</h1><p class="dim">vivit_jax report, {escaped(made)}'
            f'</p></header><div class="cards">{"".join(map(_card, told, range(len(told))))}</div>',
            '<noscript><p class="warning">Curves and the confusion matrix are drawn by the '
            "script in this page, which is switched off.</p></noscript>",
            _curves(drawn, more),
            _tables(
                summary.results(runs, [x.intervals for x in told]), times(runs), configs, len(runs)
            ),
            _of_runs(told, "confusion", "What is taken for what", _confusion),
            pair(
                _of_runs(told, "classes", "Each class", _classes),
                _of_runs(told, "calibration", "Is it as sure as it is right?", _calibration),
            ),
            _of_runs(told, "videos", "Best and worst videos", _videos),
            _of_runs(told, "filled", "What it makes of videos", _filled),
            pair(
                _of_runs(told, "health", "Data", lambda x, _: health.health(x.run, x.doctor)),
                _of_runs(told, "trouble", "Trouble", lambda x, _: health.trouble(x.run)),
            ),
        )
    )
    return _document(title, body, data)


def _document(title: str, body: str, data: Mapping[str, Any]) -> str:
    """Returns a whole HTML file."""
    files = importlib.resources.files("vivit_jax.page")
    style, script = ((files / f"report.{kind}").read_text("utf-8") for kind in ("css", "js"))
    policy = (
        "default-src 'none'; img-src data:; media-src data:; base-uri 'none'; form-action 'none'; "
        f"style-src '{_digest(style)}'; script-src '{_digest(script)}'"
    )
    # A "<" within the data could end the script.
    told = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="data:,"><title>{escaped(title)}</title>'
        f"<style>{style}</style></head><body><main>{body}</main>"
        f'<script type="application/json" id="data">{told}</script>'
        f"<script>{script}</script></body></html>\n"
    )


def _digest(text: str) -> str:
    """Returns what a policy knows a style or a script by."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _tables(results: str, spent: str, configs: str, runs: int) -> str:
    """Returns three sections of which two share a row where they are narrow enough."""
    if runs == 1:
        return _beside_each_other(results, spent) + configs
    return results + (_beside_each_other if runs == 2 else _one_after_another)(spent, configs)


def _beside_each_other(*sections: str) -> str:
    """Returns sections in one row, where the window is wide enough."""
    return f'<div class="pair">{"".join(sections)}</div>'


def _one_after_another(*sections: str) -> str:
    """Returns sections below one another."""
    return "".join(sections)


def _of_runs(told: Sequence[Told], name: str, title: str, of: Any) -> Markup:
    """Returns a section with a block for each run; nothing where no run has any.

    Args:
      told: of each run.
      name: of the section.
      title: of the section.
      of: from what is told of a run, and its number, to HTML; "" for nothing to say.
    """
    blocks = [(one.run.name, i, of(one, i)) for i, one in enumerate(told)]
    blocks = [block for block in blocks if block[2]]
    return section(name, title, beside(blocks, len(told) > 1) if blocks else "")


def _card(told: Told, number: int) -> str:
    """Returns what stands first of a run: its name, how far it is, and its main result."""
    run, last = told.run, told.run.last
    step = max((record["step"] for record in (*run.metrics, *run.results)), default=0)
    steps = run.option("train", "steps", -1)
    far = (
        f"{step:,} of {steps:,} steps"
        if isinstance(steps, int) and steps > 0
        else f"{step:,} steps"
    )
    what = [
        str(run.option("objective", "name", "")),
        str(run.option("model", "attention", run.option("model", "name", ""))),
        str(run.option("data", "dataset", "")),
        far,
    ]
    main = next((key for key in _MAIN if isinstance(last.get(key), int | float)), "")
    result = missing(
        f"Judged at step {last['step']:,}: see Results." if run.results else "No evaluation yet."
    )
    if main:
        value, between = last[main], ""
        limits = summary.ends(main, last, told.intervals.get(main))
        if limits:
            low, high = (f"{100 * end:.1f}" for end in limits)
            between = f'<span class="dim"> {low} to {high}</span>'
        text = f"{value:.2f} dB" if main.endswith("psnr") else f"{100 * value:.1f} %"
        name = called(main) + " of training videos" * (run.split != HELD_OUT)
        result = f'<p class="main"><b>{text}</b> {escaped(name)}{between}</p>'
    return (
        f'<article class="card run{number % 8}"><h2>{escaped(run.name)}</h2>{result}'
        f"<p>{escaped(' · '.join(filter(None, what)))}</p>"
        f'<p class="dim path">{escaped(str(run.workdir))}</p></article>'
    )


_MAIN = (  # the first of these that there is
    "top1",
    "mean_average_precision",
    "reconstruction_psnr",
    "attentive_probe_top1",
    "linear_probe_top1",
    "knn_top1",
    "retrieval_recall_at_1",
)


def _curves(drawn: Sequence[Any], more: int) -> Markup:
    """Returns the places of the charts, and what they are looked at with.

    Args:
      drawn: the charts.
      more: how many there are besides.
    """
    if not drawn:
        return section("curves", "Curves", missing("No step was written yet."))
    tools = (
        '<div class="tools"><label>smoothing <input type="range" id="smoothing" min="0" max="0.98" '
        'step="0.02" value="0"></label><label><input type="checkbox" id="logarithmic"> logarithmic'
        '</label><span id="legend"></span></div>'
    )
    places = "".join(
        f'<figure class="chart" data-chart="{i}"><figcaption>{escaped(chart["title"])}</figcaption>'
        "</figure>"
        for i, chart in enumerate(drawn)
    )
    note = "Lines are of training, dots of evaluations."
    if more:
        note += f" {more} curves more are in metrics.jsonl and results.jsonl."
    told = f'<p class="dim">{note}</p>'
    return section("curves", "Curves", tools, f'<div class="charts">{places}</div>', told)


def _heads(told: Told) -> list[tuple[str, Head]]:
    """Returns the heads of a run, with a title each where there are several."""
    heads = told.judged.heads if told.judged else []
    return [(f"<h4>Head {i}</h4>" if len(heads) > 1 else "", head) for i, head in enumerate(heads)]


def _matrix(told: Told) -> list[Any]:
    """Returns what the matrices of a run are drawn from."""
    return [classes.matrix_of(head) for _, head in _heads(told)]


def _confusion(told: Told, number: int) -> str:
    """Returns the confusion of a run."""
    parts = []
    for i, (title, head) in enumerate(_heads(told)):
        drawn = ""
        if classes.matrix_of(head):
            drawn = f'<figure class="matrix" data-run="{number}" data-head="{i}"></figure>'
        elif not head.many:
            drawn = missing(
                f"The matrix of {len(head.names):,} classes is not drawn, which is done up to "
                f"{classes.DRAWN}; the evaluation's confusion.csv has it."
            )
        folded = classes.worst_confusions(head)
        parts.append(f'{title}<div class="of">{drawn}<div>{folded}</div></div>')
    return "".join(parts)


def _classes(told: Told, number: int) -> str:
    """Returns the tables of classes of a run."""
    return "".join(title + classes.per_class(head) for title, head in _heads(told))


def _calibration(told: Told, number: int) -> str:
    """Returns the reliability diagrams of a run."""
    return "".join(title + classes.diagram(head) for title, head in _heads(told))


def _videos(told: Told, number: int) -> str:
    """Returns the films of a run."""
    if told.pictures is None:
        return ""
    parts = [missing(told.pictures.note) if told.pictures.note else ""]
    kind = "films"
    if told.pictures.attended:
        kind = "films pairs"
        parts.append(f'<p class="dim">{_ATTENDED}</p>')
    for title, videos in (("Best", told.pictures.best), ("Worst", told.pictures.worst)):
        if videos:
            films = "".join(map(_film, videos))
            parts.append(f'<h4>{title}</h4><div class="{kind}">{films}</div>')
    return "".join(parts)


def _film(video: Shown) -> str:
    """Returns a video with what was said of it."""
    film = f'<div class="nofilm">{escaped(video.why)}</div>'
    if video.film:
        uri = as_uri("video/mp4", video.film)
        film = f'<video src="{uri}" autoplay muted loop playsinline></video>'
    score = f" {100 * video.score:.1f} %" if math.isfinite(video.score) else ""
    true = ""
    if not video.right:
        true = f"<br>is {escaped(video.true or 'nothing')} {100 * video.of_true:.1f} %"
    kind = "good" if video.right else "bad"
    return (
        f'<figure class="film" title="{escaped(video.id)}">{film}<figcaption><b class="{kind}">'
        f"{escaped(video.said or 'nothing')}</b>{score}{true}"
        f'<br><span class="dim">{escaped(video.id)}</span></figcaption></figure>'
    )


def _filled(told: Told, number: int) -> str:
    """Returns the films that an evaluation of a run wrote."""
    parts = []
    for kind, panels in _PANELS.items():
        films = "".join(
            f'<figure class="film"><video src="{as_uri("video/mp4", data)}" autoplay muted loop '
            f"playsinline></video><figcaption>video {escaped(name.rpartition('_')[2])}"
            "</figcaption></figure>"
            for name, data in told.filled
            if name.startswith(kind)
        )
        if films:
            parts.append(f'<p class="dim">{panels}</p><div class="films wide">{films}</div>')
    return "".join(parts)
