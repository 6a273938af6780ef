"""Calibration errors are those of the definition, and temperatures the likeliest there are."""

import numpy as np
import pytest
import scipy.optimize
import scipy.special
import sklearn.calibration
import sklearn.metrics

from vivit_jax.measures import calibration

N, K = 500, 6


def judged(heat=1.0, seed=0, videos=N):
    """Returns scores and labels that were drawn by them; the scores' logits then times `heat`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(videos, K))
    shares = scipy.special.softmax(logits, axis=1)
    labels = np.array([rng.choice(K, p=share) for share in shares])
    return scipy.special.softmax(heat * logits, axis=1).astype(np.float32), labels


def likelihood(scores, labels, temperature):
    shares = scipy.special.softmax(np.log(scores.astype(float)) / temperature, axis=1)
    return sklearn.metrics.log_loss(labels, shares, labels=range(K))


@pytest.mark.parametrize("bins", [1, 10, 15])
def test_the_error_is_the_definitions_bin_by_bin(bins):
    scores, labels = judged(2.0)
    error = 0.0
    confidence, right = scores.max(axis=1), scores.argmax(axis=1) == labels
    for low in np.arange(bins) / bins:
        inside = (confidence > low) & (confidence <= low + 1 / bins)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration.expected_error(scores, labels, bins) == pytest.approx(error, abs=1e-6)


def test_the_diagram_is_scikit_learns_curve():
    scores, labels = judged(1.7)
    found = calibration.reliability(scores, labels, 10)
    right = scores.argmax(axis=1) == labels
    accuracy, confidence = sklearn.calibration.calibration_curve(
        right, scores.max(axis=1), n_bins=10
    )
    there = found.videos > 0
    np.testing.assert_allclose(found.accuracy[there], accuracy, atol=1e-6)
    np.testing.assert_allclose(found.confidence[there], confidence, atol=1e-6)
    assert found.videos.sum() == N
    assert np.isnan(found.accuracy[~there]).all()


def test_scores_that_are_all_right_and_sure_have_no_error():
    assert calibration.expected_error(np.eye(K), np.arange(K)) == 0
    assert calibration.expected_error(np.eye(K), (np.arange(K) + 1) % K) == 1


@pytest.mark.parametrize("heat", [0.3, 1.0, 2.5, 6.0])
def test_the_temperature_is_the_one_that_a_search_of_scipys_finds(heat):
    scores, labels = judged(heat, seed=3)
    found = calibration.fit_temperature(scores, labels)
    grid = np.geomspace(calibration.COLDEST, calibration.HOTTEST, 400)
    rough = min(grid, key=lambda t: likelihood(scores, labels, t))
    best = scipy.optimize.minimize_scalar(
        lambda t: likelihood(scores, labels, t), bounds=(rough / 1.1, rough * 1.1), method="bounded"
    )
    assert found == pytest.approx(best.x, rel=1e-3)
    assert likelihood(scores, labels, found) <= best.fun + 1e-9


def test_a_temperature_that_was_put_in_is_found_and_mends_what_it_spoilt():
    scores, labels = judged(3.0, videos=4000)
    assert calibration.fit_temperature(scores, labels) == pytest.approx(3.0, rel=0.1)
    spoilt = calibration.expected_error(scores, labels)
    mended = calibration.expected_error(calibration.cross_scaled(scores, labels), labels)
    assert spoilt > 0.1
    assert mended < 0.03


def test_scaling_keeps_the_order_of_classes_and_makes_shares():
    scores, _ = judged()
    for temperature in (0.1, 1.0, 8.0):
        found = calibration.scaled(scores, temperature)
        np.testing.assert_allclose(found.sum(axis=1), 1)
        np.testing.assert_array_equal(found.argmax(axis=1), scores.argmax(axis=1))
    np.testing.assert_allclose(calibration.scaled(scores, 1.0), scores, atol=1e-6)


def test_no_video_has_a_part_in_the_temperature_that_it_is_judged_at():
    scores, labels = judged(2.0)
    before = calibration.cross_scaled(scores, labels)
    other = labels.copy()
    other[::2] = (other[::2] + 1) % K  # of the first fold
    after = calibration.cross_scaled(scores, other)
    np.testing.assert_array_equal(after[::2], before[::2])
    assert np.abs(after[1::2] - before[1::2]).max() > 0.01


def test_where_all_is_right_or_wrong_the_temperature_stays_in_its_bounds():
    sure = np.full((20, K), 0.02)
    sure[:, 0] = 0.9
    assert calibration.COLDEST <= calibration.fit_temperature(sure, np.zeros(20, int)) < 0.1
    assert calibration.fit_temperature(sure, np.ones(20, int)) == pytest.approx(
        calibration.HOTTEST, rel=1e-3
    )
    equal = np.full((20, K), 1 / K)
    assert np.isfinite(calibration.fit_temperature(equal, np.zeros(20, int)))


def test_probabilities_of_0_and_1_are_scaled_without_a_warning():
    with np.errstate(all="raise"):
        found = calibration.cross_scaled(np.eye(K)[[0, 1, 2, 3]], np.array([0, 1, 2, 0]))
    assert np.isfinite(found).all()


def test_of_a_diverged_model_or_without_videos_nothing_is_known():
    nothing, nan = np.zeros((0, K)), np.full((4, K), np.nan)
    for scores, labels in ((nothing, np.zeros(0, int)), (nan, np.zeros(4, int))):
        assert np.isnan(calibration.expected_error(scores, labels))
        assert np.isnan(calibration.fit_temperature(scores, labels))
        assert np.isnan(calibration.cross_scaled(scores, labels)).all()
    assert calibration.reliability(nan, np.zeros(4, int)).videos.sum() == 0
