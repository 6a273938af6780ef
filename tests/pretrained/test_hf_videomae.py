"""Hugging Face's VideoMAE, live: from a folder that it saved to ours, and back."""

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
    run,
    same,
    saved,
    to_torch,
)

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.objectives.masked_pixels import Drawn
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
        "num_frames": 4,
        "num_labels": 5,
        "decoder_hidden_size": 24,
        "decoder_num_attention_heads": 2,
        "decoder_num_hidden_layers": 1,
        "decoder_intermediate_size": 40,
        "norm_pix_loss": False,
    },
    "wide": {
        "hidden_size": 64,
        "num_attention_heads": 1,
        "num_hidden_layers": 2,
        "intermediate_size": 96,
        "image_size": 24,
        "patch_size": 4,
        "num_frames": 6,
        "tubelet_size": 3,
        "num_labels": 7,
        "decoder_hidden_size": 32,
        "decoder_num_attention_heads": 4,
        "decoder_num_hidden_layers": 3,
        "decoder_intermediate_size": 128,
        "hidden_act": "gelu_fast",
    },
}


def save(form, shape, folder, **options):
    """A model of theirs with random weights, saved in its own format."""
    config = transformers.VideoMAEConfig(**SHAPES[shape], **options)
    return saved(getattr(transformers, f"VideoMAEFor{form}"), config, folder)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_classifier_gives_the_same_logits_here_and_after_going_back(shape, tmp_path):
    assert_same_logits(save("VideoClassification", shape, tmp_path / "hf"), tmp_path)


@pytest.mark.parametrize("shape", SHAPES)
def test_pretraining_gives_the_same_loss_here_and_after_going_back(shape, tmp_path):
    model = save("PreTraining", shape, tmp_path / "hf", use_mean_pooling=False)
    config, video = model.config, clips_of(model.config)
    slots = config.num_frames // config.tubelet_size
    cells = (config.image_size // config.patch_size) ** 2
    order = np.random.default_rng(1).permutation(cells)
    hidden = np.zeros((slots, cells), bool)
    hidden[:, order[: 3 * cells // 4]] = True
    masked, visible = (np.flatnonzero(x)[None].repeat(CLIPS, 0) for x in (hidden, ~hidden))
    mask = torch.from_numpy(hidden.reshape(1, -1).repeat(CLIPS, 0))
    with torch.no_grad():
        theirs = model(to_torch(video), bool_masked_pos=mask).loss

    drawn = Drawn(visible, masked, np.ones(masked.shape, np.float32))
    losses = run(*pretrained.load(f"hf:{tmp_path / 'hf'}"), video, drawn, method="losses")
    assert difference(losses.mean(), theirs) < MOST

    back = back_from(type(model), tmp_path)
    with torch.no_grad():
        assert difference(back(to_torch(video), bool_masked_pos=mask).loss, theirs) == 0
    assert same(back, model)


def test_a_head_of_another_width_than_64_is_told(tmp_path):
    save("VideoClassification", "deep", tmp_path / "hf")
    account = "\n".join(pretrained.read(f"hf:{tmp_path / 'hf'}").account)
    assert "num_attention_heads = 3 makes heads of 16, and VideoMAE's have 64" in account


def test_what_is_left_over_or_missing_is_listed(tmp_path):
    save("VideoClassification", "deep", tmp_path / "hf")
    weights = huggingface.read_weights(tmp_path / "hf")
    weights["videomae.extra.weight"] = weights.pop("fc_norm.weight")
    safetensors.numpy.save_file(weights, tmp_path / "hf" / huggingface.WEIGHTS)
    with pytest.raises(InputError) as caught:
        pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert "unknown  videomae.extra.weight: (48,)" in str(caught.value)
    assert "missing  encoder/blocks/summary_norm/scale: (48,)" in str(caught.value)
