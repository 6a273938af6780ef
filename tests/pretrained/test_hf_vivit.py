"""Hugging Face's ViViT, live: from a folder that it saved to ours, and back."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from peers import (
    MOST,
    assert_same_logits,
    back_from,
    clips_of,
    difference,
    equal,
    features,
    saved,
    to_torch,
    with_config,
)

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.models.video_transformer import normalise
from vivit_jax.pretrained import huggingface

torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="parity needs the extra `parity`")

SHAPES = {  # two that are unlike in everything
    "deep": {
        "hidden_size": 48,
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
        "intermediate_size": 80,
        "image_size": 32,
        "num_frames": 4,
        "tubelet_size": [2, 8, 8],
        "num_labels": 5,
    },
    "wide": {
        "hidden_size": 64,
        "num_attention_heads": 1,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "image_size": 24,
        "num_frames": 9,
        "tubelet_size": [3, 4, 6],
        "num_labels": 7,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-3,
        "id2label": {i: f"dance {i}" for i in range(7)},
    },
}


def save(form, shape, folder):
    """A model of theirs with random weights, saved in its own format."""
    config = transformers.VivitConfig(**SHAPES[shape])
    return saved(getattr(transformers, f"Vivit{form}"), config, folder)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_classifier_gives_the_same_logits_here_and_after_going_back(shape, tmp_path):
    model = save("ForVideoClassification", shape, tmp_path / "hf")
    assert_same_logits(model, tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_encoder_alone_gives_the_same_features_here_and_after_going_back(shape, tmp_path):
    model = save("Model", shape, tmp_path / "hf")
    video = clips_of(model.config)
    with torch.no_grad():
        theirs = model(to_torch(video)).last_hidden_state
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert found.experiment.objective["name"] == "encode"
    assert "left     pooler.dense.bias and 1 more: a layer on the class token" in "\n".join(
        found.account
    )
    objective, params = found.build()
    ours = features(objective, params, video)
    assert difference(ours.summary, theirs[:, 0]) < MOST
    assert difference(ours.tokens, theirs[:, 1:]) < MOST

    back = back_from(type(model), tmp_path, lacking=("pooler.",))
    with torch.no_grad():
        assert difference(back(to_torch(video)).last_hidden_state, theirs) == 0


@pytest.mark.parametrize("form", ["ForVideoClassification", "Model"])
def test_names_as_published_and_as_in_memory_are_the_same_model(form, tmp_path):
    model = save(form, "deep", tmp_path / "hf")
    published = pretrained.read(f"hf:{tmp_path / 'hf'}").params
    names = " ".join(huggingface.read_weights(tmp_path / "hf"))
    assert "encoder.layer.0.attention.attention.query" in names
    memory = {name: value.numpy() for name, value in model.state_dict().items()}
    assert "layers.0.attention.q_proj" in " ".join(memory)
    safetensors.numpy.save_file(memory, tmp_path / "hf" / huggingface.WEIGHTS)
    again = pretrained.read(f"hf:{tmp_path / 'hf'}").params
    assert equal(published, again)


def test_clips_as_published_are_read_at_their_rate_and_by_their_names(tmp_path):
    save("ForVideoClassification", "wide", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert found.label_maps == (tuple(f"dance {i}" for i in range(7)),)
    assert (found.experiment.data.frames, found.experiment.data.stride) == (9, 2)
    assert found.experiment.model["gelu"] == "erf"
    assert found.experiment.model["norm_eps"] == 1e-3


NORMALISED = {"image_mean": [0.3, 0.4, 0.5], "image_std": [0.2, 0.3, 0.4]}


@pytest.mark.parametrize(
    ("told", "note"),
    [
        ({"do_normalize": False}, ""),
        ({"offset": False, "rescale_factor": 1 / 255}, ""),
        (NORMALISED, "published ViViTs want mean"),
        ({**NORMALISED, "offset": False, "rescale_factor": 1 / 255}, "published ViViTs want mean"),
    ],
)
def test_pixels_become_what_their_preprocessor_makes_of_them(told, note, tmp_path):
    save("ForVideoClassification", "deep", tmp_path / "hf")
    side = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    theirs = transformers.VivitImageProcessor(**side, **told)
    theirs.save_pretrained(tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert note in "\n".join(found.account)
    assert_pixels(theirs, found)
    back_from(transformers.VivitForVideoClassification, tmp_path)
    assert_pixels(transformers.VivitImageProcessor.from_pretrained(tmp_path / "back"), found)
    again = pretrained.read(f"hf:{tmp_path / 'back'}").experiment
    assert again.model == found.experiment.model


def assert_pixels(processor, found):
    """Asserts that pixels become the same by a preprocessor of theirs and by our model."""
    side, model = found.experiment.data.image_size, found.experiment.model
    pixels = np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8)
    theirs = processor(list(pixels), return_tensors="np")["pixel_values"]
    ours = normalise(jnp.asarray(pixels[None]), model["mean"], model["std"])
    assert difference(ours, theirs.transpose(0, 1, 3, 4, 2)) < 1e-5


def test_a_preprocessor_that_centres_twice_is_not_followed_and_that_is_told(tmp_path):
    save("ForVideoClassification", "deep", tmp_path / "hf")
    transformers.VivitImageProcessor().save_pretrained(tmp_path / "hf")  # as they come
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert found.experiment.model["mean"] == found.experiment.model["std"] == (0.5, 0.5, 0.5)
    account = "\n".join(found.account)
    assert "normalises them to [-3, 1]; published ViViTs were trained on [-1, 1]" in account
    assert "give config.model.mean = (0.75, 0.75, 0.75)" in account


def test_without_a_preprocessor_the_published_colours_are_assumed_and_that_is_told(tmp_path):
    save("ForVideoClassification", "deep", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert found.experiment.model["mean"] == found.experiment.model["std"] == (0.5, 0.5, 0.5)
    assert "there is no preprocessor_config.json: mean = (0.5" in "\n".join(found.account)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_frames": 8}, r"num_frames = 8, .* make 65 positions, and .* is \(1, 33, 48\)"),
        ({"image_size": 64}, r"image_size = 64 .* make 129 positions"),
        (
            {"image_size": [32, 24]},
            r"image_size = \[32, 24\]; expected a number of pixels, the same",
        ),
        ({"tubelet_size": [2, 8]}, r"tubelet_size = \[2, 8\]; expected three"),
        ({"qkv_bias": False}, "qkv_bias = False; expected True"),
        ({"hidden_act": "relu"}, r"hidden_act = 'relu'; expected one of gelu, "),
        ({"num_hidden_layers": 4}, r"missing  encoder/blocks/block_\*/mlp_in/kernel: \(48, 80\)"),
        ({"num_hidden_layers": 2}, r"unknown  vivit\.encoder\.layer\.2\.\S+: would be"),
        ({"num_attention_heads": None}, "num_attention_heads = None; expected int"),
        ({"num_attention_heads": 5}, r"model\.heads = 5 does not divide model\.width = 48"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(changed, message, tmp_path):
    save("ForVideoClassification", "deep", tmp_path / "hf")
    with_config(tmp_path / "hf", changed)
    with pytest.raises(InputError, match=message):
        pretrained.read(f"hf:{tmp_path / 'hf'}")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"attention": "divided"}, "attention = 'divided', and it has 'joint'"),
        ({"positions": "sincos_3d"}, "positions = 'sincos_3d', and it has 'learned'"),
        ({"closing_norm_eps": 1e-5}, "closing_norm_eps = 1e-05, and it has 0.0"),
    ],
)
def test_a_model_that_hugging_face_has_not_is_refused_by_what_differs(changed, message, tmp_path):
    save("Model", "deep", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    model = {**found.experiment.model, **changed}
    experiment = dataclasses.replace(found.experiment, model=model)
    with pytest.raises(InputError, match=rf"vivit: config\.model\.{message}"):
        huggingface.write(found._replace(experiment=experiment), tmp_path)


def test_what_learns_otherwise_than_by_labels_is_refused_by_its_objective(tmp_path):
    save("Model", "deep", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    experiment = dataclasses.replace(found.experiment, objective={"name": "latent_prediction"})
    with pytest.raises(InputError, match=r"vivit: config\.objective\.name = 'latent_prediction'"):
        huggingface.write(found._replace(experiment=experiment), tmp_path)
