"""Frame models: each part beside PyTorch's own, what sees what, what they cost, what is refused."""

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_costs import multiply_accumulates_traced
from torch_weights import randomised

from vivit_jax import config, optim
from vivit_jax.errors import InputError
from vivit_jax.freeze import frozen_of
from vivit_jax.models.costs import Count, multiply_accumulates
from vivit_jax.models.frame_models import FrameModel
from vivit_jax.models.over_time import Recurrent
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.objectives.classify import Classify
from vivit_jax.objectives.masking import OF_TUBES, check_arrangement
from vivit_jax.trees import as_tree, by_path

TIMES = ("mean", "lstm", "gru", "transformer", "gpt2")
PAIRS = [("resnet18", "mean"), ("resnet50", "lstm"), *(("vit", time) for time in TIMES[1:])]
SMALL: dict[str, Any] = {"size": "mu", "patch": 8, "time_depth": 2, "time_heads": 2}
VIDEO = jax.random.normal(jax.random.key(0), (2, 4, 32, 24, 3))


def slow(*values):
    return pytest.param(*values, marks=pytest.mark.slow)


def small(frame, time, **fields) -> FrameModel:
    widths = {"width": 32 if frame == "vit" else 4, "time_width": 24}
    return FrameModel(frame=frame, time=time, **{**SMALL, **widths, **fields})


def shapes_of(model, video=VIDEO):
    return jax.eval_shape(model.init, jax.random.key(0), video)


def random_params(model, video=VIDEO):
    """Parameters none of which is zero, and no compilation; variances are above 0."""
    rng = np.random.default_rng(0)

    def draw(shape):
        return rng.normal(0, 0.2, shape) if len(shape) > 1 else rng.uniform(0.5, 1.5, shape)

    return jax.tree.map(lambda s: jnp.asarray(draw(s.shape), s.dtype), shapes_of(model, video))


PUBLISHED = {  # torchvision's own account of its weights for ImageNet: parameters, G MACs
    "resnet18": (11_689_512, 1.814),
    "resnet34": (21_797_672, 3.664),
    "resnet50": (25_557_032, 4.089),
    "resnet101": (44_549_160, 7.801),
    "resnet152": (60_192_808, 11.514),
}


DEEP = [slow(name) for name in ("resnet34", "resnet101", "resnet152")]


@pytest.mark.parametrize("frame", ["resnet18", "resnet50", *DEEP])
def test_parameters_and_multiply_accumulates_are_the_published(frame):
    model = FrameModel(frame=frame, frame_norm="batch", time="mean")
    leaves = by_path(shapes_of(model, jnp.zeros((1, 1, 64, 64, 3)))).items()
    count = sum(math.prod(x.shape) for path, x in leaves if "/running_" not in path)
    parameters, giga_macs = PUBLISHED[frame]
    assert count + (model.dims.width + 1) * 1000 == parameters
    assert round(multiply_accumulates(model, 1, 224, 1000) / 1e9, 3) == giga_macs


@pytest.mark.parametrize(("frame", "time"), PAIRS)
def test_multiply_accumulates_are_what_runs(frame, time):
    model = small(frame, time)
    video = jax.ShapeDtypeStruct((1, 3, 32, 32, 3), jnp.dtype("float32"))
    traced = jax.jit(model.apply).trace(shapes_of(model, video), video)
    assert multiply_accumulates_traced(traced.jaxpr.jaxpr) == multiply_accumulates(model, 3, 32)


def test_below_what_is_learnt_nothing_is_differentiated():
    model = small("resnet18", "lstm")
    paths = [f"encoder/{path}" for path in by_path(shapes_of(model)["params"])]
    fixed = Count(set(paths) - frozen_of(("frames",), paths))
    fixed.encoder(model, 4, 32)
    every, alone = Count(paths), Count([p for p in paths if "/time/" in p])
    every.encoder(model, 4, 32)
    alone.encoder(model, 4, 32)
    stem = 4 * 16**2 * 49 * 3 * 4
    assert every.backward == 2 * every.forward - stem  # pixels have no gradient
    assert alone.backward < fixed.backward < 0.1 * every.backward


@pytest.mark.parametrize(("frame", "time"), PAIRS)
def test_features_are_a_token_a_frame_or_one_for_every_place(frame, time):
    model = small(frame, time)
    places = math.prod(model.grid(4, 32, 24))
    every = model.every_place(*VIDEO.shape[:4])
    params = random_params(model)
    by_frame, by_place = (
        jax.eval_shape(model.apply, params, VIDEO, keep) for keep in (None, every)
    )
    assert by_frame.tokens.shape == (2, 4, 24)
    assert by_place.tokens.shape == (2, places, 24)
    assert by_place.summary.shape == by_frame.summary.shape == (2, 24)
    assert by_frame.summary.dtype == jnp.float32


@pytest.mark.parametrize(
    ("time", "seen"),
    [
        slow("mean", np.eye(4)),
        slow("lstm", np.tril(np.ones((4, 4)))),
        ("gru", np.tril(np.ones((4, 4)))),
        slow("transformer", np.ones((4, 4))),
        ("gpt2", np.tril(np.ones((4, 4)))),
    ],
)
def test_who_sees_whom_over_time(time, seen):
    model = small("vit", time, depth=1)
    params = random_params(model)
    jacobian = jax.jit(jax.jacobian(lambda v: model.apply(params, v[None]).tokens[0].sum(axis=1)))
    felt = np.abs(jacobian(VIDEO[0])).sum(axis=(2, 3, 4)) > 0
    np.testing.assert_array_equal(felt, seen > 0)


@pytest.mark.parametrize(
    "time", ["mean", "gru", "gpt2", *(slow(time) for time in ("lstm", "transformer"))]
)
def test_only_the_mean_is_blind_to_the_order_of_frames(time):
    model = small("vit", time, depth=1)
    params, apply = random_params(model), jax.jit(model.apply)
    one, other = (apply(params, video).summary for video in (VIDEO, VIDEO[:, ::-1]))
    assert bool(np.allclose(one, other, atol=1e-6)) == (time == "mean")


def test_a_vit_and_a_transformer_are_the_factorised_encoder_on_tubelets_of_one_frame():
    same = {"size": "mu", "width": 32, "mlp_dim": 128, "heads": 2, "depth": 2, "pool": "mean"}
    ours = small("vit", "transformer", **same, time_width=0)
    peer = VideoTransformer(
        **same, tubelet=(1, 8, 8), attention="factorised_encoder", temporal_depth=2
    )
    params = random_params(peer)["params"]
    inner = {"frames": {k: params[k] for k in ("tubelets", "space")}, "time": params["time"]}
    found = jax.jit(ours.apply)({"params": inner}, VIDEO)
    expected = jax.jit(peer.apply)({"params": params}, VIDEO)
    np.testing.assert_allclose(found.tokens, expected.tokens, atol=1e-5)
    np.testing.assert_allclose(found.summary, expected.summary, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("time", "remat"), [("gru", "full"), ("lstm", "dots")])
def test_remat_changes_no_gradient_of_a_resnet_and_of_recurrent_layers(time, remat):
    params = random_params(small("resnet18", time))

    def gradients(remat):
        model = small("resnet18", time, remat=remat)
        return jax.jit(jax.grad(lambda p: jnp.sin(model.apply(p, VIDEO).summary).mean()))(params)

    jax.tree.map(
        partial(np.testing.assert_allclose, atol=2e-6), gradients(remat), gradients("none")
    )


@pytest.mark.parametrize(("frame", "time"), [("resnet18", "mean"), ("vit", "lstm")])
def test_remat_keeps_less_for_the_backward_pass(frame, time):
    def kept(remat):
        model = small(frame, time, remat=remat)
        residuals = jax.eval_shape(
            lambda p: jax.vjp(lambda p: model.apply(p, VIDEO), p)[1], random_params(model)
        )
        return sum(x.size for x in jax.tree.leaves(residuals))

    assert kept("full") < kept("dots") < kept("none")


@pytest.mark.parametrize("remat", ["full", "dots"])
def test_what_remat_computes_again_is_counted(remat):
    def traced(remat):
        model = small("resnet18", "lstm", remat=remat)
        given = shapes_of(model, VIDEO[:1, :, :24])
        step = jax.jit(jax.grad(lambda p: model.apply(p, VIDEO[:1, :, :24]).summary.sum()))
        return multiply_accumulates_traced(step.trace(given).jaxpr.jaxpr)

    count = Count()
    count.encoder(small("resnet18", "lstm"), 4, 24)
    assert traced(remat) - traced("none") == count.costs().again(remat)


def test_half_precision_is_near_and_gives_float32():
    for frame, time in (("resnet18", "lstm"), ("vit", "gpt2")):
        params = random_params(small(frame, time))
        one, half = (
            jax.jit(small(frame, time, dtype=dtype).apply)(params, VIDEO).summary
            for dtype in ("float32", "bfloat16")
        )
        assert half.dtype == jnp.float32
        assert np.abs(half - one).mean() < 0.05 * np.abs(one).mean()


def test_statistics_of_a_frozen_batch_norm_are_never_learnt_nor_decayed():
    model = Classify(small("resnet18", "mean", frame_norm="batch"), (3,))
    clip = {"video": VIDEO, "label": jnp.zeros(2, jnp.int32), "valid": jnp.ones(2, bool)}
    params = jax.eval_shape(model.init, jax.random.key(0), clip)["params"]
    statistics = {path for path in by_path(params) if "/running_" in path}
    assert len(statistics) == 2 * 20
    for freeze in ((), ("encoder/embed/.*",), ("frames", "!encoder/frames/.*")):
        assert frozen_of(freeze, by_path(params)) >= statistics
    made = optim.make_optimizer(config.Optim(), lambda step: jnp.float32(0.1), params)
    learnt = {path: x for path, x in by_path(params).items() if path not in statistics}
    state = jax.eval_shape(made.init, as_tree(learnt))
    assert not any("running_" in path for path in by_path(state))


def test_the_layers_of_a_vit_and_of_time_are_counted_from_the_pixels_up():
    params = {
        "encoder": shapes_of(small("vit", "transformer", depth=2))["params"],
        "head": {"x": 0},
    }
    scales = by_path(optim.layer_scales(params, 0.5))
    of = {path.removeprefix("encoder/"): -math.log2(scale) for path, scale in scales.items()}
    assert of["frames/tubelets/kernel"] == of["frames/space/position"] == 5
    assert of["frames/space/block_1/mlp_in/kernel"] == 3 == of["frames/space/norm/scale"]
    assert of["embed/kernel"] == of["time/position"] == of["time/block_0/mlp_in/bias"] == 2
    assert of["time/norm/scale"] == of["head/x"] == 0
    params["encoder"] = shapes_of(small("resnet18", "gpt2"))["params"]
    with pytest.raises(InputError, match="layer_decay = 0.5 is for an encoder of transformer bl"):
        optim.layer_scales(params, 0.5)
    with pytest.raises(InputError, match="not seen by transformer blocks: use 1, or .*model.frame"):
        optim.layer_scales(params, 0.5)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frame": "resnet19"}, "model.frame = 'resnet19' is none of resnet18"),
        ({"time": "rnn"}, "model.time = 'rnn' is none of mean, lstm"),
        ({"frame_norm": "layer"}, "model.frame_norm = 'layer' is none of batch, group"),
        ({"time_heads": 5}, "model.time_heads = 5 does not divide the width over time, 512"),
        ({"frame": "vit", "heads": 5}, "model.heads = 5 does not divide"),
        ({"time_depth": -1}, "model.time_depth = -1 is below 0"),
        ({"drop_path": 1.0}, "model.drop_path = 1.0 is not in"),
        ({"patch": 0}, "model.patch = 0; expected"),
        ({"std": (0.0, 1.0, 1.0)}, "model.std"),
    ],
)
def test_impossible_fields_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        FrameModel(**fields)


def test_what_hides_places_is_refused():
    model = small("vit", "mean", pool="mean")
    with pytest.raises(InputError, match="sees all 48 places of a clip, and was given 12 to keep"):
        jax.eval_shape(model.apply, random_params(model), VIDEO, jnp.zeros((2, 12), jnp.int32))
    with pytest.raises(
        InputError, match="frame's width = 24 cannot be cut into patches of model.pa"
    ):
        small("vit", "mean", patch=16).grid(4, 32, 24)
    with pytest.raises(InputError, match="frame after frame cannot be pretrained by masking"):
        check_arrangement(model, OF_TUBES)


torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_recurrent_layers_are_pytorch_s(cell):
    torch.manual_seed(0)
    peer = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[cell](12, 12, 2, batch_first=True)
    peer = randomised(peer)
    layers = {f"layer_{i}": recurrent_params(peer, i, cell) for i in range(2)}
    x = np.random.default_rng(0).normal(size=(3, 7, 12)).astype(np.float32)
    found = jax.jit(Recurrent(cell, 12, 2, 0.0, "float32").apply)({"params": layers}, x)
    with torch.no_grad():
        expected = peer(torch.from_numpy(x))[0].numpy()
    np.testing.assert_allclose(found.tokens, expected, atol=1e-6)
    np.testing.assert_allclose(found.summary, expected[:, -1], atol=1e-6)


def recurrent_params(peer, i, cell):
    """Returns a layer of PyTorch's; of its two biases an LSTM needs the sum alone."""
    kernels = [getattr(peer, f"weight_{kind}_l{i}").detach().numpy().T for kind in ("ih", "hh")]
    given, hidden = (getattr(peer, f"bias_{kind}_l{i}").detach().numpy() for kind in ("ih", "hh"))
    params = {"input": {"kernel": kernels[0], "bias": given + hidden}, "hidden_kernel": kernels[1]}
    if cell == "gru":  # the candidate's second one is within the reset
        bias = np.concatenate([given[:24] + hidden[:24], given[24:]])
        params |= {"input": {"kernel": kernels[0], "bias": bias}, "hidden_bias": hidden[24:]}
    return params
