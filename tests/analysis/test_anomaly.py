"""What shows nothing is not the most unusual of all."""

import functools
import types
from typing import Any

import jax
import numpy as np
import pytest
import tiny

from vivit_jax import recipe
from vivit_jax.analysis import anomaly
from vivit_jax.objectives.masked_pixels import NORMALISED

OFF = 0.05  # of white, or of a token's standard deviations: how far off predictions are


def observer_of(normalised: str) -> Any:
    """Returns a masked model that predicts almost black of whatever it sees."""
    objective = {"name": "masked_pixels", "decoder_width": 24, "decoder_depth": 1}
    objective |= {"decoder_heads": 2, "target_normalised": normalised}
    given = tiny.experiment(data={"labels": "none"}, model={"pool": "mean"}, objective=objective)
    made = recipe.build_objective(given, ((),))
    shapes = recipe.param_shapes(made, given.data, ((),))
    params = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    black = -1 if normalised == "input" else 0  # (0 - mean) / std, of 0.5 each
    params["decoder"]["out"]["bias"][:] = black + OFF

    def seeing(function, params):
        return functools.partial(jax.jit(function), params)

    return types.SimpleNamespace(objective=(made, params), seeing=seeing)


@pytest.mark.parametrize("normalised", NORMALISED)
def test_a_black_window_is_less_unusual_than_noise_whatever_the_targets(normalised):
    noise = np.random.default_rng(0).integers(0, 256, (1, 1, 4, 16, 16, 3), np.uint8)
    clips = np.concatenate([np.zeros_like(noise), noise])
    black, other = anomaly.errors(observer_of(normalised), 2)(clips)[:, 0]
    assert black < 3
    assert other > 0.9
    assert black < 3 * other
