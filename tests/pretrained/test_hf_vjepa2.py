"""Hugging Face's V-JEPA 2, live: from a folder that it saved to ours, and back."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from peers import (
    CLIPS,
    MOST,
    assert_same_logits,
    back_from,
    clips_of,
    difference,
    equal,
    run,
    same,
    saved,
    to_torch,
    with_config,
)

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.models.layers import take
from vivit_jax.pretrained import hf_vjepa2, huggingface

torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="parity needs the extra `parity`")

SHAPES = {  # two that are unlike in everything
    "deep": {
        "hidden_size": 48,
        "num_attention_heads": 3,
        "num_hidden_layers": 3,
        "mlp_ratio": 35 / 16,
        "layer_norm_eps": 1e-4,
        "crop_size": 40,
        "patch_size": 8,
        "frames_per_clip": 4,
        "num_labels": 5,
        "num_pooler_layers": 2,
        "pred_hidden_size": 24,
        "pred_num_attention_heads": 2,
        "pred_num_hidden_layers": 1,
        "pred_num_mask_tokens": 10,
        "pred_mlp_ratio": 2,
    },
    "wide": {
        "hidden_size": 64,
        "num_attention_heads": 1,
        "num_hidden_layers": 2,
        "mlp_ratio": 1.5,
        "crop_size": 24,
        "patch_size": 4,
        "frames_per_clip": 6,
        "tubelet_size": 3,
        "num_labels": 7,
        "num_pooler_layers": 0,
        "pred_hidden_size": 32,
        "pred_num_attention_heads": 4,
        "pred_num_hidden_layers": 3,
        "pred_num_mask_tokens": 3,
    },
}


def save(form, shape, folder):
    """A model of theirs with random weights, saved in its own format."""
    config = transformers.VJEPA2Config(**SHAPES[shape])
    return saved(getattr(transformers, f"VJEPA2{form}"), config, folder)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_classifier_gives_the_same_logits_here_and_after_going_back(shape, tmp_path):
    model = save("ForVideoClassification", shape, tmp_path / "hf")
    left, rate = pretrained.read(f"hf:{tmp_path / 'hf'}").account
    assert left.startswith("  left     vjepa2.predictor.")
    assert "more: the predictor takes" in left
    assert "config.data.fps = 4" in rate
    assert_same_logits(model, tmp_path, leaving="predictor")


@pytest.mark.parametrize("shape", SHAPES)
def test_encoder_and_predictor_give_the_same_here_and_after_going_back(shape, tmp_path):
    model = save("Model", shape, tmp_path / "hf")
    config, video = model.config, clips_of(model.config)
    side = config.crop_size // config.patch_size
    axes = (config.frames_per_clip // config.tubelet_size, side, side)
    rng = np.random.default_rng(1)
    orders = np.stack([rng.permutation(np.prod(axes)) for _ in range(CLIPS)])
    visible, masked = np.sort(orders[:, :9]), np.sort(orders[:, 9:30])
    given = to_torch(video), [torch.from_numpy(visible)], [torch.from_numpy(masked)]
    with torch.no_grad():
        theirs = model(*given)

    def predict(module, video):  # theirs encodes all, picks, and puts mask token 1 everywhere
        tokens = module.encoder(video).tokens
        places = jnp.asarray(visible), jnp.asarray(masked)
        return tokens, module.predictor(take(tokens, places[0]), *places, axes, 1)

    ours = run(*pretrained.load(f"hf:{tmp_path / 'hf'}"), video, method=predict)
    predicted = theirs.predictor_output.last_hidden_state
    assert difference(ours[0], theirs.last_hidden_state) < MOST
    assert difference(ours[1], predicted) < MOST

    back = back_from(transformers.VJEPA2Model, tmp_path)
    with torch.no_grad():
        assert difference(back(*given).predictor_output.last_hidden_state, predicted) == 0
    assert same(back, model)


def test_an_encoder_without_a_predictor_comes_in_and_goes_back(tmp_path):
    folder = tmp_path / "hf"
    model = save("Model", "deep", folder)
    weights = huggingface.read_weights(folder)
    own = {name: value for name, value in weights.items() if name.startswith("encoder.")}
    safetensors.numpy.save_file(own, folder / huggingface.WEIGHTS)
    found = pretrained.read(f"hf:{folder}")
    assert found.experiment.objective["name"] == "encode"
    back = back_from(type(model), tmp_path)
    assert same(back, model, leaving="predictor")
    again = pretrained.read(f"hf:{tmp_path / 'back'}")
    assert equal(found.params, again.params)


def test_the_short_side_that_their_processor_resizes_to_is_evaluation_s(tmp_path):
    save("Model", "deep", tmp_path / "hf")
    back_from(transformers.VJEPA2Model, tmp_path)
    found = pretrained.read(f"hf:{tmp_path / 'back'}").experiment
    written = json.loads((tmp_path / "back" / huggingface.PREPROCESSOR).read_text())
    assert written["video_processor_type"] == "VJEPA2VideoProcessor"
    assert written["size"] == {"shortest_edge": 40 * 256 // 224}
    assert found.eval.resize == 40 * 256 // 224


def test_colours_are_read_where_a_processor_of_videos_was_saved(tmp_path):
    save("Model", "deep", tmp_path / "hf")
    text = json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]})
    (tmp_path / "hf" / "video_preprocessor_config.json").write_text(text)
    model = pretrained.read(f"hf:{tmp_path / 'hf'}").experiment.model
    assert (model["mean"], model["std"]) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_which_mask_token_they_take_is_told(tmp_path):
    save("Model", "deep", tmp_path / "hf")
    account = "\n".join(pretrained.read(f"hf:{tmp_path / 'hf'}").account)
    assert "puts mask token 1 at every hidden place; pretraining put 0" in account


def test_widths_that_no_ratio_of_theirs_gives_back_by_itself_are_met():
    missed = [(i, w) for w in (24, 384, 1408) for i in range(1, 4 * w)]
    assert all(int(w * hf_vjepa2.ratio(i, w)) == i for i, w in missed)


def test_what_they_have_no_model_for_is_refused_by_name(tmp_path):
    save("ForVideoClassification", "wide", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    found.experiment.objective["pooler_norm_eps"] = 1e-5
    with pytest.raises(InputError, match=r"objective.pooler_norm_eps = 1e-05, and it has 1e-06"):
        hf_vjepa2.express(found)


def test_a_form_that_nobody_trained_is_refused(tmp_path):
    save("Model", "wide", tmp_path / "hf")
    with_config(tmp_path / "hf", {"hidden_act": "silu"})
    with pytest.raises(InputError, match=r"hidden_act = 'silu'; expected 'gelu', as all published"):
        pretrained.read(f"hf:{tmp_path / 'hf'}")
