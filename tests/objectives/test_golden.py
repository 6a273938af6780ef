"""Loss and gradients of every masked objective against its original's own module."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.objectives.latent_prediction import LatentPrediction
from vivit_jax.objectives.masked_pixels import Drawn, MaskedPixels
from vivit_jax.objectives.masking import Mask, running_cell

GOLDEN = pathlib.Path(__file__).parent / "golden"  # its README tells how they were made
RELATIVE = 1e-4
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def encoder(**fields):
    return VideoTransformer(
        **dict(width=24, depth=2, heads=2, mlp_dim=96, tubelet=(2, 4, 4)),
        **{"gelu": "erf", "pool": "mean", **fields},
    )


def masked_pixels(encoder, **fields):
    return MaskedPixels(encoder, decoder_width=12, decoder_heads=2, decoder_depth=1, **fields)


def latent_prediction(encoder, **fields):
    return LatentPrediction(encoder, predictor_width=12, predictor_depth=1, **fields)


videomae = encoder(positions="sincos_1d", key_bias=False, **IMAGENET)
mae_st = encoder(
    positions="separable", pool="class_token", mean=(0.45, 0.45, 0.45), std=(0.225, 0.225, 0.225)
)
OBJECTIVES = {
    "videomae": masked_pixels(videomae),
    "videomae_v2": masked_pixels(videomae, decoder_mask_ratio=0.5),
    "mae_st": masked_pixels(
        mae_st,
        mask="random",
        mask_ratio=0.8,
        target_frames="linspace",
        target_normalised="all",
        decoder_positions="separable",
        decoder_class_token=True,
        decoder_embed_bias=True,
    ),
    "vjepa": latent_prediction(encoder(positions="sincos_3d", **IMAGENET), predictor_heads=2),
    "vjepa2": latent_prediction(
        encoder(positions="rotary_3d_tiled", **IMAGENET),
        predictor_heads=1,
        predictor_positions="rotary_3d_tiled",
        shared_mask_token=True,
    ),
}


def load(name):
    with np.load(GOLDEN / f"{name}.npz") as file:
        return dict(file)


def tree(golden, part):
    flat = {k.removeprefix(part): jnp.asarray(v) for k, v in golden.items() if k.startswith(part)}
    return traverse_util.unflatten_dict(flat, sep="/")


def drawn(golden):
    """Returns what the objective would draw."""
    if "masked_0" in golden:
        masks = [Mask(golden[f"visible_{i}"], golden[f"masked_{i}"]) for i in range(2)]
        return jax.tree.map(jnp.asarray, masks)
    visible, decoded = golden["visible"], golden["decoded"]
    seen = [np.isin(at, own) for at, own in zip(decoded, visible, strict=True)]
    return jax.tree.map(jnp.asarray, Drawn(visible, decoded, 1.0 - np.stack(seen)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_loss_and_gradients_are_the_originals(name):
    golden, objective = load(name), OBJECTIVES[name]
    params = tree(golden, "param/")
    video = (golden["video"] / np.float32(255) - objective.encoder.mean) / objective.encoder.std
    target = (tree(golden, "target/"),) if "masked_0" in golden else ()

    def loss(params):
        given = (jnp.asarray(video, jnp.float32), drawn(golden), *target)
        return objective.apply({"params": params}, *given, method="losses").mean()

    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert value == pytest.approx(float(golden["loss"]), rel=RELATIVE)
    wanted = traverse_util.flatten_dict(tree(golden, "grad/"), sep="/")
    found = traverse_util.flatten_dict(grads, sep="/")
    assert found.keys() == wanted.keys()
    largest = max(np.abs(x).max() for x in wanted.values())
    for path, grad in wanted.items():
        # A bias of keys changes nothing: its gradient is 0, but for rounding.
        scale = max(np.abs(grad).max(), 1e-3 * largest)
        np.testing.assert_allclose(found[path], grad, rtol=0, atol=RELATIVE * scale, err_msg=path)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_makes_the_originals_parameters_and_no_more(name):
    golden, objective = load(name), OBJECTIVES[name]
    batch = {"video": jnp.zeros_like(golden["video"][:1])}
    if name.startswith("vjepa"):  # so that its boxes fit into 4 x 4 places
        objective = objective.clone(block_scales=(0.1, 0.3))
    streams = {"params": jax.random.key(0), "mask": jax.random.key(1)}
    made = jax.eval_shape(objective.init, streams, batch)["params"]
    shapes = {k: v.shape for k, v in traverse_util.flatten_dict(made, sep="/").items()}
    stored = traverse_util.flatten_dict(tree(golden, "param/"), sep="/")
    assert shapes == {k: v.shape for k, v in stored.items()}


def test_running_cells_are_the_originals_four_maps():
    maps = load("videomae_v2")["maps"]
    found = running_cell(jax.random.key(0), 64, (4, 4, 4), 0.5)
    assert {row.tobytes() for row in np.asarray(found)} == {
        row.tobytes() for row in maps.astype(np.int32)
    }
