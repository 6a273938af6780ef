"""What people look at after a run: tables for a spreadsheet, pictures for the eye.

Legend: K classes.
"""

import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int

from vivit_jax.files import replacing, write_csv
from vivit_jax.measures.recognition import by_head
from vivit_jax.text import shown

if TYPE_CHECKING:  # matplotlib takes long to import, and training needs none of it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COUNTED = 20  # most classes whose cells show their counts
_NAMED = 60  # most classes whose names stand at the axes
_LETTERS = 32  # of a name; longer ones are cut
_DOTS = 120  # per inch
_RESULTS = {  # shares from 0 to 1
    "top1": "#2f855a",
    "top5": "#999999",
    "mean_average_precision": "#805ad5",
    "linear_probe_top1": "#2f855a",
    "attentive_probe_top1": "#805ad5",
    "knn_top1": "#b7791f",
    "retrieval_recall_at_1": "#999999",
}
_INK, _BLUE, _ORANGE = "#333333", "#2b6cb0", "#dd6b20"


def write_confusion(
    folder: pathlib.Path, matrix: Int[np.ndarray, "K K"], names: Sequence[str]
) -> None:
    """Writes confusion.csv and confusion.png.

    Args:
      folder: made where it is missing.
      matrix: number of videos; rows are the true labels.
      names: of the classes.
    """
    rows = [[name, *row] for name, row in zip(names, matrix.tolist(), strict=True)]
    write_csv(folder / "confusion.csv", [["true / predicted", *names], *rows])
    write_png(folder / "confusion.png", _draw_confusion(matrix, names))


def write_classes(
    folder: pathlib.Path,
    names: Sequence[str],
    precision: Float[np.ndarray, " K"],
    recall: Float[np.ndarray, " K"],
    f1: Float[np.ndarray, " K"],
    support: Int[np.ndarray, " K"],
    average_precision: Float[np.ndarray, " K"] | None = None,
) -> None:
    """Writes classes.csv, one row a class.

    Args:
      folder: made where it is missing.
      names: of the classes.
      precision: 0 to 1, as the others.
      recall: likewise.
      f1: likewise.
      support: number of videos of the class.
      average_precision: None leaves the column out.
    """
    shares = {"precision": precision, "recall": recall, "f1": f1}
    if average_precision is not None:
        shares["average_precision"] = average_precision
    columns = [[f"{share:.4f}" for share in column] for column in shares.values()]
    rows = zip(names, support.tolist(), *columns, strict=True)
    write_csv(folder / "classes.csv", [["label", "videos", *shares], *rows])


def write_scores(
    folder: pathlib.Path,
    ids: Sequence[str],
    label_maps: Sequence[Sequence[str]],
    scores: Float[np.ndarray, "N K"],
    labels: Int[np.ndarray, "N heads"] | Int[np.ndarray, "N K"],
    multi_label: bool,
) -> None:
    """Writes scores.npz for programs (id, label, score) and videos.csv for people.

    Args:
      folder: made where it is missing.
      ids: of the videos.
      label_maps: names of the classes, a map for each head.
      scores: probabilities, head after head.
      labels: an index for each head, or multi-hot.
      multi_label: whether it is the latter.
    """
    with replacing(folder / "scores.npz") as new, new.open("wb") as out:
        np.savez_compressed(out, id=np.asarray(ids, str), label=labels, score=scores)
    heads = by_head(scores, label_maps)
    tags = [f" {i}" if len(heads) > 1 else "" for i in range(len(heads))]
    header = [f"{column}{tag}" for tag in tags for column in ("label", "predicted", "score")]
    rows = []
    for i, identity in enumerate(ids):
        row: list[str] = [identity]
        for head, (names, of_head) in enumerate(zip(label_maps, heads, strict=True)):
            own = np.flatnonzero(labels[i]) if multi_label else labels[i, head : head + 1]
            best = int(of_head[i].argmax())
            row += ["|".join(names[int(k)] for k in own), names[best], f"{of_head[i, best]:.4f}"]
        rows.append(row)
    write_csv(folder / "videos.csv", [["video", *header], *rows])


def write_curves(folder: pathlib.Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Writes curves.png: loss and evaluation results by step, and the learning rate by step.

    Args:
      folder: made where it is missing.
      records: the lines of metrics.jsonl and results.jsonl, each with its "step". Of values of
        the same step the last counts. A line with a "loss" is of training, so its top1 is no
        evaluation's and is not drawn.
    """
    from matplotlib.figure import Figure

    records = list(records)
    figure = Figure(figsize=(7, 6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    _draw_curve(above, records, "loss", _BLUE)
    _draw_curve(below, records, "learning_rate", _ORANGE)
    below.set_ylabel("learning rate")
    below.set_xlabel("step")
    below.ticklabel_format(axis="y", scilimits=(-3, 4))
    judged = [record for record in records if "loss" not in record]
    results = {key: series(judged, key) for key in _RESULTS}
    if any(steps for steps, _ in results.values()):
        right = above.twinx()
        right.spines[["top", "left"]].set_visible(False)
        right.set_ylim(0, 1.02)
        right.yaxis.set_major_formatter(lambda share, _: f"{share:.0%}")
        for key, (steps, values) in results.items():
            if steps:
                label = f"{key.replace('_', ' ')}"
                right.plot(steps, values, "o", color=_RESULTS[key], markersize=5, label=label)
        figure.legend(loc="outside upper right", ncols=4, frameon=False)
    write_png(folder / "curves.png", figure)


def _draw_curve(axes: "Axes", records: list[Mapping[str, Any]], key: str, colour: str) -> None:
    """Draws one line by step, with points where they are few."""
    steps, values = series(records, key)
    axes.plot(steps, values, color=colour, linewidth=1.5, marker="." if len(steps) < 30 else "")
    axes.set_ylabel(key, color=colour)
    axes.grid(color="#eeeeee")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def series(records: Iterable[Mapping[str, Any]], key: str) -> tuple[list[int], list[float]]:
    """Returns the steps that have a value, in order, and their last values."""
    values = {record["step"]: record[key] for record in records if key in record}
    steps = sorted(values)
    return steps, [_finite(values[step]) for step in steps]


def _finite(value: float | None) -> float:
    """Returns a value that leaves a gap in a curve where it is no number."""
    return value if value is not None and math.isfinite(value) else math.nan


def drawable(name: str) -> str:
    """Returns a class's name as it is drawn: of few letters, and with ? where it is no text."""
    text = shown(name)
    return text if len(text) <= _LETTERS else text[: _LETTERS - 1] + "…"


def name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Writes names beside the rows 0, 1 ... of a picture, as they are: $ begins no formula."""
    short = [drawable(name) for name in names]
    axes.set_yticks(range(len(names)), short, parse_math=False, fontsize=9)


def name_colours(axes: "Axes", colours: Mapping[str, Any]) -> None:
    """Writes a legend to the right of a picture: likewise, also where a name begins with _."""
    from matplotlib.patches import Patch

    patches = [Patch(color=colour, label="any") for colour in colours.values()]
    legend = axes.legend(
        handles=patches, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False
    )
    for text, name in zip(legend.get_texts(), colours, strict=True):
        text.set_parse_math(False)
        text.set_text(drawable(name))


def _draw_confusion(matrix: Int[np.ndarray, "K K"], names: Sequence[str]) -> "Figure":
    """Returns the matrix in colours, a larger figure for more classes, within bounds."""
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    count, total = len(names), int(matrix.sum())
    short = [drawable(name) for name in names]
    named = count <= _NAMED
    side = max(3.0, count * (0.5 if count <= _COUNTED else 0.2)) if named else 10.0  # inches
    figure = Figure(figsize=(side, side))  # of the cells; saving adds what is around them
    axes = figure.add_axes((0, 0, 1, 1))
    sums = matrix.sum(axis=1, keepdims=True)
    shares = np.ma.masked_where(np.broadcast_to(sums == 0, matrix.shape), matrix / sums.clip(1))
    norm = PowerNorm(0.5, 0, 1)  # the root, for rare confusions to be seen
    image = axes.imshow(shares, cmap="Blues", norm=norm)
    axes.set_facecolor("#eeeeee")  # rows without a video
    axes.set_xlabel("predicted label")
    axes.set_ylabel("true label")
    accuracy = f"accuracy {int(np.trace(matrix)) / total:.1%}, " if total else ""
    axes.set_title(f"{accuracy}{total:,} video{'s' * (total != 1)}", color=_INK)
    beside = axes.inset_axes((1 + 0.15 / side, 0, 0.18 / side, 1))
    bar = figure.colorbar(image, cax=beside, ticks=[0, 0.05, 0.2, 0.5, 1], format="{x:.0%}")
    bar.set_label("share of the videos of a true label")
    beside.spines[:].set_visible(False)
    axes.spines[:].set_visible(False)
    if named:
        size = 9 if count <= _COUNTED else 8
        axes.set_xticks(range(count), short, rotation=90, fontsize=size, parse_math=False)
        axes.set_yticks(range(count), short, fontsize=size, parse_math=False)
        axes.set_xticks(np.arange(count + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(count + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="both", length=0)
    if count <= _COUNTED:
        for (i, j), videos in np.ndenumerate(matrix):
            dark = sums[i, 0] and norm(videos / sums[i, 0]) > 0.6
            colour = "white" if dark else _INK if videos else "#bbbbbb"
            axes.text(j, i, str(videos), ha="center", va="center", color=colour, fontsize=9)
    return figure


def write_png(file: pathlib.Path, figure: "Figure") -> None:
    """Writes a picture; a figure outside pyplot needs no display and no closing."""
    with replacing(file) as new:
        figure.savefig(new, format="png", dpi=_DOTS, bbox_inches="tight", pad_inches=0.15)
