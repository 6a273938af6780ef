"""Copies are windows that follow at one shift; an index is judged as a whole matrix is."""

import numpy as np
import pytest

from vivit_jax.analysis import copies, searched
from vivit_jax.measures import retrieval


def found(pairs, owner, begins):
    pairs = np.array(pairs, int).reshape(-1, 2)
    similarity = np.linspace(0.99, 1, len(pairs))
    return copies.find(pairs, similarity, np.array(owner), np.array(begins, float))


OWNER, BEGINS = [0] * 6 + [1] * 4, [0, 1, 2, 3, 4, 5, 0, 1, 2, 3]


def test_a_part_of_a_video_is_its_copy_at_its_shift():
    (copy,) = found([(2, 6), (3, 7), (4, 8), (5, 9)], OWNER, BEGINS)
    assert (copy.a, copy.b, copy.share, copy.shift) == (0, 1, 1.0, -2.0)
    assert copy.windows.tolist() == [[2, 6], [3, 7], [4, 8], [5, 9]]


def test_windows_that_are_alike_in_another_order_are_no_copy():
    assert found([(0, 9), (2, 8), (4, 7), (5, 6)], OWNER, BEGINS) == []
    assert found([(0, 6)], OWNER, BEGINS) == []
    assert found([], OWNER, BEGINS) == []


def test_a_window_counts_once_however_many_it_looks_like():
    still = [(a, b) for a in range(6) for b in range(6, 10)]  # nothing moves in either
    (copy,) = found(still, OWNER, BEGINS)
    assert copy.share == 1
    assert len(np.unique(copy.windows[:, 0])) == len(np.unique(copy.windows[:, 1])) == 4
    same = [(0, 6), (0, 6), (1, 7), (1, 7)]
    assert found(same, OWNER, BEGINS)[0].share == 0.5


def test_the_last_window_may_begin_off_the_grid():
    begins = [0, 1, 2, 3, 4, 5, 0, 1, 2, 2.6]
    (copy,) = found([(0, 6), (1, 7), (2, 8), (3, 9)], OWNER, begins)
    assert copy.share == 1
    assert copy.shift == 0


def test_groups_hang_together_by_any_copy():
    copy = copies.Copy(0, 1, 1.0, 0.0, 1.0, np.zeros((1, 2), int))
    linked = [copy._replace(a=a, b=b) for a, b in ((4, 7), (1, 2), (2, 9), (0, 9))]
    assert copies.groups(linked) == [[0, 1, 2, 9], [4, 7]]
    assert copies.groups([]) == []


@pytest.mark.parametrize("block", [60, 10**6])
def test_an_index_is_judged_without_each_windows_own_video(monkeypatch, block):
    monkeypatch.setattr(searched, "_BLOCK", block)
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(30, 5)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    owner = np.repeat(np.arange(10), 3)
    labels = np.repeat(rng.integers(0, 3, 10), 3)
    made = searched.judge(rows, owner, labels)
    relevant, left_out = labels[:, None] == labels, owner[:, None] == owner
    whole = retrieval.ranked(rows @ rows.T, relevant, left_out)
    assert made["recall_at_5"] == pytest.approx(retrieval.recall_at(whole, 5).mean())
    assert made["precision_at_1"] == pytest.approx(retrieval.precision_at(whole, 1).mean())
    means = retrieval.average_precision(rows @ rows.T, relevant, left_out)
    assert made["mean_average_precision"] == pytest.approx(np.nanmean(means))
    shares = [(relevant[i] & ~left_out[i]).sum() / 27 for i in range(30)]
    assert made["chance"] == pytest.approx(np.mean(shares))


def test_where_no_label_has_two_videos_there_is_no_average_precision():
    rows, owner = np.eye(4, dtype=np.float32), np.arange(4)
    made = searched.judge(rows, owner, np.arange(4))
    assert made["mean_average_precision"] is None
    assert made["recall_at_1"] == 0
