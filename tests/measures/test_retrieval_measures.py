"""What a search is worth agrees with scikit-learn and with what a hand counts."""

import numpy as np
import pytest
import sklearn.metrics

from vivit_jax.measures import retrieval

Q, N = 40, 25


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_a_hand_counts_the_same():
    scores = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.9, 0.5, 0.4], [0.2, 0.2, 0.2, 0.1]])
    relevant = np.array([[1, 0, 1, 0], [1, 0, 0, 1], [0, 0, 1, 0]], bool)
    itself = np.zeros((3, 4), bool)
    itself[0, 0] = itself[1, 1] = True  # whose score is the highest
    found = retrieval.ranked(scores, relevant, itself)
    np.testing.assert_array_equal(found.hits, [[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(found.candidates, [3, 3, 4])
    np.testing.assert_array_equal(retrieval.recall_at(found, 1), [0, 0, 0])
    np.testing.assert_array_equal(retrieval.recall_at(found, 2), [1, 1, 0])
    np.testing.assert_allclose(retrieval.precision_at(found, 2), [1 / 2, 1 / 2, 0])
    np.testing.assert_allclose(retrieval.precision_at(found, 9), [1 / 3, 2 / 3, 1 / 4])
    precision = retrieval.average_precision(scores, relevant, itself)
    np.testing.assert_allclose(precision, [1 / 2, (1 / 2 + 2 / 3) / 2, 1 / 3])


@pytest.mark.parametrize("levels", [3, 10**6])
def test_average_precision_is_scikit_learns_without_what_is_left_out(rng, levels):
    scores = rng.integers(0, levels, (Q, N)).astype(float)
    relevant, left_out = rng.random((2, Q, N)) < 0.3
    relevant[:, 0], left_out[:, 0] = True, False
    found = retrieval.average_precision(scores, relevant, left_out)
    expected = [
        sklearn.metrics.average_precision_score(hit[~out], score[~out])
        for score, hit, out in zip(scores, relevant, left_out, strict=True)
    ]
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("k", [1, 5, N, 2 * N])
def test_recall_and_precision_are_what_sorting_each_query_gives(rng, k):
    scores = rng.random((Q, N))
    relevant, left_out = rng.random((2, Q, N)) < 0.2
    found = retrieval.ranked(scores, relevant, left_out)
    for i in range(Q):
        order = [j for j in np.argsort(-scores[i]) if not left_out[i, j]][:k]
        hits = relevant[i, order]
        assert retrieval.recall_at(found, k)[i] == hits.any()
        assert retrieval.precision_at(found, k)[i] == pytest.approx(hits.mean())


def test_nothing_relevant_is_a_miss_and_has_no_average_precision(rng):
    none, left_out = np.zeros((1, N), bool), np.zeros((1, N), bool)
    scores = rng.random((1, N))
    assert not retrieval.recall_at(retrieval.ranked(scores, none, left_out), N).any()
    assert np.isnan(retrieval.average_precision(scores, none, left_out)).all()
    found = retrieval.ranked(scores, ~none, ~left_out)
    assert np.isnan(retrieval.precision_at(found, 3)).all()


def test_a_diverged_model_finds_nothing(rng):
    left_out = np.zeros((1, N), bool)
    found = retrieval.ranked(np.full((1, N), np.nan), ~left_out, left_out)
    assert not found.hits.any()
