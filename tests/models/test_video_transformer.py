"""Input, precision, remat, scan, and what is random; what is refused."""

import functools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.errors import InputError
from vivit_jax.models.video_transformer import VideoTransformer

FE: dict[str, Any] = {"attention": "factorised_encoder"}
BY_PLACE: dict[str, Any] = {"attention": "factorised_encoder_by_place", "pool": "mean"}
FSA: dict[str, Any] = {"attention": "factorised_self_attention", "pool": "mean"}
FDP: dict[str, Any] = {"attention": "factorised_dot_product", "pool": "mean"}
DIVIDED: dict[str, Any] = {"attention": "divided", "positions": "separable"}
VIDEO = jax.random.normal(jax.random.key(0), (2, 6, 16, 24, 3))  # 3 slots of 2 x 3 tokens


def mu(*rows: dict[str, Any], **fields: Any) -> VideoTransformer:
    """A small model with these fields, of which later ones win."""
    small = {"size": "mu", "depth": 2, "temporal_depth": 2, "tubelet": (2, 8, 8)}
    return VideoTransformer(**functools.reduce(dict.__or__, (*rows, fields), small))


def random_params(model, video=VIDEO, seed=0):
    """Parameters none of which is zero, and no compilation."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), video)
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.2, s.shape), s.dtype), shapes)


def test_uint8_video_is_normalised_and_float_video_is_not():
    model = mu(mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
    pixels = np.random.default_rng(0).integers(0, 256, VIDEO.shape, np.uint8)
    floats = ((pixels / 255 - [0.5, 0.4, 0.3]) / [0.2, 0.3, 0.4]).astype(np.float32)
    params = random_params(model)
    found, expected = (
        jax.jit(model.apply)(params, jnp.asarray(v)).summary for v in (pixels, floats)
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@functools.cache
def loss_and_gradients(attention, **options):
    """Of a loss that every feature takes part in."""
    model = mu(attention=attention, **options)
    params = random_params(model)

    def loss(params):
        return sum(jnp.sin(3 * x).mean() for x in model.apply(params, VIDEO))

    return jax.jit(jax.value_and_grad(loss))(params)


@pytest.mark.parametrize(
    ("attention", "options"),
    [
        ("factorised_encoder", {"scan": True}),
        ("factorised_encoder", {"remat": "full"}),
        pytest.param("divided", {"scan": True, "remat": "dots"}, marks=pytest.mark.slow),
    ],
)
def test_scan_and_remat_change_neither_outputs_nor_gradients(attention, options):
    expected, found = loss_and_gradients(attention), loss_and_gradients(attention, **options)
    jax.tree.map(partial(np.testing.assert_allclose, atol=2e-6), found, expected)


def test_scan_makes_the_same_parameters_by_the_same_operations():
    traced = [
        jax.make_jaxpr(mu(FE, scan=scan).init)(jax.random.key(0), VIDEO) for scan in (False, True)
    ]
    assert str(traced[0]) == str(traced[1])


def test_remat_keeps_less_for_the_backward_pass():
    def kept(remat):
        model = mu(remat=remat)
        params = random_params(model)
        residuals = jax.eval_shape(lambda p: jax.vjp(lambda p: model.apply(p, VIDEO), p)[1], params)
        return sum(x.size for x in jax.tree.leaves(residuals))

    assert kept("full") < kept("dots") < kept("none")


@pytest.mark.parametrize("scan", [False, True])
def test_training_is_random_by_its_key_and_evaluation_is_not(scan):
    model = mu(dropout=0.2, attention_dropout=0.2, drop_path=0.3, scan=scan)
    params = random_params(model)

    @jax.jit
    def train(key):
        _, summary = model.apply(params, VIDEO, train=True, rngs={"dropout": key})
        return summary

    one, other = jax.random.split(jax.random.key(0))
    np.testing.assert_array_equal(train(one), train(one))
    assert (train(one) != train(other)).any()
    # Without a key nothing can have been dropped.
    jax.eval_shape(model.apply, params, VIDEO)
    quiet = model.clone(dropout=0.0, attention_dropout=0.0, drop_path=0.0)
    jax.eval_shape(partial(quiet.apply, train=True), params, VIDEO)


@pytest.mark.parametrize("scan", [False, True])
def test_frames_of_a_clip_share_their_drop_path(scan):
    """Slots that are alike stay alike, which under draws of their own they would not."""
    model = mu(FE, temporal_depth=0, depth=3, drop_path=0.6, scan=scan)
    still = jnp.broadcast_to(VIDEO[:, :1], (2, 6, 16, 24, 3)).repeat(4, axis=0)
    params = random_params(model)
    rngs = {"dropout": jax.random.key(0)}
    slots = jax.jit(partial(model.apply, train=True, rngs=rngs))(params, still).tokens
    np.testing.assert_allclose(slots, jnp.broadcast_to(slots[:, :1], slots.shape), atol=1e-6)
    clips = np.asarray(slots[:4, 0])
    assert (np.abs(clips - clips[:1]).max(axis=1) > 1e-3).any()


def test_drop_path_rises_from_nothing_at_the_first_block():
    model = mu(depth=1, drop_path=0.9)
    params = random_params(model)
    # Without a key nothing can have been dropped.
    jax.eval_shape(partial(model.apply, train=True), params, VIDEO)


def operations(jaxpr):
    """Every operation of a traced program: (name, dtypes of its inputs)."""
    for eqn in jaxpr.eqns:
        yield eqn.primitive.name, [str(v.aval.dtype) for v in eqn.invars]
        for inner in eqn.params.values():
            if hasattr(inner, "jaxpr"):
                yield from operations(inner.jaxpr)


@pytest.mark.parametrize("fields", [FE, DIVIDED], ids=str)
def test_bfloat16_multiplies_so_and_keeps_softmax_norms_and_parameters_float32(fields):
    exact = mu(fields)
    model = exact.clone(dtype="bfloat16")
    params = random_params(model)
    assert {str(x.dtype) for x in jax.tree.leaves(params)} == {"float32"}
    traced = jax.jit(model.apply).trace(params, VIDEO)
    found = list(operations(traced.jaxpr.jaxpr))
    for name, dtypes in found:
        if name in ("exp", "rsqrt", "reduce_max"):
            assert dtypes == ["float32"], name
    products = [set(dtypes) for name, dtypes in found if name == "dot_general"]
    assert products
    assert all(dtypes == {"bfloat16"} for dtypes in products)

    features = traced.lower().compile()(params, VIDEO)
    assert features.tokens.dtype == features.summary.dtype == jnp.float32
    expected = jax.jit(exact.apply)(params, VIDEO)
    assert float(jnp.abs(features.summary - expected.summary).max()) < 0.05
    assert float(jnp.abs(features.tokens - expected.tokens).max()) < 0.1


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"size": "XL"}, "model.size = 'XL'"),
        ({"attention": "axial"}, "model.attention = 'axial'"),
        ({"positions": "rope"}, "model.positions = 'rope'"),
        ({"pool": "max"}, "model.pool = 'max'"),
        ({"gelu": "relu"}, "model.gelu = 'relu'"),
        ({"dtype": "float16"}, "model.dtype = 'float16'"),
        ({"remat": "all"}, "model.remat = 'all'"),
        ({"tubelet_init": "zeros"}, "model.tubelet_init = 'zeros'"),
        ({"heads": 5}, "model.heads = 5 .* model.width = 768"),
        ({"width": 766}, "model.heads = 12 .* model.width = 766"),
        ({**FDP, "heads": 3}, "model.heads = 3 is odd"),
        ({**FDP, "pool": "class_token"}, "model.pool = 'class_token'"),
        ({**FSA, "pool": "class_token"}, "model.pool = 'class_token'"),
        ({**FE, "positions": "separable"}, "model.positions = 'separable'"),
        ({**BY_PLACE, "positions": "separable"}, "model.positions = 'separable'"),
        ({**BY_PLACE, "pool": "class_token"}, "model.pool = 'class_token'"),
        ({**BY_PLACE, "norm_summary": True}, "model.norm_summary = True"),
        ({"logit_cap": -1.0}, "model.logit_cap = -1.0"),
        ({"drop_path": 1.0}, "model.drop_path = 1.0"),
        ({"dropout": -0.1}, "model.dropout = -0.1"),
        ({"depth": -1}, "model.depth = -1"),
        ({"tubelet": (2, 0, 16)}, "model.tubelet = "),
        ({"std": (0.5, 0.0, 0.5)}, "model.std = "),
    ],
    ids=str,
)
def test_impossible_fields_are_refused_by_name(fields, named):
    with pytest.raises(InputError, match=named):
        VideoTransformer(**fields)


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ((7, 32, 32), "frames = 7"),
        ((8, 30, 32), "height = 30"),
        ((8, 32, 40), "width = 40"),
        ((0, 32, 32), "frames = 0"),
    ],
    ids=str,
)
def test_impossible_clips_are_refused_before_anything_is_traced(shape, named):
    with pytest.raises(InputError, match=named):
        VideoTransformer().grid(*shape)
    with pytest.raises(InputError, match=named):
        VideoTransformer().init(jax.random.key(0), jnp.zeros((1, *shape, 3)))


MASKED = {"joint": {}, "factorised_encoder": FE, "factorised_self_attention": FSA}
MASKED |= {"factorised_dot_product": FDP, "divided": DIVIDED}
MASKED |= {"factorised_encoder_by_place": BY_PLACE}
KEEP = jnp.asarray([[0, 4, 6, 10, 12, 16], [1, 2, 7, 8, 13, 14]])  # two places of 6, in 3 slots


@pytest.mark.parametrize("attention", MASKED)
def test_tokens_that_are_not_kept_are_not_seen_at_all(attention):
    model = mu(MASKED[attention])
    params = random_params(model)

    def loss(video):
        return sum(jnp.sin(3 * x).sum() for x in model.apply(params, video, KEEP))

    gradient = jax.jit(jax.grad(loss))(VIDEO)
    felt = np.abs(gradient).sum(axis=-1).reshape(2, 3, 2, 2, 8, 3, 8).sum(axis=(2, 4, 6)) > 0
    expected = np.zeros((2, 18), bool)
    np.put_along_axis(expected, np.asarray(KEEP), True, axis=1)
    np.testing.assert_array_equal(felt.reshape(2, 18), expected)


@pytest.mark.parametrize("positions", ["learned", "rotary_3d"])
@pytest.mark.parametrize(
    "attention", ["joint", "factorised_self_attention", "factorised_encoder_by_place"]
)
def test_keeping_all_tokens_is_keeping_none_back(attention, positions):
    model = mu(attention=attention, pool="mean", positions=positions)
    params = random_params(model)
    every = jnp.broadcast_to(jnp.arange(18)[None], (2, 18))
    whole, kept = (jax.jit(model.apply)(params, VIDEO, keep) for keep in (None, every))
    for a, b in zip(whole, kept, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_kept_token_of_the_factorised_encoder_has_both_stacks_in_it():
    model = mu(FE)
    params = random_params(model)
    every = jnp.broadcast_to(jnp.arange(18)[None], (2, 18))
    whole, kept = (jax.jit(model.apply)(params, VIDEO, keep) for keep in (None, every))
    np.testing.assert_allclose(kept.summary, whole.summary, atol=1e-5)
    # What differs between the tokens of a slot is space's alone.
    alone = mu(FE, temporal_depth=0)
    space = {"params": {k: v for k, v in params["params"].items() if k != "time"}}
    tokens = jax.jit(alone.apply)(space, VIDEO, every).tokens - alone.apply(
        space, VIDEO
    ).tokens.repeat(6, axis=1)
    np.testing.assert_allclose(kept.tokens - whole.tokens.repeat(6, axis=1), tokens, atol=1e-5)


@pytest.mark.parametrize("sees", ["slot", "place", "all"])
def test_by_place_space_sees_a_slot_and_time_a_place(sees):
    """Jacobian of the tokens; what passes attention by is shut off by a zero kernel."""
    model = mu(BY_PLACE, temporal_depth=0 if sees == "slot" else 2)
    params = random_params(model)
    if sees == "place":
        for block in ("block_0", "block_1"):
            out = params["params"]["space"][block]["attention_0"]["out"]
            out["kernel"] = jnp.zeros_like(out["kernel"])
    jacobian = jax.jit(jax.jacobian(lambda v: model.apply(params, v[None]).tokens[0].sum(axis=1)))
    felt = np.abs(jacobian(VIDEO[0])).sum(axis=-1).reshape(18, 3, 2, 2, 8, 3, 8).sum(axis=(2, 4, 6))
    slot, place = np.arange(18) // 6, np.arange(18) % 6
    same = {"slot": slot[:, None] == slot, "place": place[:, None] == place, "all": True}
    np.testing.assert_array_equal(felt.reshape(18, 18) > 0, np.broadcast_to(same[sees], (18, 18)))


def test_norm_summary_is_the_norm_of_the_mean():
    model = mu(pool="mean", norm_summary=True)
    params = random_params(model)
    features = jax.jit(model.apply)(params, VIDEO)
    norm = params["params"]["blocks"]["summary_norm"]
    mean = features.tokens.mean(axis=1)
    centred = mean - mean.mean(axis=1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 1e-6)
    expected = scaled * norm["scale"][None] + norm["bias"][None]
    np.testing.assert_allclose(features.summary, expected, atol=1e-5)


def test_a_key_s_bias_changes_nothing():
    with_bias, without = mu(pool="mean"), mu(pool="mean", key_bias=False)
    params = random_params(with_bias)
    fewer = jax.tree.map(lambda x: x, params)
    for block in ("block_0", "block_1"):
        del fewer["params"]["blocks"][block]["attention_0"]["key"]["bias"]
    a, b = jax.jit(with_bias.apply)(params, VIDEO), jax.jit(without.apply)(fewer, VIDEO)
    np.testing.assert_allclose(a.tokens, b.tokens, atol=1e-5)
