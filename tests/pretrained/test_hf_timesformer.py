"""Hugging Face's TimeSformer, live: from a folder that it saved to ours, and back."""

import dataclasses

import jax.numpy as jnp
import pytest
import safetensors.numpy
from einops import rearrange
from peers import (
    MOST,
    assert_same_logits,
    back_from,
    clips,
    clips_of,
    difference,
    equal,
    features,
    logits,
    saved,
    to_torch,
    with_config,
)

from vivit_jax import pretrained
from vivit_jax.errors import InputError
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
        "patch_size": 8,
        "num_frames": 3,
        "num_labels": 5,
    },
    "wide": {
        "hidden_size": 64,
        "num_attention_heads": 4,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "image_size": 12,
        "patch_size": 4,
        "num_frames": 8,
        "num_labels": 7,
        "hidden_act": "gelu_fast",
        "layer_norm_eps": 1e-3,
        "id2label": {i: f"dance {i}" for i in range(7)},
    },
}
FORMS = ("divided_space_time", "joint_space_time")


def save(form, shape, folder, kind="divided_space_time"):
    """A model of theirs with random weights, saved in its own format."""
    config = transformers.TimesformerConfig(**SHAPES[shape], attention_type=kind)
    return saved(getattr(transformers, f"Timesformer{form}"), config, folder)


@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_classifier_gives_the_same_logits_here_and_after_going_back(shape, kind, tmp_path):
    model = save("ForVideoClassification", shape, tmp_path / "hf", kind)
    assert_same_logits(model, tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
def test_an_encoder_alone_gives_the_same_features_here_and_after_going_back(shape, tmp_path):
    model = save("Model", shape, tmp_path / "hf")
    video = clips_of(model.config)
    with torch.no_grad():
        theirs = model(to_torch(video)).last_hidden_state.numpy()
    ours = features(*pretrained.load(f"hf:{tmp_path / 'hf'}"), video)
    assert difference(ours.summary, theirs[:, 0]) < MOST
    frames = model.config.num_frames
    raster = rearrange(theirs[:, 1:], "b (s t) d -> b (t s) d", t=frames)  # time is their fastest
    assert difference(ours.tokens, raster) < MOST

    back = back_from(type(model), tmp_path)
    with torch.no_grad():
        assert difference(back(to_torch(video)).last_hidden_state, theirs) == 0


@pytest.mark.parametrize("form", ["ForVideoClassification", "Model"])
def test_names_as_published_and_as_in_memory_are_the_same(form, tmp_path):
    model = save(form, "deep", tmp_path / "hf")
    published = pretrained.read(f"hf:{tmp_path / 'hf'}").params
    memory = {name: value.numpy() for name, value in model.state_dict().items()}
    safetensors.numpy.save_file(memory, tmp_path / "hf" / huggingface.WEIGHTS)
    again = pretrained.read(f"hf:{tmp_path / 'hf'}").params
    assert equal(published, again)


def test_space_only_is_the_original_s_with_a_mean_over_frames_and_goes_in_alone(tmp_path):
    model = save("ForVideoClassification", "deep", tmp_path / "hf", "space_only")
    video = clips_of(model.config)
    with torch.no_grad():
        inner = model.timesformer
        every = inner.encoder(inner.embeddings(to_torch(video))).last_hidden_state
        tokens = rearrange(every, "(b t) n d -> b t n d", b=len(video)).mean(1)
        theirs = model.classifier(inner.layernorm(tokens)[:, 0])
        assert len(model(to_torch(video)).logits) == video.shape[0] * video.shape[1]  # not a clip's
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert "Hugging Face's gives logits for every frame; here tokens" in "\n".join(found.account)
    assert difference(logits(*found.build(), video), theirs) < MOST
    with pytest.raises(InputError, match=r"timesformer: config\.model\.attention = 'space_only', "):
        huggingface.write(found, tmp_path)


def test_clips_as_published_are_read_at_their_rate_and_by_their_names(tmp_path):
    save("ForVideoClassification", "wide", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert found.label_maps == (tuple(f"dance {i}" for i in range(7)),)
    assert (found.experiment.data.frames, found.experiment.data.stride) == (8, 32)
    assert found.experiment.model["gelu"] == "tanh"
    assert "config.data.stride = 32, as published ones were trained" in "\n".join(found.account)


def test_pixels_become_what_their_preprocessor_makes_of_them_and_that_is_told(tmp_path):
    save("ForVideoClassification", "deep", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert found.experiment.model["mean"] == (0.45, 0.45, 0.45)
    assert "there is no preprocessor_config.json: mean = (0.45" in "\n".join(found.account)
    huggingface.write(found, new := tmp_path / "hf")  # with its preprocessor
    again = pretrained.read(f"hf:{new}")
    assert again.experiment.model == found.experiment.model
    assert "preprocessor" not in "\n".join(again.account)
    file = new / huggingface.PREPROCESSOR
    file.write_text('{"image_mean": [0.4, 0.5, 0.6], "image_std": 0.5}')
    again = pretrained.read(f"hf:{new}")
    assert again.experiment.model["mean"] == (0.4, 0.5, 0.6)
    assert again.experiment.model["std"] == (0.5, 0.5, 0.5)
    assert "published TimeSformers want mean = (0.45" in "\n".join(again.account)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_frames": 6}, r"num_frames = 6 make 6 positions, and .*time_emb\S+ is \(1, 3, 48\)"),
        ({"image_size": 64}, r"image_size = 64 and patch_size = 8 make 65 positions"),
        ({"patch_size": [8, 4]}, r"patch_size = \[8, 4\]; expected a number of pixels"),
        (
            {"attention_type": "both"},
            r"attention_type = 'both'; expected one of divided_space_time",
        ),
        ({"attention_type": "joint_space_time"}, r"unknown  timesformer\S+temporal_dense\.weight"),
        ({"qkv_bias": False}, "qkv_bias = False; expected True"),
        ({"num_hidden_layers": 4}, r"missing  encoder/blocks/block_\*/zero_dense/kernel"),
    ],
)
def test_a_config_that_contradicts_the_weights_is_refused(changed, message, tmp_path):
    save("ForVideoClassification", "deep", tmp_path / "hf")
    with_config(tmp_path / "hf", changed)
    with pytest.raises(InputError, match=message):
        pretrained.read(f"hf:{tmp_path / 'hf'}")


def test_a_clip_of_another_length_never_passes_in_silence(tmp_path):
    """Theirs gives wrong numbers for twice the frames, of any shape that can be cut so."""
    model = save("ForVideoClassification", "deep", tmp_path / "hf")
    video = clips(2 * model.config.num_frames, model.config.image_size)
    objective, params = pretrained.load(f"hf:{tmp_path / 'hf'}")
    with pytest.raises(Exception, match="position_time"):
        objective.apply({"params": params}, {"video": jnp.asarray(video)}, method="predict")


def test_tubelets_of_several_frames_are_no_timesformer_s(tmp_path):
    save("Model", "deep", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    model = {**found.experiment.model, "tubelet": (3, 8, 8)}
    experiment = dataclasses.replace(found.experiment, model=model)
    with pytest.raises(InputError, match=r"timesformer: config\.model\.tubelet = \(3, 8, 8\), and"):
        huggingface.write(found._replace(experiment=experiment), tmp_path)
