"""What attention gives away where it is asked is what it used, and nobody else pays for it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.models.attentive_pooler import AttentivePooler
from vivit_jax.models.kernels import plain, weigh
from vivit_jax.models.layers import NUDGES, WEIGHTS
from vivit_jax.models.video_transformer import CHOICES, VideoTransformer

VIDEO = jax.random.normal(jax.random.key(0), (2, 6, 12, 8, 3))
NO_CLASS = ("factorised_self_attention", "factorised_dot_product", "factorised_encoder_by_place")


def model(attention, **fields):
    pool = "mean" if attention in NO_CLASS else "class_token"
    fields = {"pool": pool, "tubelet": (2, 4, 4), "depth": 2, "temporal_depth": 2, **fields}
    return VideoTransformer(size="mu", attention=attention, **fields)


def drawn(encoder, seed=1):
    """Returns parameters that are not at their start, where some attention is zero."""
    shapes = jax.eval_shape(encoder.init, jax.random.key(seed), VIDEO)["params"]
    rng = np.random.default_rng(seed)

    def draw(x):
        fan = x.shape[-2] if x.ndim > 1 else 4
        return jnp.asarray(rng.normal(0, fan**-0.5, x.shape), jnp.float32)

    return jax.tree.map(draw, shapes)


def looked_at(encoder, params, *keep):
    """Returns features, and the weights of attention."""
    run = jax.jit(lambda p, *x: encoder.apply({"params": p}, *x, mutable=[WEIGHTS]))
    features, state = run(params, VIDEO, *keep)
    return features, state[WEIGHTS]


@pytest.mark.parametrize("attention", CHOICES["attention"])
def test_weights_times_values_are_what_the_model_gives_without_being_asked(attention):
    encoder = model(attention, logit_cap=20.0 if attention == "joint" else 0.0)
    params = drawn(encoder)
    quiet = jax.jit(lambda p: encoder.apply({"params": p}, VIDEO))(params)
    asked, weights = looked_at(encoder, params)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-5), quiet, asked)
    found = [np.asarray(x) for x in jax.tree.leaves(weights)]
    steps = {"divided": 2, "factorised_self_attention": 2, "factorised_dot_product": 2}
    stacks = {"factorised_encoder": 2, "factorised_encoder_by_place": 2}
    assert len(found) == 2 * steps.get(attention, 1) * stacks.get(attention, 1)
    for weights in found:
        np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
        assert weights.min() >= 0


def test_nobody_who_does_not_ask_has_weights_or_pays_for_them():
    encoder = model("joint")
    variables = jax.eval_shape(encoder.init, jax.random.key(0), VIDEO)
    assert set(variables) == {"params"}
    ask = functools.partial(encoder.apply, mutable=["intermediates"])
    assert jax.eval_shape(ask, variables, VIDEO)[1] == {}


def test_weights_are_those_that_the_plain_core_takes_values_with():
    q, k, v = jax.random.normal(jax.random.key(0), (3, 2, 4, 5, 8))
    for cap in (0.0, 2.0):
        expected = plain(q, k, v, cap=cap)
        np.testing.assert_allclose(weigh(q, k, cap=cap) @ v, expected, atol=1e-5)


def test_what_is_added_to_a_weight_changes_the_summary_as_its_gradient_says():
    encoder = model("factorised_dot_product")
    params = drawn(encoder)
    asked = [WEIGHTS, NUDGES]
    ask = functools.partial(encoder.apply, mutable=asked)
    shapes = jax.eval_shape(ask, {"params": params}, VIDEO)[1][NUDGES]
    nudges = jax.tree.map(lambda x: jnp.zeros(x.shape), shapes)

    @jax.jit
    def score(nudges):
        given = {"params": params, NUDGES: nudges}
        features, _ = encoder.apply(given, VIDEO, mutable=[WEIGHTS])
        return features.summary[:, 3].sum()

    slopes = jax.jit(jax.grad(score))(nudges)
    for call in ("weights_0", "weights_1"):
        slope = slopes["blocks"]["block_0"]["attention_0"][call]
        place = np.unravel_index(np.abs(slope).argmax(), slope.shape)
        before = nudges["blocks"]["block_0"]["attention_0"][call]

        def at(step, call=call, place=place, before=before):
            moved = jax.tree.map(lambda x: x, nudges)
            moved["blocks"]["block_0"]["attention_0"][call] = before.at[place].add(step)
            return score(moved)

        measured = (at(0.02) - at(-0.02)) / 0.04
        np.testing.assert_allclose(measured, slope[place], rtol=0.02)


@pytest.mark.slow
def test_an_attentive_pooler_gives_its_weights_too():
    tokens = jax.random.normal(jax.random.key(0), (2, 6, 16))
    pooler = AttentivePooler(heads=2, depth=1)
    variables = jax.jit(pooler.init)(jax.random.key(1), tokens)
    assert set(variables) == {"params"}
    asked, state = jax.jit(functools.partial(pooler.apply, mutable=[WEIGHTS]))(variables, tokens)
    np.testing.assert_allclose(asked, jax.jit(pooler.apply)(variables, tokens), atol=1e-5)
    weights = state[WEIGHTS]["attention"]["weights"][0]
    assert weights.shape == (2, 2, 6)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, atol=1e-5)
