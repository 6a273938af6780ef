"""What covers a video is what trying all gives, or within the bound."""

import itertools

import numpy as np
import pytest

from vivit_jax.analysis import covering


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=range(6))
def rows(request):
    rng = np.random.default_rng(request.param)
    return unit(rng.normal(size=(11, 3)))


def best_radius(rows, k):
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    return min(
        distances[:, list(some)].min(axis=1).max()
        for some in itertools.combinations(range(len(rows)), k)
    )


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_k_centre_is_within_twice_the_best_and_never_worse_than_even_spread(rows, k):
    found = covering.radius(rows, covering.k_centre(rows, k))
    assert found <= 2 * best_radius(rows, k) + 1e-6
    assert found <= covering.radius(rows, covering.uniform(rows, k)) + 1e-9


def test_the_radius_is_the_largest_distance_to_the_nearest(rows):
    chosen = np.array([1, 4])
    distances = np.linalg.norm(rows[:, None] - rows[None, chosen], axis=2).min(axis=1)
    assert covering.radius(rows, chosen) == pytest.approx(distances.max(), abs=1e-6)
    assert covering.mean_distance(rows, chosen) == pytest.approx(distances.mean(), abs=1e-6)


def test_k_centre_is_the_best_where_there_are_k_kinds():
    rng = np.random.default_rng(0)
    kinds = unit(rng.normal(size=(4, 16)))
    rows = unit(kinds[[0, 0, 0, 0, 0, 1, 0, 2, 0, 3]] + 0.01 * rng.normal(size=(10, 16)))
    chosen = covering.k_centre(rows, 4)
    assert covering.radius(rows, chosen) == pytest.approx(best_radius(rows, 4), abs=0.05)
    assert {5, 7, 9} < set(chosen.tolist())
    assert covering.radius(rows, covering.uniform(rows, 4)) > 0.5


@pytest.mark.parametrize("k", [1, 3, 6])
def test_a_determinant_grows_as_trying_every_row_makes_it(rows, k):
    weights = np.random.default_rng(9).uniform(0.3, 1, len(rows))
    kernel = weights[:, None] * (1 + rows.astype(float) @ rows.T) / 2 * weights
    expected: list[int] = []
    while len(expected) < k:
        volumes = {
            i: np.linalg.det(kernel[np.ix_([*expected, i], [*expected, i])])
            for i in set(range(len(rows))) - set(expected)
        }
        expected.append(max(volumes, key=volumes.__getitem__))
    rank = min(k, rows.shape[1] + 1)  # of the kernel: beyond, every determinant is 0
    found = covering.grown(rows, weights, k).tolist()
    assert found[:rank] == expected[:rank]


def test_determinantal_takes_each_kind_and_what_stands_for_much_first():
    rng = np.random.default_rng(0)
    kinds = unit(rng.normal(size=(3, 16)))
    rows = unit(kinds[[0] * 6 + [1] * 3 + [2]] + 0.01 * rng.normal(size=(10, 16)))
    chosen = covering.determinantal(rows, 3)
    assert [int(i >= 6) + int(i >= 9) for i in chosen] == [0, 1, 2]
    assert covering.grown(rows, covering.quality(rows), 3)[0] < 6


@pytest.mark.parametrize("method", covering.METHODS.values())
def test_no_more_are_chosen_than_differ(method):
    rows = unit(np.ones((1, 4)))
    assert method(rows, 5).tolist() == [0]
    same = np.repeat(rows, 7, axis=0)
    assert len(set(method(same, 3).tolist())) == len(method(same, 3)) <= 3


def test_even_spread_is_the_middle_of_each_part():
    assert covering.uniform(np.zeros((12, 2)), 3).tolist() == [2, 6, 10]
    assert covering.uniform(np.zeros((2, 2)), 3).tolist() == [0, 1]
