"""Segments begin and end where a score crosses its threshold, finer than windows lie apart."""

import numpy as np
import pytest
import scipy.ndimage

from vivit_jax.analysis import segments, smoothing
from vivit_jax.analysis.segments import Curve, Rules, Segment
from vivit_jax.analysis.thresholds import CANDIDATES, Scored, learn


def windows(begin, end, seconds=20.0, window=1.0, hop=0.25):
    """Returns spans of windows, and the share of each in which something happens."""
    first = np.arange(0, seconds - window + 1e-9, hop)
    spans = np.stack([first, first + window], axis=1)
    shared = np.minimum(spans[:, 1], end) - np.maximum(spans[:, 0], begin)
    return spans, np.clip(shared, 0, None)[:, None] / window


@pytest.mark.parametrize("begin", [5.0, 5.07, 5.11, 5.2])
def test_boundaries_are_finer_than_the_hop(begin):
    spans, scores = windows(begin, 11.3)
    there = np.ones(len(spans), bool)
    (found,) = segments.segments(scores, spans, there, [0.5], Rules())
    assert found.begin == pytest.approx(begin, abs=1e-6)
    assert found.end == pytest.approx(11.3, abs=1e-6)
    assert 0.7 < found.score < 1


def test_what_lasts_from_the_first_frame_to_the_last_is_found_whole():
    spans, scores = windows(0, 20)
    (found,) = segments.segments(scores, spans, np.ones(len(spans), bool), [0.5], Rules())
    assert found == Segment(0, 20, 0, 1.0)


def test_nothing_is_found_across_what_was_not_read():
    spans, scores = windows(3, 15)
    there = (spans[:, 0] < 7) | (spans[:, 0] >= 9)
    scores[~there] = np.nan
    found = segments.segments(scores, spans, there, [0.5], Rules())
    assert [one[:2] for one in found] == [(3, 7.75), (9, 15)]


def test_near_segments_are_one_and_short_ones_are_none():
    cut = np.array([[0, 1], [1.2, 2], [3, 3.1], [5, 9]])
    np.testing.assert_allclose(segments.merged(cut, 0.5), [[0, 2], [3, 3.1], [5, 9]])
    np.testing.assert_allclose(segments.merged(cut, 0.0), cut)
    curve = Curve(np.array([0, 4, 4.1, 4.2, 10]), np.array([0, 0, 1, 0, 0.0]))
    assert segments.of_curve(curve, 0, 0.5, Rules(shortest=0.5)) == []
    assert len(segments.of_curve(curve, 0, 0.5, Rules())) == 1


def test_of_what_overlaps_the_best_is_kept_and_the_rest_stays():
    some = [Segment(0, 10, 0, 0.5), Segment(1, 9, 0, 0.9), Segment(12, 13, 0, 0.1)]
    assert segments.suppressed(some, 0.0) == [some[1], some[2]]
    assert segments.suppressed(some, 0.9) == [some[1], some[0], some[2]]


def test_means_and_crossings_of_a_curve_are_those_of_its_straight_parts():
    curve = Curve(np.array([0.0, 1, 3, 4]), np.array([0, 1, 0, 0.0]))
    np.testing.assert_allclose(curve.above(0.25), [[0.25, 2.5]])
    fine = np.linspace(0.5, 3.5, 100_001)
    expected = np.interp(fine, curve.times, curve.values).mean()
    assert curve.mean(0.5, 3.5) == pytest.approx(expected, abs=1e-4)
    assert curve.mean(2, 2) == 0


def test_naive_segments_are_windows_that_do_not_overlap():
    spans, scores = windows(0, 5, seconds=6)
    rows = np.concatenate([scores, 1 - scores], axis=1)
    found = segments.of_windows(rows, spans, np.ones(len(spans), bool))
    assert [one[:3] for one in found] == [(i, i + 1, int(i >= 5)) for i in range(6)]


@pytest.mark.parametrize("name", smoothing.FILTERS)
def test_filters_are_scipys_inside_and_of_what_is_there_at_the_ends(name):
    scores = np.random.default_rng(0).random((50, 3))
    there = np.ones(50, bool)
    width = 2.0 if name == "gaussian" else 5
    made = smoothing.smooth(scores, there, name, width)
    peer = {
        "gaussian": lambda x: scipy.ndimage.gaussian_filter1d(x, 2.0, axis=0, truncate=3.0),
        "mean": lambda x: scipy.ndimage.uniform_filter1d(x, 5, axis=0),
        "median": lambda x: scipy.ndimage.median_filter(x, (5, 1)),
        "none": lambda x: x,
    }[name]
    np.testing.assert_allclose(made[6:-6], peer(scores)[6:-6], atol=1e-12)
    constant = smoothing.smooth(np.ones((9, 1)), np.arange(9) != 4, name, width)
    np.testing.assert_allclose(constant[:, 0], [1, 1, 1, 1, np.nan, 1, 1, 1, 1])


def test_a_threshold_is_learnt_that_parts_what_happens_from_what_does_not():
    spans, happens = windows(5, 11)
    there = np.ones(len(spans), bool)
    scores = np.concatenate([0.3 + 0.5 * happens, np.full_like(happens, 0.1)], axis=1)
    (label, learnt), *others = learn(
        [Scored(scores, spans, there, Rules())], [[(5.0, 11.0, 0)]]
    ).items()
    assert (label, others, learnt.segments) == (0, [], 1)
    assert learnt.f1 == 1
    assert learnt.threshold in CANDIDATES
    assert 0.3 < learnt.threshold < 0.8
