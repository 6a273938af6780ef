"""Intervals are SciPy's, whatever the measure, and the same whenever they are asked for."""

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics

from vivit_jax.measures import bootstrap

N, K = 80, 4


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).gamma(1.5, size=N)


@pytest.mark.parametrize(("corrected", "method"), [(False, "percentile"), (True, "BCa")])
@pytest.mark.parametrize("level", [0.9, 0.95])
def test_the_interval_of_a_mean_is_scipys(values, corrected, method, level):
    found = bootstrap.interval(
        bootstrap.mean_of(values), N, level=level, draws=20_000, seed=5, corrected=corrected
    )
    theirs = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=20_000,
        confidence_level=level,
        method=method,
        rng=np.random.default_rng(7),
    ).confidence_interval
    assert found.value == pytest.approx(values.mean())
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_the_correction_moves_the_interval_of_a_skewed_mean_as_scipys_does(values):
    plain, moved = (
        bootstrap.interval(bootstrap.mean_of(values), N, draws=20_000, corrected=c)
        for c in (False, True)
    )
    assert moved.low > plain.low + 0.005
    assert moved.high > plain.high + 0.005


def test_the_same_seed_gives_the_same_interval_whatever_the_memory(values, monkeypatch):
    measure = bootstrap.mean_of(values)
    whole = bootstrap.interval(measure, N, seed=3)
    monkeypatch.setattr(bootstrap, "_CELLS", 7 * N)
    assert bootstrap.interval(measure, N, seed=3) == whole
    assert bootstrap.interval(measure, N, seed=4) != whole


def test_nineteen_in_twenty_intervals_hold_the_truth():
    rng = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        found = bootstrap.of_share(rng.random(150) < 0.7, seed=seed)
        inside += found.low <= 0.7 <= found.high
    assert 180 <= inside <= 199


def test_the_interval_of_a_share_is_that_of_its_mean():
    right = np.random.default_rng(1).random(300) < 0.8
    found = bootstrap.of_share(right)
    slow = bootstrap.interval(bootstrap.mean_of(right), len(right), draws=20_000)
    assert found == pytest.approx(slow, abs=0.004)


def test_where_all_or_none_are_right_the_far_limit_is_the_exact_one():
    for right in (np.ones(128, bool), np.zeros(128, bool)):
        found = bootstrap.of_share(right)
        exact = scipy.stats.binomtest(int(right.sum()), 128).proportion_ci(0.95, "exact")
        assert found.value == right[0]
        assert (found.low, found.high) == pytest.approx((exact.low, exact.high))


def test_means_over_classes_of_a_draw_are_scikit_learns():
    rng = np.random.default_rng(2)
    labels, predicted = rng.integers(0, K - 1, (2, N))
    measures = bootstrap.macro_of(*(np.eye(K, dtype=bool)[x] for x in (predicted, labels)))
    counts = rng.multinomial(N, np.full(N, 1 / N), size=3)
    for row in counts:
        theirs = sklearn.metrics.precision_recall_fscore_support(
            labels, predicted, labels=range(K), sample_weight=row, average="macro", zero_division=0
        )
        ours = [float(measures[name](row[None])[0]) for name in ("precision", "recall", "f1")]
        assert ours == pytest.approx(theirs[:3])


def test_without_videos_nothing_is_known():
    assert np.isnan(bootstrap.interval(bootstrap.mean_of(np.zeros(0)), 0)).all()
    assert np.isnan(bootstrap.of_share(np.zeros(0, bool))).all()


def test_a_measure_that_never_varies_has_an_interval_of_no_width():
    flat = bootstrap.mean_of(np.full(N, 0.25))
    assert bootstrap.interval(flat, N) == pytest.approx((0.25, 0.25, 0.25))
    assert np.isnan(bootstrap.interval(flat, N, corrected=True).low)
