"""Scores of rankings agree with scikit-learn's, ties included."""

import numpy as np
import pytest
import sklearn.metrics

from vivit_jax.measures.ranking import roc_auc


@pytest.mark.parametrize("levels", [1, 2, 5, 40, None])
def test_roc_auc_is_scikit_learns_with_any_number_of_ties(levels):
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(500)
    positive = rng.random(500) < 0.3
    scores[positive] += 0.5
    if levels:
        scores = np.floor(scores * levels / 4)
    expected = sklearn.metrics.roc_auc_score(positive, scores)
    assert roc_auc(scores, positive) == pytest.approx(expected, abs=1e-12)
    order = rng.permutation(500)
    assert roc_auc(scores[order], positive[order]) == pytest.approx(expected, abs=1e-12)


def test_a_perfect_ranking_is_1_its_opposite_0_and_one_kind_alone_has_none():
    scores = np.arange(6.0)
    assert roc_auc(scores, scores > 2) == 1
    assert roc_auc(-scores, scores > 2) == 0
    assert np.isnan(roc_auc(scores, scores < 0))
    assert np.isnan(roc_auc(scores, scores >= 0))


def test_a_score_of_nan_ranks_last():
    assert roc_auc(np.array([np.nan, 0.1, 0.2]), np.array([1, 0, 1], bool)) == 0.5
    with pytest.raises(ValueError, match="shape"):
        roc_auc(np.zeros(3), np.zeros(2, bool))
