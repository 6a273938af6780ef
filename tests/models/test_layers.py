"""Tubelets against flax's convolution, and what is random: drop path and dropout."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.models.layers import Block, Dense, Norm, Tubelets, drop_path
from vivit_jax.models.video_transformer import VideoTransformer


def test_tubelets_are_a_convolution_whose_stride_is_its_kernel():
    tubelet = (2, 4, 3)
    video = jax.random.normal(jax.random.key(0), (2, 6, 8, 9, 3))
    conv = nn.Conv(16, tubelet, tubelet, padding="VALID")
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(conv.init, jax.random.key(1), video)
    params = jax.tree.map(lambda s: jnp.asarray(rng.normal(size=s.shape), s.dtype), shapes)
    tokens = Tubelets(16, tubelet, "lecun_normal", "float32").apply(params, video)
    np.testing.assert_allclose(
        tokens, jax.jit(conv.apply)(params, video).reshape(2, -1, 16), atol=2e-5
    )


@pytest.mark.parametrize(("shape", "axes", "features"), [((8,), 1, (2, 5)), ((2, 4), 2, (8,))])
def test_dense_is_flax_s_with_the_same_parameters(shape, axes, features):
    x = jax.random.normal(jax.random.key(0), (2, 3, *shape))
    ours = Dense(features, "float32", axes=axes)
    theirs = nn.DenseGeneral(features, axis=tuple(range(-axes, 0)), kernel_init=ours.kernel_init)
    params = ours.init(jax.random.key(1), x)
    expected = theirs.init(jax.random.key(1), x)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    np.testing.assert_allclose(ours.apply(params, x), theirs.apply(params, x), atol=1e-6)


@pytest.mark.parametrize("offset", [0.0, 1.0])
def test_norm_is_flax_s_whose_scale_is_stored_less_an_offset(offset):
    x = 3 + jax.random.normal(jax.random.key(0), (2, 3, 8))
    ours, theirs = Norm(1e-3, offset), nn.LayerNorm(epsilon=1e-3)
    fresh = ours.init(jax.random.key(1), x)
    expected = theirs.init(jax.random.key(1), x)
    np.testing.assert_allclose(ours.apply(fresh, x), theirs.apply(expected, x), atol=1e-6)
    scale, bias = jax.random.normal(jax.random.key(2), (2, 8))
    found = ours.apply({"params": {"scale": scale - offset, "bias": bias}}, x)
    given = {"params": {"scale": scale, "bias": bias}}
    np.testing.assert_allclose(found, theirs.apply(given, x), atol=1e-6)
    low = Norm(1e-3, offset, "bfloat16").apply(given, x.astype(jnp.bfloat16))
    assert low.dtype == jnp.bfloat16


@pytest.mark.parametrize(("rescaled", "kept_value"), [(True, 4.0), (False, 3.0)])
def test_drop_path_drops_whole_examples_at_its_rate(rescaled, kept_value):
    x = jnp.full((4000, 2, 3), 3.0)
    y = drop_path(x, 0.25, jax.random.key(0), examples=2000, rescaled=rescaled)
    by_example = np.asarray(y).reshape(2000, -1)
    assert (by_example == by_example[:, :1]).all()
    kept = by_example[:, 0] > 0
    assert kept.mean() == pytest.approx(0.75, abs=0.04)
    np.testing.assert_allclose(by_example[kept], kept_value, rtol=1e-6)


def test_block_drops_each_residual_of_an_example_in_all_its_rows():
    """The rows of one example are alike, so they stay alike only if they share every draw."""
    block = Block(2, 16, "joint", "tanh", 1e-6, 0.0, 0.0, True, True, "xavier_uniform", "float32")
    x = jnp.repeat(jax.random.normal(jax.random.key(0), (16, 5, 8)), 3, axis=0)
    options = {"grid": (1, 5), "rotation": None, "drop_rate": 0.5, "examples": 16}
    params = jax.jit(lambda key, x: block.init(key, x, train=False, **options))(
        jax.random.key(1), x
    )

    @jax.jit
    def added(key):
        y = block.apply(params, x, train=True, rngs={"dropout": key}, **options)
        return (y - x).reshape(16, 3, 5, 8)

    y = np.asarray(added(jax.random.key(2)))
    np.testing.assert_array_equal(y, np.broadcast_to(y[:, :1], y.shape))
    neither = (np.abs(y).max(axis=(1, 2, 3)) == 0).sum()
    assert 0 < neither < 16  # two draws an example, of which both drop one in four
    assert (np.asarray(added(jax.random.key(3))) != y).any()


def test_normal_kernels_that_close_a_residual_start_smaller_from_block_to_block():
    encoder = VideoTransformer(
        size="mu", width=128, depth=4, tubelet=(2, 8, 8), pool="mean", kernel_init="normal"
    )
    init = jax.jit(encoder.init)
    params = init(jax.random.key(0), jnp.zeros((1, 2, 16, 16, 3)))["params"]["blocks"]
    for i in range(4):
        block = params[f"block_{i}"]
        residual = 0.02 / np.sqrt(2 * (i + 1))
        stds = {"mlp_in": 0.02, "mlp_out": residual}
        attention = {"query": 0.02, "out": residual}
        for part, expected in ((block, stds), (block["attention_0"], attention)):
            for name, std in expected.items():
                assert np.std(part[name]["kernel"]) == pytest.approx(std, rel=0.05)
