"""The best rows are those that sorting all of them gives, whatever the blocks."""

import jax
import numpy as np
import pytest

from vivit_jax.analysis import nearest
from vivit_jax.errors import InputError

D = 8


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture(params=[16, 1024], ids=["blocks", "whole"], autouse=True)
def block(request, monkeypatch):
    monkeypatch.setattr(nearest, "block_size", lambda features: request.param)
    monkeypatch.setattr(nearest, "_TILE", 128)


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def expected(scores, k, groups=None):
    """Returns the numbers of the best rows by sorting, one of each group."""
    order, seen = np.argsort(-scores, kind="stable"), set()
    kept = []
    for row in order:
        group = row if groups is None else groups[row]
        if group not in seen and scores[row] > -np.inf:
            seen.add(group)
            kept.append(row)
    return kept[:k]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("k", [1, 5, 40])
def test_the_best_are_what_sorting_gives(rng, grouped, k):
    rows, queries = unit(rng.normal(size=(203, D))), unit(rng.normal(size=(3, 2, D)))
    groups = np.sort(rng.integers(0, 60, 203))
    groups = np.unique(groups, return_inverse=True)[1].astype(np.int32)
    wanted = rng.random(203) < 0.8
    given = nearest.blocks(rows, groups=groups, wanted=wanted)
    found = nearest.best(given, nearest.likeness, queries, k, grouped)
    for question in range(3):
        scores = np.where(wanted, (rows @ queries[question].T).max(axis=1), -np.inf)
        order = expected(scores, k, groups if grouped else None)
        assert found.rows[question, : len(order)].tolist() == order
        assert (found.rows[question, len(order) :] == -1).all()
        np.testing.assert_allclose(
            found.scores[question, : len(order)], scores[order], rtol=1e-6, atol=1e-6
        )


@pytest.mark.parametrize(("questions", "count"), [(1, 600), (3, 100), (300, 1)])
def test_a_long_question_is_compared_in_parts_and_finds_the_same(rng, questions, count):
    rows, asked = unit(rng.normal(size=(90, D))), unit(rng.normal(size=(questions, count, D)))
    found = nearest.best(nearest.blocks(rows), nearest.likeness, asked, 5)
    for question in range(questions):
        scores = (rows @ asked[question].T).max(axis=1)
        assert found.rows[question].tolist() == expected(scores, 5)


def test_memory_does_not_grow_with_the_question():
    shapes = [(1, 8192, D), (4096, D), (4096,)]
    given = [jax.ShapeDtypeStruct(shape, np.float32) for shape in shapes]
    memory = jax.jit(nearest.likeness).lower(*given).compile().memory_analysis()
    assert memory
    assert memory.temp_size_in_bytes < 3 * 4 * nearest.AT_ONCE * 4096  # of 134 MB for all at once


def test_of_equal_rows_the_first_counts_and_a_long_group_once():
    rows = np.tile(unit(np.ones((1, D))), (70, 1))
    groups = np.repeat([0, 1], [50, 20]).astype(np.int32)
    found = nearest.best(
        nearest.blocks(rows, groups=groups), nearest.likeness, rows[None, :1], 4, True
    )
    assert found.rows[0].tolist() == [0, 50, -1, -1]


def test_no_rows_have_no_best():
    found = nearest.best([], nearest.likeness, np.zeros((1, 1, D), np.float32), 3)
    assert found.rows.size == 0


@pytest.mark.parametrize("alone", [False, True])
def test_a_class_ranks_rows_as_its_probability_does(rng, alone):
    features = rng.normal(size=(90, D)).astype(np.float32)
    kernel, bias = rng.normal(size=(D, 5)).astype(np.float32), rng.normal(size=5).astype(np.float32)
    lengths = np.linalg.norm(features, axis=1).astype(np.float32)
    logits = features @ kernel + bias
    odds = jax.nn.sigmoid(logits) if alone else jax.nn.softmax(logits)
    direction = nearest.Direction(kernel, bias, np.int32(2), np.bool_(alone))
    given = nearest.blocks(unit(features), lengths)
    found = nearest.best(given, nearest.log_odds, direction, 7)
    assert found.rows[0].tolist() == expected(np.asarray(odds[:, 2]), 7)
    probability = 1 / (1 + np.exp(-found.scores[0]))
    np.testing.assert_allclose(probability, np.asarray(odds)[found.rows[0], 2], rtol=1e-4)


def test_a_certain_class_still_ranks():
    """Softmax of float32 is 1 from a logit of 17 on."""
    rows = unit(np.eye(2, D))[[0, 0]]
    direction = nearest.Direction(
        np.eye(D, 3, dtype=np.float32) * 30, np.zeros(3, np.float32), np.int32(0), np.bool_(False)
    )
    given = nearest.blocks(rows, np.array([1, 2], np.float32))
    assert nearest.best(given, nearest.log_odds, direction, 2).rows[0].tolist() == [1, 0]


def test_pairs_are_those_of_the_whole_matrix(rng, monkeypatch):
    rows, groups = unit(rng.normal(size=(300, D))), np.sort(rng.integers(0, 40, 300))
    other = unit(rng.normal(size=(300, D)))
    pairs, values = nearest.pairs_above([(rows, 0.4), (other, 0.3)], groups)
    whole = rows @ rows.T
    alike = (whole >= 0.4) & (other @ other.T >= 0.3)
    wanted = np.argwhere(np.triu(alike, 1) & (groups[:, None] != groups))
    assert sorted(map(tuple, pairs.tolist())) == sorted(map(tuple, wanted.tolist()))
    np.testing.assert_allclose(values, whole[tuple(pairs.T)], atol=1e-6)
    pairs, _ = nearest.pairs_above([(rows, 0.0)], groups)  # which fillers score, too
    assert pairs.max() < 300
    monkeypatch.setattr(nearest, "_MOST", 10)
    with pytest.raises(InputError, match="hardly told apart"):
        nearest.pairs_above([(rows, 0.0)], groups)
