"""Who sees whom, told by gradients: token i sees token j where d out[i] / d in[j] is not zero."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.models import attention
from vivit_jax.models.attention import attend, half_and_half, over_all, over_space, over_time
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


def plain_attention(q, k, v, cap=0):
    """softmax(q k^T / sqrt(head_dim)) v in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    logits = cap * np.tanh(logits / cap) if cap else logits
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def queries_keys_values(n, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(2), 3)
    return [(4 * jax.random.normal(key, (2, 3, n, 8))).astype(dtype) for key in keys]


@pytest.mark.parametrize("long", [0, 10**9], ids=["head by head", "at once"])
def test_core_is_softmax_attention_for_any_length(long, monkeypatch):
    monkeypatch.setattr(attention, "LONG", long)
    q, k, v = queries_keys_values(5)
    np.testing.assert_allclose(attend(q, k, v), plain_attention(q, k, v), atol=1e-5)
    # Logits that would overflow an exponential.
    np.testing.assert_allclose(attend(40 * q, k, v), plain_attention(40 * q, k, v), atol=1e-4)


@pytest.mark.parametrize("long", [0, 10**9], ids=["head by head", "at once"])
def test_core_bends_logits_under_a_cap(long, monkeypatch):
    monkeypatch.setattr(attention, "LONG", long)
    q, k, v = queries_keys_values(5)
    capped = attend(q, k, v, cap=3.0)
    np.testing.assert_allclose(capped, plain_attention(q, k, v, cap=3), atol=1e-5)
    assert np.abs(capped - attend(q, k, v)).max() > 0.1
    np.testing.assert_allclose(attend(q, k, v, cap=1e6), attend(q, k, v), atol=1e-4)


def test_core_head_by_head_has_the_same_gradients(monkeypatch):
    def gradients(long):
        monkeypatch.setattr(attention, "LONG", long)
        loss = lambda q, k, v: (attend(q, k, v) ** 2).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*queries_keys_values(5))

    for one, other in zip(gradients(0), gradients(10**9), strict=True):
        np.testing.assert_allclose(one, other, atol=3e-6 * np.abs(other).max())


def test_core_in_bfloat16_errs_by_the_rounding_of_weights_and_output():
    q, k, v = queries_keys_values(64, jnp.bfloat16)
    y = attend(q, k, v)
    assert y.dtype == jnp.bfloat16
    expected = plain_attention(q, k, v)  # float64, of the same rounded inputs
    np.testing.assert_allclose(y.astype(np.float32), expected, rtol=2**-7, atol=2**-6)


@pytest.mark.parametrize("long", [0, 10**9], ids=["head by head", "at once"])
def test_core_drops_weights_and_keeps_their_mean(long, monkeypatch):
    monkeypatch.setattr(attention, "LONG", long)
    q, k = jnp.zeros((2, 8, 2, 50, 50))
    v = jnp.broadcast_to(jnp.eye(50)[None, None], q.shape)  # the output is the weights
    weights = attend(q, k, v, dropout=0.25, key=jax.random.key(3))
    np.testing.assert_allclose(np.unique(weights), [0, 1 / 50 / 0.75], rtol=1e-5)
    assert float((weights == 0).mean()) == pytest.approx(0.25, abs=0.02)
