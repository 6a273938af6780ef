"""AV-MAE's models of video alone, from checkpoints that Scenic's own code wrote.

golden/av_mae_*.msgpack and av_mae.npz: made as those of test_scenic.py, of
projects/av_mae/vivit.py: ViViTMaskedAutoencoderModel (a mask drawn from key 2, what it fills in,
its loss_function of get_rgb_targets, divided by the output's width, and its features of whole
clips) and ViViTMAEClassificationFinetuningModel (its logits). "deep" has sinusoidal_1d positions,
random masks and all frames as targets, and the mean over tokens when fine-tuned; "wide" has
learned_space_time and learned_1d, tubes, the central frame, a projection without bias, and a class
token when fine-tuned.
"""

import pathlib

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from peers import MOST, difference, logits

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.objectives.masked_pixels import Drawn

GOLDEN = pathlib.Path(__file__).parent / "golden"
SHAPES = ("deep", "wide")


def source(kind, shape):
    return f"scenic:{GOLDEN / f'av_mae_{kind}_{shape}.msgpack'}"


@pytest.mark.parametrize("shape", SHAPES)
def test_pretraining_gives_av_maes_pixels_loss_and_features(shape):
    outputs = {
        name.split("/")[1]: x
        for name, x in np.load(GOLDEN / "av_mae.npz").items()
        if name.startswith(shape)
    }
    objective, params = pretrained.load(source("pretrain", shape))
    clips = len(outputs["video"])
    masked, visible = (
        np.stack([np.flatnonzero(row) for row in rows])
        for rows in (outputs["mask"], ~outputs["mask"])
    )
    drawn = Drawn(visible, masked, np.ones(masked.shape, np.float32))

    def run(params, video, drawn):
        def of(*given, method):
            return objective.apply({"params": params}, *given, method=method)

        features = objective.encoder.apply({"params": params["encoder"]}, video)
        filled, losses = of(video, drawn, method="fill_in"), of(video, drawn, method="losses")
        return filled, losses, features.tokens

    filled, losses, tokens = jax.jit(run)(
        params, *jax.tree.map(jnp.asarray, (outputs["video"], drawn))
    )
    theirs = outputs["filled"][np.arange(clips)[:, None], masked]
    assert difference(filled, theirs) < MOST
    assert difference(losses.mean(), outputs["loss"]) < MOST
    assert difference(tokens, outputs["features"]) < MOST


@pytest.mark.parametrize("shape", SHAPES)
def test_a_fine_tuned_model_gives_av_maes_logits(shape):
    outputs = np.load(GOLDEN / "av_mae.npz")
    ours = logits(*pretrained.load(source("finetune", shape)), outputs[f"{shape}/video"])
    assert difference(ours, outputs[f"{shape}/logits"]) < MOST


def test_clips_are_the_tables_own_and_else_the_published_configs():
    for kind, shape, frames, side in (
        ("pretrain", "wide", 6, 8),
        ("finetune", "wide", 6, 8),
        ("pretrain", "deep", 15, 224),
        ("finetune", "deep", 30, 224),
    ):
        data = pretrained.read(source(kind, shape)).experiment.data
        assert (data.frames, data.image_size) == (frames, side)
    account = "\n".join(pretrained.read(source("pretrain", "deep")).account)
    assert "its positions are not in the file" in account
    assert "90% at random" in account


def test_a_decoder_that_sees_a_class_token_is_refused(tmp_path):
    file = source("pretrain", "deep").removeprefix("scenic:")
    state = flax.serialization.msgpack_restore(pathlib.Path(file).read_bytes())
    state["params"]["cls"] = np.zeros((1, 1, 24), np.float32)
    (tmp_path / "file").write_bytes(flax.serialization.to_bytes(state))
    with pytest.raises(InputError, match="a masked autoencoder with a class token"):
        pretrained.read(f"scenic:{tmp_path / 'file'}")
