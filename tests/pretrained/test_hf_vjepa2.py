"""Hugging Face's V-JEPA 2, live: from a folder that it saved to ours, and back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import CLIPS, MOST, clips, difference, to_torch
from torch_weights import randomised

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


def saved(cls, shape, folder, **options):
    """A model of theirs with random weights, saved in its own format."""
    torch.manual_seed(0)
    config = transformers.VJEPA2Config(**SHAPES[shape], **options)
    model = randomised(getattr(transformers, cls)(config))
    model.save_pretrained(folder)
    return model


def video_of(config):
    return clips(config.frames_per_clip, config.crop_size)


def back_from(folder, cls):
    """Their model from a folder that ours wrote, from a folder of theirs."""
    back = folder.with_name("back")
    back.mkdir()
    huggingface.write(pretrained.read(f"hf:{folder}"), back)
    model, account = getattr(transformers, cls).from_pretrained(back, output_loading_info=True)
    assert not any(account.values())
    return model.eval()


def same(back, model, leaving="no such name"):
    """Whether all parameters are equal, but for those of a name."""
    theirs, ours = (
        {name: value for name, value in x.state_dict().items() if leaving not in name}
        for x in (model, back)
    )
    return theirs.keys() == ours.keys() and all(torch.equal(v, ours[k]) for k, v in theirs.items())


@pytest.mark.parametrize("shape", SHAPES)
def test_a_classifier_gives_the_same_logits_here_and_after_going_back(shape, tmp_path):
    model = saved("VJEPA2ForVideoClassification", shape, tmp_path / "hf")
    video = video_of(model.config)
    with torch.no_grad():
        theirs = model(to_torch(video)).logits
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    left, rate = found.account
    assert left.startswith("  left     vjepa2.predictor.")
    assert "more: the predictor takes" in left
    assert "config.data.fps = 4" in rate
    objective, params = found.build()
    ours = jax.jit(lambda p, v: objective.apply({"params": p}, {"video": v}, method="predict"))(
        params, video
    )
    assert difference(ours, theirs) < MOST

    back = back_from(tmp_path / "hf", "VJEPA2ForVideoClassification")
    with torch.no_grad():
        assert difference(back(to_torch(video)).logits, theirs) == 0
    assert same(back, model, leaving="predictor")


@pytest.mark.parametrize("shape", SHAPES)
def test_encoder_and_predictor_give_the_same_here_and_after_going_back(shape, tmp_path):
    model = saved("VJEPA2Model", shape, tmp_path / "hf")
    config, video = model.config, video_of(model.config)
    side = config.crop_size // config.patch_size
    axes = (config.frames_per_clip // config.tubelet_size, side, side)
    rng = np.random.default_rng(1)
    orders = np.stack([rng.permutation(np.prod(axes)) for _ in range(CLIPS)])
    visible, masked = np.sort(orders[:, :9]), np.sort(orders[:, 9:30])
    given = to_torch(video), [torch.from_numpy(visible)], [torch.from_numpy(masked)]
    with torch.no_grad():
        theirs = model(*given)

    objective, params = pretrained.load(f"hf:{tmp_path / 'hf'}")

    def run(module, video):  # theirs encodes all, picks, and puts mask token 1 everywhere
        tokens = module.encoder(video).tokens
        places = jnp.asarray(visible), jnp.asarray(masked)
        return tokens, module.predictor(take(tokens, places[0]), *places, axes, 1)

    ours = jax.jit(lambda p, v: objective.apply({"params": p}, v, method=run))(params, video)
    predicted = theirs.predictor_output.last_hidden_state
    assert difference(ours[0], theirs.last_hidden_state) < MOST
    assert difference(ours[1], predicted) < MOST

    back = back_from(tmp_path / "hf", "VJEPA2Model")
    with torch.no_grad():
        assert difference(back(*given).predictor_output.last_hidden_state, predicted) == 0
    assert same(back, model)


def test_an_encoder_without_a_predictor_comes_in_and_goes_back(tmp_path):
    model = saved("VJEPA2Model", "deep", tmp_path / "whole")
    weights = huggingface.read_weights(tmp_path / "whole")
    own = {name: value for name, value in weights.items() if name.startswith("encoder.")}
    folder = tmp_path / "whole"
    huggingface.safetensors.numpy.save_file(own, folder / huggingface.WEIGHTS)
    found = pretrained.read(f"hf:{folder}")
    assert found.experiment.objective["name"] == "encode"
    back = back_from(folder, "VJEPA2Model")
    assert same(back, model, leaving="predictor")
    again = pretrained.read(f"hf:{tmp_path / 'back'}")
    assert found.params.keys() == again.params.keys()
    assert all(np.array_equal(value, again.params[path]) for path, value in found.params.items())


def test_the_short_side_that_their_processor_resizes_to_is_evaluation_s(tmp_path):
    saved("VJEPA2Model", "deep", tmp_path / "hf")
    back_from(tmp_path / "hf", "VJEPA2Model")
    found = pretrained.read(f"hf:{tmp_path / 'back'}").experiment
    written = json.loads((tmp_path / "back" / huggingface.PREPROCESSOR).read_text())
    assert written["video_processor_type"] == "VJEPA2VideoProcessor"
    assert written["size"] == {"shortest_edge": 40 * 256 // 224}
    assert found.eval.resize == 40 * 256 // 224


def test_colours_are_read_where_a_processor_of_videos_was_saved(tmp_path):
    saved("VJEPA2Model", "deep", tmp_path / "hf")
    text = json.dumps({"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]})
    (tmp_path / "hf" / "video_preprocessor_config.json").write_text(text)
    model = pretrained.read(f"hf:{tmp_path / 'hf'}").experiment.model
    assert (model["mean"], model["std"]) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))


def test_which_mask_token_they_take_is_told(tmp_path):
    saved("VJEPA2Model", "deep", tmp_path / "hf")
    account = "\n".join(pretrained.read(f"hf:{tmp_path / 'hf'}").account)
    assert "puts mask token 1 at every hidden place; pretraining put 0" in account


def test_widths_that_no_ratio_of_theirs_gives_back_by_itself_are_met():
    missed = [(i, w) for w in (24, 384, 1408) for i in range(1, 4 * w)]
    assert all(int(w * hf_vjepa2.ratio(i, w)) == i for i, w in missed)


def test_what_they_have_no_model_for_is_refused_by_name(tmp_path):
    saved("VJEPA2ForVideoClassification", "wide", tmp_path / "hf")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    found.experiment.objective["pooler_norm_eps"] = 1e-5
    with pytest.raises(InputError, match=r"objective.pooler_norm_eps = 1e-05, and it has 1e-06"):
        hf_vjepa2.express(found)


def test_a_form_that_nobody_trained_is_refused(tmp_path):
    saved("VJEPA2Model", "wide", tmp_path / "hf")
    file = tmp_path / "hf" / huggingface.CONFIG
    file.write_text(json.dumps(json.loads(file.read_text()) | {"hidden_act": "silu"}))
    with pytest.raises(InputError, match=r"hidden_act = 'silu'; expected 'gelu', as all published"):
        pretrained.read(f"hf:{tmp_path / 'hf'}")
