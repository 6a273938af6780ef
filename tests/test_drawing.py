"""Tables read back as they were written; pictures exist and have a sane size."""

import csv
import subprocess
import sys

import matplotlib.image
import numpy as np
import pytest

from vivit_jax import drawing
from vivit_jax.measures import recognition as scores

NAMES = ["walk, left", 'say "hi"', "поворот", "躺下", "cost $5_$x", "two\nlines", "Ω", "x" * 300]
DRAWN = ["walk, left", 'say "hi"', "поворот", "$a$", "cost $5_$x", "two\nlines", "Ω", "x" * 300]


def matrix(classes: int, videos: int = 500) -> np.ndarray:
    """Returns a confusion that has no video of the last class."""
    rng = np.random.default_rng(0)
    labels, predicted = rng.integers(0, max(1, classes - 1), (2, videos))
    return scores.confusion(predicted, labels, classes)


def table(file) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))


def size(file) -> tuple[int, int]:
    """Returns rows and columns of a picture that shows something."""
    pixels = matplotlib.image.imread(file)
    assert np.ptp(pixels[..., :3]) > 0.5
    return pixels.shape[:2]


@pytest.mark.filterwarnings("ignore:Glyph:UserWarning")  # no font here has Chinese
def test_confusion_reads_back_with_names_of_any_letters(tmp_path):
    given = matrix(8)
    drawing.write_confusion(tmp_path / "new", given, NAMES)
    header, *rows = table(tmp_path / "new/confusion.csv")
    assert header[1:] == NAMES
    assert [row[0] for row in rows] == NAMES
    np.testing.assert_array_equal(np.array([row[1:] for row in rows], int), given)


def test_classes_read_back_with_four_digits(tmp_path):
    each = scores.per_class(matrix(8))
    drawing.write_classes(tmp_path, NAMES, *each)
    header, *rows = table(tmp_path / "classes.csv")
    assert header == ["label", "videos", "precision", "recall", "f1"]
    assert [row[0] for row in rows] == NAMES
    numbers = np.array([row[1:] for row in rows], float)
    np.testing.assert_array_equal(numbers[:, 0], each.support)
    np.testing.assert_allclose(numbers[:, 1:], np.transpose(each[:3]), atol=5e-5)
    assert all(len(share) == len("0.1234") for row in rows for share in row[2:])


def test_classes_have_average_precision_where_it_is_given(tmp_path):
    precisions = np.array([0.25, np.nan])
    drawing.write_classes(tmp_path, ["a", "b"], *scores.per_class(np.eye(2, dtype=int)), precisions)
    header, *rows = table(tmp_path / "classes.csv")
    assert header[-1] == "average_precision"
    assert [row[-1] for row in rows] == ["0.2500", "nan"]


def test_names_that_do_not_fit_the_classes_are_refused(tmp_path):
    with pytest.raises(ValueError, match="zip"):
        drawing.write_confusion(tmp_path, matrix(3), ["a", "b"])
    with pytest.raises(ValueError, match="zip"):
        drawing.write_classes(tmp_path, ["a", "b"], *scores.per_class(matrix(3)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("classes", [1, 2, 20, 60, 61, 400])
def test_confusion_grows_with_the_classes_within_bounds(tmp_path, classes):
    names = [f"a class of number {i}" for i in range(classes)]
    drawing.write_confusion(tmp_path, matrix(classes), names)
    assert all(400 < pixels < 2400 for pixels in size(tmp_path / "confusion.png"))


def test_names_are_drawn_as_they_are_and_never_read_as_formulas(tmp_path):
    drawing.write_confusion(tmp_path, matrix(8), DRAWN)
    assert all(400 < pixels < 1500 for pixels in size(tmp_path / "confusion.png"))


def test_confusion_of_no_videos_is_drawn(tmp_path):
    drawing.write_confusion(tmp_path, np.zeros((2, 2), int), ["a", "b"])
    assert size(tmp_path / "confusion.png")


RECORDS = [
    {"step": 10, "loss": 2.0, "learning_rate": 1e-3, "top1": 0.5, "clips_per_second": 3.0},
    {"step": 20, "loss": None, "learning_rate": 1e-3},
    {"step": 30, "loss": float("nan"), "learning_rate": 1e-3},
    {"step": 40, "loss": 1.0, "learning_rate": 0.0},
    {"step": 40, "split": "eval", "top1": 0.25, "mean_average_precision": None},
]


@pytest.mark.parametrize("records", [RECORDS, RECORDS[:1], RECORDS[-1:], []])
def test_curves_are_drawn_from_any_records(tmp_path, records):
    drawing.write_curves(tmp_path, records)
    assert all(500 < pixels < 1200 for pixels in size(tmp_path / "curves.png"))


def test_curves_show_results_only_of_evaluations(tmp_path):
    drawn = []
    for records in (RECORDS[:4], [{**r, "top1": 0.9} for r in RECORDS[:4]], RECORDS):
        drawing.write_curves(tmp_path, records)
        drawn.append((tmp_path / "curves.png").read_bytes())
    assert drawn[0] == drawn[1] != drawn[2]


def test_of_the_same_step_the_last_value_counts_wherever_it_stands(tmp_path):
    drawn = []
    for records in (RECORDS, [{"step": 40, "loss": 9.0}, *RECORDS[::-1][1:], RECORDS[-1]]):
        drawing.write_curves(tmp_path, records)
        drawn.append((tmp_path / "curves.png").read_bytes())
    assert drawn[0] == drawn[1]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    drawing.write_classes(tmp_path, ["a"], *scores.per_class(np.ones((1, 1), int)))
    old = (tmp_path / "classes.csv").read_bytes()
    with pytest.raises(UnicodeEncodeError):
        drawing.write_classes(tmp_path, ["\ud800"], *scores.per_class(np.ones((1, 1), int)))
    assert [file.name for file in tmp_path.iterdir()] == ["classes.csv"]
    assert (tmp_path / "classes.csv").read_bytes() == old


def test_matplotlib_is_imported_only_to_draw_and_never_its_pyplot(tmp_path):
    program = """
import pathlib, sys
from vivit_jax import drawing
assert "matplotlib" not in sys.modules
drawing.write_curves(pathlib.Path(sys.argv[1]), [])
assert "matplotlib" in sys.modules and "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True)
