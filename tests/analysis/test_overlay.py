"""Names of classes are drawn as they are, whatever letters they have."""

import numpy as np
import pytest

from vivit_jax.analysis import bars, overlay, timelines
from vivit_jax.analysis.segments import Segment
from vivit_jax.drawing import write_png

NAMES = ["$a$ or $b$", "_hidden", "caf\udce9", "plain"]  # the third is no UTF-8
DRAWN = ["$a$ or $b$", "_hidden", "caf�", "plain"]
SPANS = np.stack([np.arange(4.0), np.arange(4.0) + 1], axis=1)


@pytest.fixture
def figures(monkeypatch):
    """Returns the figures that are written."""
    drawn = []

    def write(file, figure):
        drawn.append(figure)
        write_png(file, figure)

    for module in (bars, overlay, timelines):
        monkeypatch.setattr(module, "write_png", write)
    return drawn


def check(texts):
    """Asserts that texts show the names, and no formula."""
    assert [text.get_text() for text in texts] == DRAWN
    assert not any(text.get_parse_math() for text in texts)


def test_in_the_legend_of_an_explanation(tmp_path, figures):
    slots, scores = np.full((4, 2), 0.5), np.full(4, 0.9)
    overlay.write_timeline(tmp_path / "a.png", SPANS, slots, scores, NAMES)
    check(figures[0].axes[0].get_legend().get_texts())
    assert (tmp_path / "a.png").stat().st_size > 0


def test_beside_a_timeline(tmp_path, figures):
    timelines.write_timeline(tmp_path / "a.png", [np.eye(4)], SPANS, [NAMES], "title")
    check(figures[0].axes[0].get_yticklabels())


def test_beside_events(tmp_path, figures):
    found = [Segment(float(i), i + 1.0, i, 0.5) for i in range(4)]
    bars.write_bars(tmp_path / "a.png", found, None, NAMES, 4.0, "title")
    check(figures[0].axes[0].get_yticklabels())
