"""Who sees whom, told by gradients: token i sees token j where d out[i] / d in[j] is not zero."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.models.attention import half_and_half, over_all, over_space, over_time
from vivit_jax.models.kernels import attend
from vivit_jax.models.layers import Block

T, S = 3, 4
SLOT = np.arange(T * S) // S
PLACE = np.arange(T * S) % S
SAME_SLOT = SLOT[:, None] == SLOT[None, :]
SAME_PLACE = PLACE[:, None] == PLACE[None, :]
ALL = np.ones((T * S, T * S), bool)


def with_class_token(sees):
    """The same, with a token in front that all see and that sees all."""
    return np.pad(sees, ((1, 0), (1, 0)), constant_values=True)


def seen(function, tokens, *shape, params=({},)):
    """Bool [tokens tokens] for each params: which outputs depend on which inputs.

    `function` is of params and [1 tokens *shape].
    """

    @jax.jit
    def jacobian(params):
        x = jax.random.normal(jax.random.key(0), (tokens, *shape))
        jacobian = jax.jacobian(lambda x: function(params, x[None])[0])(x)
        jacobian = jnp.moveaxis(jacobian, x.ndim, 1).reshape(tokens, tokens, -1)
        return jnp.abs(jacobian).sum(axis=-1) > 0

    return [np.asarray(jacobian(p)) for p in params]


@pytest.mark.parametrize(
    ("over", "sees"),
    [
        (over_all, ALL),
        (over_all, with_class_token(ALL)),
        (over_space, SAME_SLOT),
        (over_space, with_class_token(SAME_SLOT)),
        (over_time, SAME_PLACE),
    ],
)
def test_step_lets_a_token_see_exactly(over, sees):
    (found,) = seen(lambda _, x: over(x, x, x, (T, S), attend), len(sees), 2, 3)
    np.testing.assert_array_equal(found, sees)


def test_half_of_the_heads_see_time_and_half_space():
    for heads, sees in (slice(0, 2), SAME_PLACE), (slice(2, 4), SAME_SLOT):

        def step(_, x, heads=heads):
            return half_and_half(x, x, x, (T, S), attend)[:, :, heads]

        np.testing.assert_array_equal(seen(step, T * S, 4, 3)[0], sees)


@pytest.mark.parametrize(
    ("arrangement", "at_first", "later"),
    [
        ("joint", ALL, ALL),
        ("joint", with_class_token(ALL), with_class_token(ALL)),
        # Steps over time start at zero: a model starts from what an image model sees.
        ("factorised_self_attention", SAME_SLOT, ALL),
        ("factorised_dot_product", SAME_SLOT | SAME_PLACE, SAME_SLOT | SAME_PLACE),
        ("divided", SAME_SLOT, ALL),
        ("divided", with_class_token(SAME_SLOT), with_class_token(ALL)),
    ],
)
def test_block_lets_a_token_see_exactly(arrangement, at_first, later):
    block = Block(
        2, 16, arrangement, "tanh", 1e-6, 0.0, 0.0, True, True, "xavier_uniform", "float32"
    )
    options = {"grid": (T, S), "rotation": None, "drop_rate": 0.0, "examples": 1, "train": False}
    n = len(at_first)
    first = jax.jit(partial(block.init, **options))(jax.random.key(1), jnp.ones((1, n, 8)))
    trained = jax.tree.map(lambda p: p + 0.1 * jnp.cos(jnp.arange(p.size)).reshape(p.shape), first)
    found = seen(partial(block.apply, **options), n, 8, params=(first, trained))
    np.testing.assert_array_equal(found, [at_first, later])
