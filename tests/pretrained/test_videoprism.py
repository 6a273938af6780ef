"""VideoPrism's files against what its own modules made of them.

golden/videoprism_*.npz are files as that project's `save`d trees are, names joined by "/"; every
weight is random, queries and keys large enough that the cap on logits bends them. They and
golden/videoprism_*_features.npz (uint8 videos, and features of the same over 255) were made with
github.com/google-deepmind/videoprism at commit d481d91: `FactorizedEncoder` for "deep" and "wide",
`FactorizedVideoCLIP` for "lvt" and `FactorizedVideoClassifier` for "vc", all with
atten_logit_cap=50 and scan=True, weights from numpy's default_rng(1), videos from default_rng(7);
of "deep" and "wide" also one of more frames and fewer pixels from default_rng(8), for which that
code interpolates its positions. Of "lvt" and "vc" the features are `spatiotemporal_features`.
"""

import pathlib

import numpy as np
import pytest
from peers import MOST, difference, features

from vivit_jax import pretrained, transfer
from vivit_jax.errors import InputError
from vivit_jax.fitting import fit
from vivit_jax.pretrained import videoprism
from vivit_jax.pretrained.rules import to_theirs
from vivit_jax.trees import as_tree

GOLDEN = pathlib.Path(__file__).with_name("golden")
FIELDS = {  # what the shapes of the files tell
    "deep": {"depth": 3, "temporal_depth": 1, "width": 24, "heads": 3, "mlp_dim": 40},
    "wide": {"depth": 1, "temporal_depth": 2, "width": 30, "heads": 5, "mlp_dim": 44},
}


def golden(name):
    """The source of a file, and the arrays beside it."""
    features = np.load(GOLDEN / f"videoprism_{name}_features.npz")
    return f"videoprism:{GOLDEN / f'videoprism_{name}.npz'}", features


@pytest.mark.parametrize("shape", FIELDS)
def test_an_encoder_gives_the_same_embeddings_as_a_row_for_each_place(shape):
    source, given = golden(shape)
    objective, params = pretrained.load(source)
    found = features(objective, params, given["video"])
    assert difference(found.tokens, given["embeddings"]) < MOST
    assert difference(found.summary, given["embeddings"].mean(axis=1)) < MOST
    assert {name: getattr(objective.encoder, name) for name in FIELDS[shape]} == FIELDS[shape]


@pytest.mark.parametrize("shape", FIELDS)
def test_a_clip_of_another_size_gets_the_positions_that_theirs_gets(shape):
    source, given = golden(shape)
    objective = pretrained.load(source)[0]
    video = given["other_video"]
    read = transfer.read_source(source)
    axes = objective.encoder.grid(*video.shape[1:4])
    target = {path: array.shape for path, array in read.params.items()}
    for stack, rows in (("space", axes[1] * axes[2]), ("time", axes[0])):
        target[f"encoder/{stack}/position"] = (1, rows, objective.encoder.width)
    values, account = fit(read, target, axes, read.model)
    assert sum("resized" in line for line in account) == 2
    found = features(objective, as_tree(values), video).tokens
    assert difference(found, given["other_embeddings"]) < MOST


@pytest.mark.parametrize("name", ["lvt", "vc"])
def test_of_larger_models_the_video_encoder_is_read_and_the_rest_told(name):
    source, given = golden(name)
    found = features(*pretrained.load(source), given["video"]).tokens
    assert difference(found, given["embeddings"]) < MOST
    account = "\n".join(pretrained.read(source).account)
    part, why = {
        "lvt": ("auxiliary_encoder", "compared with texts"),
        "vc": ("atten_pooler", "pooling"),
    }[name]
    (line,) = (line for line in account.splitlines() if f"left     params/{part}/" in line)
    assert why in line


@pytest.mark.parametrize("shape", FIELDS)
def test_going_back_is_exact_down_to_the_scales_of_norms(shape):
    source, _ = golden(shape)
    arrays = dict(np.load(GOLDEN / f"videoprism_{shape}.npz"))
    read = pretrained.read(source)
    back = to_theirs(videoprism.rules("params"), read.params, "the file")
    assert back.keys() == arrays.keys()
    assert all((back[name] == arrays[name]).all() for name in arrays)


def test_the_cap_that_a_file_cannot_tell_is_told():
    account = "\n".join(pretrained.read(golden("deep")[0]).account)
    assert "attention logits are capped at 50, which the file does not tell" in account


def test_weights_whose_norms_store_another_scale_are_refused():
    source, _ = golden("deep")
    model = {**transfer.read_source(source).model, "norm_offset": 0.0}
    with pytest.raises(InputError, match=r"set config\.model\.norm_offset = 1\."):
        transfer.load(source, {}, (5, 3, 3), model)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"params/extra": (3,)}, r"unknown  params/extra: \(3,\)"),
        ({"params/spatial_ln/bias": None}, r"missing  encoder/space/norm/bias: \(24,\)"),
        ({"params/temporal_ln/scale": (23,)}, r"\(23,\); encoder/time/norm/scale is \(24,\)"),
        ({"params/spatial_pos_emb/emb_var": (8, 24)}, "8 positions are no square of patches"),
        ({"params/patch_projection/linear/kernel": (100, 24)}, "100 values a patch are no square"),
        (
            {"params/temporal_pos_emb/emb_var": None},
            "has no params/temporal_pos_emb/emb_var; it begins with params/",
        ),
        (
            {"params/temporal_pos_emb/emb_var": (1, 5, 24)},
            r"params/temporal_pos_emb/emb_var is \(1, 5, 24\); expected 2 axes",
        ),
    ],
)
def test_a_file_that_is_not_quite_one_is_refused_by_what_differs(change, message, tmp_path):
    arrays = dict(np.load(GOLDEN / "videoprism_deep.npz"))
    for name, shape in change.items():
        arrays.pop(name, None)
        arrays |= {} if shape is None else {name: np.ones(shape, np.float32)}
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        pretrained.read(f"videoprism:{tmp_path / 'x.npz'}")
