"""Votes are scikit-learn's, and recall and precision are what a hand counts."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier

from vivit_jax.config import Probe
from vivit_jax.evals import knn, neighbours, retrieval
from vivit_jax.evals.frozen import Encoded

RANDOM = np.random.default_rng(0)
CLASSES = 4
BANK = RANDOM.normal(size=(50, 8)).astype(np.float32)
LABELS = RANDOM.integers(0, CLASSES, 50).astype(np.int32)
QUERIES = RANDOM.normal(size=(13, 8)).astype(np.float32)


def encoded(features, labels) -> Encoded:
    labels = np.asarray(labels, np.int32)
    return Encoded(np.float32(features), labels, np.arange(len(labels)), len(labels), [])


@pytest.fixture(params=[7 * 50, 2**26], ids=["blocks", "whole"])
def block(request, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", request.param)


@pytest.mark.parametrize("k", [1, 20, 1000])
@pytest.mark.usefixtures("block")
def test_votes_are_scikit_learns(k):
    options = Probe(neighbours=k, temperature=0.07)
    found = knn.votes(QUERIES, BANK, LABELS, CLASSES, options)
    model = KNeighborsClassifier(
        min(k, len(BANK)), metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.07)
    )
    wanted = model.fit(BANK, LABELS).predict_proba(QUERIES)
    np.testing.assert_allclose(found / found.sum(axis=1, keepdims=True), wanted, atol=1e-5)


def test_a_video_is_its_own_nearest_neighbour():
    given = encoded(BANK * RANDOM.uniform(0.1, 9, (50, 1)), LABELS)  # lengths don't count
    options = Probe(neighbours=1)
    assert knn.judge(given, encoded(BANK, LABELS), CLASSES, options, 0)["knn_top1"] == 1
    found = retrieval.judge(given, encoded(BANK, LABELS), CLASSES, options, 0)
    assert found["retrieval_recall_at_1"] == 1
    assert set(found) == set(retrieval.RESULTS)


def test_recall_at_k_is_what_a_hand_counts():
    angles = np.radians([0, 10, 20, 30, 40, 50, 60])
    bank = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    known = encoded(bank, [0, 1, 1, 2, 1, 1, 0])
    queries = np.array([[1, -0.01], [1, -0.01], [1, -0.01], [1, -0.01]])  # 0, 10, 20 ... in order
    found = retrieval.judge(known, encoded(queries, [0, 1, 2, 3]), 4, Probe(), 0)
    precisions = [(1 / 1 + 2 / 7) / 2, (1 / 2 + 2 / 3 + 3 / 5 + 4 / 6) / 4, 1 / 4]
    assert found == {
        "retrieval_recall_at_1": 0.25,
        "retrieval_recall_at_5": 0.75,
        "retrieval_recall_at_10": 0.75,
        "retrieval_mean_average_precision": pytest.approx(np.mean(precisions)),
    }


@pytest.mark.usefixtures("block")
def test_average_precision_is_scikit_learns():
    wanted_labels = RANDOM.integers(0, CLASSES, len(QUERIES)).astype(np.int32)
    _, found = retrieval.ranked(QUERIES, wanted_labels, BANK, LABELS)
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (QUERIES, BANK)]
    similarity = unit[0] @ unit[1].T
    pairs = zip(similarity, wanted_labels, strict=True)
    wanted = [average_precision_score(label == LABELS, row) for row, label in pairs]
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_features_that_are_no_numbers_are_never_right():
    given = encoded(np.full_like(BANK, np.nan), np.zeros(50))
    options = dataclasses.replace(Probe(), neighbours=5)
    assert knn.judge(given, given, 2, options, 0)["knn_top1"] == 0
    assert retrieval.judge(given, given, 2, options, 0)["retrieval_recall_at_1"] == 0


def test_whitened_features_vary_alike_in_every_direction():
    mixed = BANK @ RANDOM.normal(size=(8, 8)) * [100, 1, 1, 1, 1, 1, 1, 0.1] + 5
    queries, bank = neighbours.compared(mixed[:13], mixed, whiten=True)
    np.testing.assert_allclose(bank.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(queries, bank[:13], atol=1e-12)  # 13 rows: another order of sums
    variances = np.linalg.eigvalsh(np.cov(bank, rowvar=False))
    assert (variances > 0.01).all()
    assert variances.max() < 1 + 1e-6
    same = neighbours.compared(mixed[:13], mixed, whiten=False)
    np.testing.assert_array_equal(same[1], mixed)


def test_a_direction_without_variance_decides_nothing():
    flat = np.concatenate([BANK, np.full((50, 2), 7.0)], axis=1)
    queries, bank = neighbours.compared(flat, flat, whiten=True)
    assert np.isfinite(bank).all()
    wanted, _ = neighbours.compared(BANK, BANK, whiten=True)

    def similarities(x):
        unit = x / np.linalg.norm(x, axis=1, keepdims=True)
        return unit @ unit.T

    np.testing.assert_allclose(similarities(queries), similarities(wanted), atol=1e-4)


def test_any_number_of_queries_is_compared_by_one_program():
    traced = []

    def nearest(similarity, beside):
        traced.append(similarity.shape)
        return similarity.max(axis=1), beside

    comparing = neighbours.Comparing(BANK, nearest, 5)
    for count in (1, 5, 13):
        found, beside = comparing(QUERIES[:count], np.arange(count))
        wanted, _ = neighbours.by_similarity(QUERIES[:count], BANK, nearest, np.arange(count))
        np.testing.assert_allclose(found, wanted, atol=1e-6)
        np.testing.assert_array_equal(beside, np.arange(count))
    assert traced[0] == (5, 50)
    assert traced.count((5, 50)) == 2  # by_similarity's own of 5 is the other
