"""The same five steps on any mesh: loss and parameters are those of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vivit_jax import config, recipe, sharding
from vivit_jax.models.frame_models import FrameModel
from vivit_jax.models.video_transformer import CHOICES
from vivit_jax.objectives.classify import Classify
from vivit_jax.train_step import init_state, train_step

BATCH, FRAMES, SIDE, STEPS = 16, 8, 32, 5
MESHES = {
    "data 8": {"data": 8},
    "fsdp 8": {"data": 1, "fsdp": 8},
    "data 2, fsdp 2, tensor 2": {"data": 2, "fsdp": 2, "tensor": 2},
    "data 2, sequence 4": {"data": 2, "sequence": 4},
}
OBJECTIVES = {
    "classify": {"name": "classify", "mixup": 0.8, "label_smoothing": 0.1},
    "masked_pixels": {
        "name": "masked_pixels",
        "mask_ratio": 0.5,
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_heads": 2,
    },
    "latent_prediction": {
        "name": "latent_prediction",
        "blocks": (2,),
        "block_scales": (0.3,),
        "predictor_width": 16,
        "predictor_depth": 1,
        "predictor_heads": 2,
    },
}
WITHOUT_CLASS_TOKEN = (
    "factorised_self_attention",
    "factorised_dot_product",
    "factorised_encoder_by_place",
)


def batch():
    rng = np.random.default_rng(0)
    return {
        "video": rng.integers(0, 256, (BATCH, FRAMES, SIDE, SIDE, 3), np.uint8),
        "label": np.arange(BATCH, dtype=np.int32) % 8,
        "valid": np.arange(BATCH) != 3,
        "position": np.arange(BATCH, dtype=np.uint32),
        "index": np.arange(BATCH, dtype=np.int32),
    }


def objective_of(objective, attention, scan):
    model = {
        "name": "video_transformer",
        **{"width": 32, "depth": 2, "heads": 4, "mlp_dim": 64, "temporal_depth": 1},
        **{"tubelet": (2, 8, 8), "attention": attention, "scan": scan, "drop_path": 0.2},
        "pool": "mean" if attention in WITHOUT_CLASS_TOKEN else "class_token",
    }
    if objective != "classify":
        model["pool"] = "mean"
    whole = recipe.experiment(model=model, objective=OBJECTIVES[objective])
    maps = [[str(i) for i in range(8)]]
    return recipe.build_objective(config.parse(whole.to_dict()), maps)


def train(objective, sizes, accumulate):
    """Returns the losses of the steps, and the parameters after them; one device without sizes."""
    devices = jax.devices() if sizes else jax.devices()[:1]
    mesh = sharding.make_mesh(config.Mesh(**sizes), devices)
    optimizer = optax.sgd(0.05, momentum=0.9)
    average = getattr(objective, "target", "") == "average"

    def init():
        clip = jax.tree.map(lambda x: jnp.asarray(x[:1]), batch())
        keys = {"params": jax.random.key(0), "mask": jax.random.key(1)}
        return init_state(objective.init(keys, clip)["params"], optimizer, average)

    places = sharding.shardings(jax.eval_shape(init), mesh)
    state = jax.jit(init, out_shardings=places)()
    step = functools.partial(
        train_step,
        objective=objective,
        optimizer=optimizer,
        augment=lambda video, keys: video.astype(jnp.float32) / 127.5 - 1,
        seed=0,
        accumulate=accumulate,
        average=0.9 if average else 0.0,
    )
    on_devices = sharding.to_devices(batch(), mesh)
    losses = []
    outputs = places, sharding.replicated(mesh)
    step = jax.jit(step, donate_argnums=0, out_shardings=outputs)
    with jax.set_mesh(mesh):
        for _ in range(STEPS):
            state, info = step(state, on_devices)
            losses.append(float(info.metrics["loss"]))
    return losses, jax.device_get(state.params)


def compare(objective, attention, meshes, how):
    """Trains on one device, and on each mesh; `how` are pairs of scan and accumulate."""
    for scan, accumulate in how:  # each draws its own, but for every mesh the same
        compare_trained(objective_of(objective, attention, scan), meshes, accumulate)


def compare_trained(module, meshes, accumulate):
    losses, params = train(module, {}, accumulate)
    for name, sizes in meshes.items():
        found, moved = train(module, sizes, accumulate)
        what = f"{module.encoder}, {name}, accumulate {accumulate}"
        np.testing.assert_allclose(found, losses, rtol=2e-5, err_msg=what)
        for one, other in zip(jax.tree.leaves(moved), jax.tree.leaves(params), strict=True):
            np.testing.assert_allclose(one, other, atol=2e-5, rtol=1e-4, err_msg=what)


@pytest.mark.slow
def test_a_mesh_of_all_axes_changes_nothing():
    sizes = {"data": 1, "fsdp": 2, "sequence": 2, "tensor": 2}
    compare("masked_pixels", "joint", {"all": sizes}, [(False, 1)])


@pytest.mark.slow
@pytest.mark.parametrize("attention", CHOICES["attention"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_mesh_changes_anything(objective, attention):
    """With accumulation and scan, and without."""
    if attention == "space_only" and objective != "classify":
        pytest.skip("it cannot be masked")
    compare(objective, attention, MESHES, [(False, 1), (True, 2)])


@pytest.mark.slow
@pytest.mark.parametrize("time", ["lstm", "gpt2"])
@pytest.mark.parametrize("frame", ["resnet18", "vit"])
def test_no_mesh_changes_a_frame_model(frame, time):
    fields = {"size": "mu", "patch": 8, "width": 32 if frame == "vit" else 8, "heads": 4}
    encoder = FrameModel(
        frame=frame, time=time, **fields, time_depth=1, time_width=32, time_heads=4
    )
    compare_trained(Classify(encoder, (8,)), MESHES, 1)
