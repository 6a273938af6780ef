"""What a run knows of each class: what it takes it for, how well it finds it, how sure it is."""

from typing import Any

import numpy as np

from vivit_jax.measures import calibration, recognition
from vivit_jax.page.judged import Head
from vivit_jax.page.tables import Markup, Number, missing, share, table
from vivit_jax.text import shown

DRAWN = 100  # most classes of a confusion matrix that is drawn
_WORST = 200  # rows of the table of confusions
_SIDE, _LEFT, _TOP, _BELOW = 260, 58, 8, 40  # of a diagram
_HISTOGRAM = 46


def matrix_of(head: Head) -> dict[str, Any] | None:
    """Returns what the script draws a confusion matrix from; None where there is none to draw."""
    if head.many or not 0 < len(head.names) <= DRAWN:
        return None
    counts = head.confusion
    cells = [[int(i), int(j), int(counts[i, j])] for i, j in np.argwhere(counts)]
    return {"names": [shown(name) for name in head.names], "cells": cells}


def worst_confusions(head: Head) -> Markup:
    """Returns the table of which classes are taken for which, the most videos first."""
    if head.many:
        return missing("A video has any number of labels, so none is taken for another.")
    counts = head.confusion
    videos = counts.sum(axis=1)
    np.fill_diagonal(counts, 0)
    pairs = [(int(i), int(j)) for i, j in np.argwhere(counts)]
    if not pairs:
        return missing("No video was taken for another class.")
    pairs.sort(key=lambda pair: (-counts[pair], pair))
    rows = [
        (head.names[i], head.names[j], int(counts[i, j]), share(counts[i, j] / videos[i]))
        for i, j in pairs[:_WORST]
    ]
    more = len(pairs) - _WORST
    note = Markup(f'<p class="dim">and {more:,} pairs more</p>') if more > 0 else ""
    columns = ("true", "predicted", "videos", "of the class")
    return Markup(table(columns, rows, "sortable long") + note)


def per_class(head: Head) -> Markup:
    """Returns the table of classes: precision, recall, F1 and average precision of each."""
    each = recognition.per_class_of_many(head.predicted, head.targets)
    precisions = recognition.average_precision(head.scores, head.targets)
    rows = [
        (name, int(videos), _bar(f1), *map(share, values))
        for name, videos, f1, *values in zip(
            head.names, each.support, each.f1, each.precision, each.recall, precisions, strict=True
        )
    ]
    columns = ("class", "videos", "F1", "precision", "recall", "average precision")
    return table(columns, rows, "sortable long")


def diagram(head: Head) -> Markup:
    """Returns the reliability diagram, before and after the temperature, and both errors."""
    if head.many:
        return missing("A video has any number of labels, so there is no one confidence of it.")
    if not len(head.scores) or np.isnan(head.scores).any():
        return missing("Scores that are no numbers have no calibration.")
    labels = head.labels
    scaled = calibration.cross_scaled(head.scores, labels)
    before = calibration.reliability(head.scores, labels)
    drawn, told = [_bars(before)], ""
    if not np.isnan(scaled).any():
        after = calibration.reliability(scaled, labels)
        drawn.append(_points(after))
        fitted = calibration.fit_temperature(head.scores, labels)
        told = (
            f", and {after.error:.3f} at a temperature that suits the other half of the videos "
            f"(dots; {fitted:.2f} suits all of them)"
        )
    height = _TOP + _SIDE + _BELOW + _HISTOGRAM
    return Markup(
        f'<figure class="reliability"><svg viewBox="0 0 {_SIDE + _LEFT + 24} {height}" role="img">'
        f"{_axes()}{''.join(drawn)}{_histogram(before)}</svg><figcaption>Expected calibration "
        f"error {before.error:.3f} (bars){told}. Below the line a model is surer than it is right."
        "</figcaption></figure>"
    )


def _bar(value: float) -> Number | None:
    """Returns a share with a bar that shows it."""
    if not np.isfinite(value):
        return None
    width = 60 * float(value)
    return Number(
        value,
        f'{100 * value:.1f} %<svg class="bar" width="60" height="8"><rect width="60" height="8" '
        f'class="rail"/><rect width="{width:.1f}" height="8" class="fill"/></svg>',
    )


def _x(value: float) -> float:
    return round(_LEFT + _SIDE * value, 1)


def _y(value: float) -> float:
    return round(_TOP + _SIDE * (1 - value), 1)


def _axes() -> str:
    """Returns the frame, the grid and the line on which a calibrated model lies."""
    ticks = "".join(
        f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{_y(v)}" y2="{_y(v)}"/>'
        f'<text x="{_LEFT - 6}" y="{_y(v) + 4}" text-anchor="end">{100 * v:.0f} %</text>'
        f'<text x="{_x(v)}" y="{_y(0) + 15}" text-anchor="middle">{100 * v:.0f} %</text>'
        for v in (0, 0.25, 0.5, 0.75, 1)
    )
    return (
        f'{ticks}<line class="ideal" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}"/>'
        f'<text x="{_x(0.5)}" y="{_y(0) + 31}" text-anchor="middle">confidence</text>'
        f'<text transform="translate(10 {_y(0.5)}) rotate(-90)" text-anchor="middle">accuracy'
        "</text>"
    )


def _bars(found: calibration.Reliability) -> str:
    """Returns a bar for each bin that has videos."""
    return "".join(
        f'<rect class="bin" x="{_x(low) + 1:.1f}" width="{_SIDE * (high - low) - 2:.1f}" '
        f'y="{_y(accuracy)}" height="{max(1.0, _SIDE * accuracy):.1f}"><title>{videos:,} videos '
        f"of {low:.2f} to {high:.2f}: {100 * accuracy:.1f} % right, mean confidence "
        f"{100 * confidence:.1f} %</title></rect>"
        for low, high, videos, confidence, accuracy in _bins(found)
    )


def _points(found: calibration.Reliability) -> str:
    """Returns a dot for each bin that has videos."""
    return "".join(
        f'<circle class="after" cx="{_x(confidence)}" cy="{_y(accuracy)}" r="4"><title>at the '
        f"temperature, {videos:,} videos: {100 * accuracy:.1f} % right, mean confidence "
        f"{100 * confidence:.1f} %</title></circle>"
        for _, _, videos, confidence, accuracy in _bins(found)
    )


def _histogram(found: calibration.Reliability) -> str:
    """Returns how many videos there are of each confidence, below the diagram."""
    base, most = _TOP + _SIDE + _BELOW + _HISTOGRAM, max(1, int(found.videos.max()))
    bars = "".join(
        f'<rect class="count" x="{_x(low) + 1:.1f}" width="{_SIDE * (high - low) - 2:.1f}" '
        f'y="{base - tall:.1f}" height="{tall:.1f}"><title>{videos:,} videos</title></rect>'
        for low, high, videos, *_ in _bins(found)
        for tall in (max(1.0, (_HISTOGRAM - 4) * videos / most),)
    )
    return f'{bars}<text x="{_LEFT - 6}" y="{base - 4}" text-anchor="end">videos</text>'


def _bins(found: calibration.Reliability) -> list[tuple[float, ...]]:
    """Returns edges, videos, confidence and accuracy of the bins that have videos."""
    edges = zip(found.edges[:-1], found.edges[1:], strict=True)
    return [
        (float(low), float(high), int(videos), float(confidence), float(accuracy))
        for (low, high), videos, confidence, accuracy in zip(
            edges, found.videos, found.confidence, found.accuracy, strict=True
        )
        if videos
    ]
