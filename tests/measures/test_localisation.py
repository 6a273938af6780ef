"""Average precision of segments is what the definition says, by hand and by slower code."""

import numpy as np
import pytest

from vivit_jax.measures.localisation import (
    THRESHOLDS,
    Segments,
    average_precision,
    average_precisions,
    matches,
    temporal_iou,
)


def segments(*rows):
    """Returns segments of (video, label, begin, end, score) rows."""
    columns = np.array(rows, float).reshape(-1, 5)
    video, label = columns[:, :2].T.astype(int)
    return Segments(video, label, columns[:, 2:4], columns[:, 4])


def slow_average_precision(found, truth, label, threshold):
    """Returns the average precision, one step after the other as the words of the definition."""
    wanted = [(v, *span) for v, k, span in zip(*truth[:3], strict=True) if k == label]
    found = enumerate(zip(*found, strict=True))
    rows = [(-score, i, v, *span) for i, (v, k, span, score) in found if k == label]
    free, curve = set(range(len(wanted))), []
    right = 0
    for done, (_, _, video, begin, end) in enumerate(sorted(rows), 1):
        best, chosen = 0.0, None
        for i in sorted(free):
            if wanted[i][0] == video:
                shared = min(end, wanted[i][2]) - max(begin, wanted[i][1])
                share = shared / (max(end, wanted[i][2]) - min(begin, wanted[i][1]))
                if share > best:
                    best, chosen = share, i
        if chosen is not None and best >= threshold:
            free.remove(chosen)
            right += 1
        curve.append((right / len(wanted), right / done))
    area, before = 0.0, 0.0
    for i, (recall, _) in enumerate(curve):
        area += (recall - before) * max(precision for _, precision in curve[i:])
        before = recall
    return area


def test_iou_of_time_by_hand():
    some = np.array([[0, 10], [5, 6], [20, 30]], float)
    others = np.array([[0, 10], [5, 15], [30, 40]], float)
    expected = [[1, 5 / 15, 0], [0.1, 0.1, 0], [0, 0, 0]]
    np.testing.assert_allclose(temporal_iou(some, others), expected)


def test_each_true_segment_is_found_once_and_the_surest_has_it():
    truth = segments((0, 0, 0, 10, 0), (1, 0, 0, 10, 0))
    found = segments((0, 0, 0, 9, 0.6), (0, 0, 0, 10, 0.5), (1, 0, 0, 4, 0.9), (2, 0, 0, 10, 0.8))
    right = matches(found, truth, (0.3, 0.5))
    np.testing.assert_array_equal(right, [[1, 0, 1, 0], [0, 0, 1, 0]])
    # precisions 1, 1/2, 2/3, 1/2; interpolated 1, 2/3, 2/3, 1/2
    assert average_precision(right[0], 2) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(right[1], 2) == pytest.approx((1 / 3) / 2)


def test_a_second_choice_is_taken_where_the_best_is_gone():
    truth = segments((0, 0, 0, 10, 0), (0, 0, 5, 15, 0))
    found = segments((0, 0, 0, 10, 0.9), (0, 0, 1, 11, 0.8))
    np.testing.assert_array_equal(matches(found, truth, (0.3,)), [[1, 1]])
    np.testing.assert_array_equal(matches(found, truth, (0.5,)), [[1, 0]])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("levels", [3, 1000])
def test_average_precision_is_that_of_slower_code(seed, levels):
    rng = np.random.default_rng(seed)

    def drawn(count):
        begin = rng.uniform(0, 50, count)
        span = np.stack([begin, begin + rng.uniform(1, 15, count)], axis=1)
        score = np.floor(rng.random(count) * levels)
        return Segments(rng.integers(0, 4, count), rng.integers(0, 3, count), span, score)

    truth, found = drawn(40), drawn(120)
    near = rng.integers(0, 40, 60)
    found.span[:60] = truth.span[near] + rng.normal(0, 1, (60, 2))
    found.video[:60], found.label[:60] = truth.video[near], truth.label[near]
    found.span.sort(axis=1)
    made = average_precisions(found, truth, 4)
    assert np.isnan(made[:, 3]).all()
    for row, threshold in enumerate(THRESHOLDS):
        for label in range(3):
            expected = slow_average_precision(found, truth, label, threshold)
            assert made[row, label] == pytest.approx(expected, abs=1e-12)
    assert (np.diff(made[:, :3].mean(axis=1)) <= 1e-12).all()


def test_nothing_found_is_0_and_nothing_to_find_is_nan():
    nothing, one = segments(), segments((0, 1, 0, 10, 0))
    made = average_precisions(nothing, one, 2, (0.5,))
    np.testing.assert_array_equal(made, [[np.nan, 0]])
    assert np.isnan(average_precisions(one, nothing, 2)).all()
    assert average_precisions(one, one, 2, (1.0,))[0, 1] == 1
