"""Image ViTs as .npz, written by the code of vision_transformer and big_vision's models.

golden/augreg_*.npz and augreg.npz: google-research/vision_transformer at c6de1e5 (models_vit.py's
VisionTransformer) and google-research/big_vision at 0127fb6 (models/vit.py's Model), under jax
0.10.2 and flax 0.12.8, in two shapes, every parameter drawn anew (a scale's around one, all others'
around zero, standard deviation 0.3, NumPy's generator of seed 1), saved by np.savez with names
joined by "/"; logits of two pictures, normal numbers of seed 0. "deep": a class token, with names
numbered as published files have them, and big_vision's scanned blocks with an optimiser's step
beside. "wide": the mean over tokens, and big_vision's without positions in the file (sincos2d).
"""

import pathlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import MOST, difference, equal, logits

from vivit_jax import pretrained, recipe, transfer
from vivit_jax.errors import InputError
from vivit_jax.fitting import fit
from vivit_jax.pretrained import linen
from vivit_jax.trees import as_tree, by_path

GOLDEN = pathlib.Path(__file__).parent / "golden"
SIDES = {"deep": 12, "wide": 8}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Pictures without positions in the file are taken to be small."""
    monkeypatch.setattr(linen, "SIDE", SIDES["wide"])


def golden(kind, shape):
    return GOLDEN / f"augreg_{kind}_{shape}.npz"


def written(path, arrays):
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def read(path):
    return pretrained.read(f"augreg:{path}")


@pytest.mark.parametrize("shape", SIDES)
@pytest.mark.parametrize("kind", ["vit", "big_vision"])
def test_a_picture_is_a_clip_of_one_frame_and_gives_the_same_logits(kind, shape):
    outputs = np.load(GOLDEN / "augreg.npz")
    found = read(golden(kind, shape))
    data = found.experiment.data
    assert (data.frames, data.image_size) == (1, SIDES[shape])
    ours = logits(*found.build(), outputs[f"{shape}/image"][:, None])
    assert difference(ours, outputs[f"{shape}/{kind}"]) < MOST


@pytest.mark.parametrize("prefix", ["", "params/", "opt/target/", "params/img/"])
@pytest.mark.parametrize("position", ["Transformer/posembed_input/", "Transformer/", ""])
def test_every_prefix_and_age_of_names_gives_the_same(prefix, position, tmp_path):
    arrays = dict(np.load(golden("vit", "deep")))
    want = read(golden("vit", "deep")).params
    table = arrays.pop("Transformer/posembed_input/pos_embedding")
    arrays[f"{position}pos_embedding"] = table
    beside = {"opt/state/step": np.asarray(3)} if prefix else {}
    named = {f"{prefix}{name}": array for name, array in arrays.items()}
    found = read(written(tmp_path / "file.npz", {**named, **beside}))
    assert equal(found.params, want)
    assert any("1 arrays beside" in line for line in found.account) == bool(prefix)


@pytest.mark.parametrize("slots", [1, 3])
def test_an_inflated_model_sees_in_a_still_clip_what_the_picture_showed(slots):
    source = transfer.read_source(f"augreg:{golden('vit', 'deep')}")
    model = {**source.model, "tubelet": (2, 4, 4), "tubelet_init": "average"}
    model |= {"attention": "factorised_encoder", "temporal_depth": 0}
    video = recipe.build(recipe.MODELS, model, "config.model")
    image: Any = recipe.build(recipe.MODELS, source.model, "config.model")
    clip = jnp.asarray(np.load(GOLDEN / "augreg.npz")["deep/image"])[:, None]
    still = clip.repeat(2 * slots, axis=1)
    shapes = jax.eval_shape(video.init, jax.random.key(0), still)["params"]
    shapes = {path: x.shape for path, x in by_path({"encoder": shapes}).items()}
    values, _ = fit(source, shapes, (slots, 3, 3), model)
    want = jax.jit(image.apply)({"params": as_tree(source.params)["encoder"]}, clip)
    found: Any = jax.jit(video.apply)({"params": as_tree(values)["encoder"]}, still)
    assert difference(found.summary, want.summary) < MOST


def test_bfloat16_is_read_though_numpy_does_not_know_it(tmp_path):
    arrays = dict(np.load(golden("vit", "wide")))
    halved = {name: np.asarray(jnp.asarray(x, jnp.bfloat16)) for name, x in arrays.items()}
    found = read(written(tmp_path / "file.npz", {k: x.view("V2") for k, x in halved.items()}))
    path = "encoder/tubelets/kernel"
    assert found.params[path].dtype == np.float32
    want = halved["embedding/kernel"].astype(np.float32)[None]
    np.testing.assert_array_equal(found.params[path], want)


@pytest.mark.parametrize("part", ["pre_logits/kernel", "MAPHead_0/probe", ""])
def test_of_a_head_that_we_do_not_have_the_encoder_is_left(part, tmp_path):
    arrays = dict(np.load(golden("vit", "wide")))
    encoder = {k: x for k, x in read(golden("vit", "wide")).params.items() if "head" not in k}
    if part:
        arrays[part] = np.ones((32, 32), np.float32)
    else:
        arrays = {name: x for name, x in arrays.items() if not name.startswith("head/")}
    found = read(written(tmp_path / "file.npz", arrays))
    assert found.experiment.objective["name"] == "encode"
    assert equal(found.params, encoder)
    account = "\n".join(found.account)
    assert not part or f"left     {part}" in account


def test_what_is_no_image_vit_is_refused(tmp_path):
    arrays = dict(np.load(golden("vit", "deep")))

    def refusal(**changes):
        changed = {k: x for k, x in {**arrays, **changes}.items() if x is not None}
        with pytest.raises(InputError) as caught:
            read(written(tmp_path / "file.npz", changed))
        return str(caught.value)

    kernel = {"embedding/kernel": np.ones((1, 1, 1024, 24), np.float32)}  # a hybrid's
    assert "embedding/kernel is (1, 1, 1024, 24); expected ([frames,] side, side" in refusal(
        **kernel
    )
    assert "holds 0 arrays named embedding/kernel" in refusal(**{"embedding/kernel": None})
    assert "unknown  Transformer/extra: (1,)" in refusal(**{"Transformer/extra": np.ones(1)})
    assert "missing  encoder/blocks/norm/bias" in refusal(**{"Transformer/encoder_norm/bias": None})
    table = {"Transformer/posembed_input/pos_embedding": np.ones((1, 8, 24), np.float32)}
    assert "8 positions are no square of patches" in refusal(**table)
    (tmp_path / "cut.npz").write_bytes(golden("vit", "deep").read_bytes()[:-500])
    with pytest.raises(InputError, match="is damaged or no .npz file"):
        read(tmp_path / "cut.npz")
