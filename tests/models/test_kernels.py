"""Every kernel is softmax attention, on one device and on several."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax import config, sharding
from vivit_jax.errors import InputError
from vivit_jax.models.kernels import Ask, attend, choose, plain, splash
from vivit_jax.models.tiled import tiled

INTERPRETED = partial(splash, interpret=True)
RUNS = pytest.mark.parametrize("run", [plain, tiled, INTERPRETED], ids=["plain", "tiled", "splash"])


def softmax_attention(q, k, v, cap=0):
    """softmax(q k^T / sqrt(head_dim)) v in float64."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    logits = cap * np.tanh(logits / cap) if cap else logits
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ v


def queries_keys_values(n, m, dtype=jnp.float32, shape=(2, 3)):
    keys = jax.random.split(jax.random.key(2), 3)
    return [
        (4 * jax.random.normal(key, (*shape, length, 16))).astype(dtype)
        for key, length in zip(keys, (n, m, m), strict=True)
    ]


@RUNS
def test_a_kernel_is_softmax_attention_for_any_length(run):
    q, k, v = queries_keys_values(5, 7)
    np.testing.assert_allclose(run(q, k, v), softmax_attention(q, k, v), atol=1e-5)
    # Logits that would overflow an exponential.
    np.testing.assert_allclose(run(40 * q, k, v), softmax_attention(40 * q, k, v), atol=1e-4)


@RUNS
def test_a_kernel_bends_logits_under_a_cap(run):
    q, k, v = queries_keys_values(5, 5)
    capped = run(q, k, v, cap=3.0)
    np.testing.assert_allclose(capped, softmax_attention(q, k, v, cap=3), atol=1e-5)
    assert np.abs(capped - run(q, k, v)).max() > 0.1
    np.testing.assert_allclose(run(q, k, v, cap=1e6), run(q, k, v), atol=1e-4)


@pytest.mark.parametrize("cap", [0.0, 3.0])
@pytest.mark.parametrize("run", [tiled, INTERPRETED], ids=["tiled", "splash"])
def test_a_kernel_has_the_gradients_of_the_plain_one(run, cap):
    def gradients(run):
        loss = lambda q, k, v: (run(q, k, v, cap=cap) ** 2).sum()  # noqa: E731
        return jax.jit(jax.grad(loss, argnums=(0, 1, 2)))(*queries_keys_values(5, 7))

    for one, other in zip(gradients(run), gradients(plain), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


@RUNS
def test_a_kernel_in_bfloat16_errs_by_the_rounding_of_weights_and_output(run):
    q, k, v = queries_keys_values(64, 64, jnp.bfloat16)
    y = run(q, k, v)
    assert y.dtype == jnp.bfloat16
    expected = softmax_attention(q, k, v)  # float64, of the same rounded inputs
    np.testing.assert_allclose(y.astype(np.float32), expected, rtol=2**-7, atol=2**-6)


def test_the_plain_kernel_drops_weights_and_keeps_their_mean():
    q, k = jnp.zeros((2, 8, 2, 50, 50))
    v = jnp.broadcast_to(jnp.eye(50)[None, None], q.shape)  # the output is the weights
    options = {"dropout": 0.25, "key": jax.random.key(3)}
    weights = plain(q, k, v, **options)
    np.testing.assert_allclose(np.unique(weights), [0, 1 / 50 / 0.75], rtol=1e-5)
    assert float((weights == 0).mean()) == pytest.approx(0.25, abs=0.02)
    assert not np.array_equal(weights[:, 0], weights[:, 1])


@pytest.mark.parametrize("tile", [7, 14, 15, 35])  # one query, two, two, all five
def test_tiles_of_any_size_give_the_same_and_the_same_gradients(tile, monkeypatch):
    qkv = queries_keys_values(5, 7)
    gradient = lambda run: jax.grad(lambda x: (run(*x) ** 2).sum())(qkv)  # noqa: E731
    wanted = [plain(*qkv), *gradient(plain)]
    monkeypatch.setattr("vivit_jax.models.tiled.TILE", tile)
    for one, other in zip([tiled(*qkv), *gradient(tiled)], wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def ask(**changed):
    usual = {"platform": "gpu", "dtype": "bfloat16", "head_dim": 64, "queries": 1568, "keys": 1568}
    return Ask(**{**usual, "cap": 0.0, "dropout": 0.0, **changed})


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({}, "cudnn"),
        ({"dtype": "float32"}, "plain"),
        ({"head_dim": 20}, "plain"),
        ({"cap": 50.0}, "plain"),
        ({"dropout": 0.1}, "plain"),
        ({"platform": "tpu"}, "splash"),
        ({"platform": "tpu", "keys": 197}, "plain"),
        ({"platform": "tpu", "dropout": 0.1}, "plain"),
        ({"platform": "cpu"}, "tiled"),
        ({"platform": "cpu", "queries": 8}, "plain"),
        ({"platform": "cpu", "dropout": 0.1}, "plain"),
    ],
)
def test_auto_takes_the_best_that_bears_what_is_asked(changed, name):
    assert choose("auto", ask(**changed)) == name
    assert choose(name, ask(**changed)) == name


@pytest.mark.parametrize(
    ("name", "changed", "why"),
    [
        ("cudnn", {"platform": "cpu"}, "needs an NVIDIA GPU"),
        ("cudnn", {"dtype": "float32"}, "needs model.dtype = 'bfloat16'"),
        ("splash", {}, "needs a TPU"),
        ("tiled", {"dropout": 0.1}, "attention_dropout must be 0"),
        ("splash", {"platform": "tpu", "dropout": 0.1}, "attention_dropout must be 0"),
    ],
)
def test_a_kernel_that_cannot_be_is_refused_and_says_why(name, changed, why):
    with pytest.raises(InputError, match=f"attention_kernel = {name!r} cannot be .*{why}"):
        choose(name, ask(**changed))


MESHES = [
    {"data": 2, "sequence": 4},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"data": 1, "sequence": 2, "tensor": 4},  # 6 heads are no multiple of 4
]


@pytest.mark.parametrize("sizes", MESHES, ids=str)
@pytest.mark.parametrize(
    ("layout", "rows"), [("tokens", 1), ("tokens", 3), ("slots", 1), ("clips", 1)]
)
def test_attention_over_devices_is_that_of_one(sizes, layout, rows):
    """Lengths and rows that no axis divides, too."""
    qkv = queries_keys_values(7, 9, shape=(4, rows, 6))
    run = partial(attend, layout=layout)
    gradient = lambda *qkv: jax.grad(lambda x: (run(*x) ** 2).sum())(qkv)  # noqa: E731
    wanted = [jax.jit(run)(*qkv), *jax.jit(gradient)(*qkv)]
    with jax.set_mesh(sharding.make_mesh(config.Mesh(**sizes))):
        found = [jax.jit(run)(*qkv), *jax.jit(gradient)(*qkv)]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * np.abs(other).max())


def test_dropped_weights_are_the_same_on_any_mesh():
    qkv = queries_keys_values(7, 7, shape=(4, 1, 6))
    run = jax.jit(partial(attend, dropout=0.5, key=jax.random.key(0)))
    alone = run(*qkv)
    with jax.set_mesh(sharding.make_mesh(config.Mesh(**MESHES[0]))):
        np.testing.assert_allclose(run(*qkv), alone, rtol=1e-5, atol=1e-6)
