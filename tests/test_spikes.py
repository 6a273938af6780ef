"""The rule for spikes against the same in plain numpy, and what M6 of MaxText's rule got wrong."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax import spikes

WINDOW, TIMES = 32, 6.0
rule = jax.jit(functools.partial(spikes.judge, times=TIMES))


def judged(norms, history=None):
    """Returns for each norm whether it is a spike, and the history after all."""
    history, found = history or spikes.fresh(WINDOW), []
    for norm in np.asarray(norms, np.float32):
        spike, history = rule(history, norm, np.isfinite(norm))
        found.append(bool(spike))
    return np.array(found), history


def reference(norms):
    """Returns the same by a list and numpy's sort."""
    known, row, found = [], 0, []
    for norm in np.asarray(norms, np.float32):
        if not np.isfinite(norm):
            found.append(False)
            continue
        usual = np.sort(known)[len(known) // 2] if known else np.inf
        spike = len(known) >= spikes.LEAST and norm > np.float32(TIMES) * usual
        known, row = [*known, norm][-WINDOW:], (row + 1 if spike else 0)
        if row == spikes.MOST:
            known, row = known[-spikes.MOST :], 0
        found.append(bool(spike))
    return np.array(found)


def usual(count, level=1.0, seed=0):
    return level * np.exp(0.3 * np.random.default_rng(seed).standard_normal(count))


def series():
    """Returns norms with spikes, what is not finite, and two new levels."""
    norms = np.concatenate([usual(90), usual(70, 40.0, 1), usual(60, 2.0, 2)])
    norms[[5, 30, 31, 60, 130, 200]] = 1e4
    norms[[3, 40, 61, 93]] = np.nan
    norms[[41, 131]] = np.inf
    return norms


def test_the_rule_is_that_of_plain_numpy():
    np.testing.assert_array_equal(judged(series())[0], reference(series()))


@pytest.mark.parametrize("seed", range(20))
def test_the_rule_is_that_of_plain_numpy_for_any_series(seed):
    rng = np.random.default_rng(seed)
    norms = np.exp(rng.normal(0, rng.uniform(0.1, 2), 150) + np.cumsum(rng.normal(0, 0.2, 150)))
    norms[rng.random(150) < 0.1] = rng.choice([np.nan, np.inf, 0.0, 1e30])
    np.testing.assert_array_equal(judged(norms)[0], reference(norms))


def test_a_nan_costs_no_step_after_it():
    norms = usual(300)
    norms[[10, 200]] = np.nan
    assert not judged(norms)[0].any()


def test_planted_spikes_are_found_and_nothing_else():
    norms, planted = usual(300), [40, 41, 100, 250]
    norms[planted] *= 1e4
    assert np.flatnonzero(judged(norms)[0]).tolist() == planted


def test_nothing_is_a_spike_before_there_is_enough_history():
    norms = usual(spikes.LEAST)
    norms[1::2] *= 1e4
    norms[0] = np.nan
    assert not judged(norms)[0].any()


def test_a_new_level_is_accepted_after_a_few():
    found, _ = judged(np.concatenate([usual(100), usual(200, 1e4)]))
    assert np.flatnonzero(found).tolist() == [*range(100, 100 + spikes.MOST)]


def test_norms_without_any_spread_are_no_spikes():
    assert not judged(np.full(100, 2.2) + 1e-6 * np.arange(100))[0].any()


def test_a_history_that_was_saved_goes_on_as_it_would_have():
    norms = series()
    found, history = judged(norms[:133])
    again = jax.tree.map(jnp.asarray, jax.device_get(history))
    later, _ = judged(norms[133:], again)
    np.testing.assert_array_equal(np.concatenate([found, later]), judged(norms)[0])


def test_a_history_is_finite_from_the_start():
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(judged(series())[1]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(spikes.fresh(WINDOW)))
