"""Scenic's ViViT, from checkpoints that its own code wrote.

golden/scenic_*.msgpack and scenic.npz: google-research/scenic at 4a38d47, under jax 0.10.2 and flax
0.12.8. projects/vivit/model.py's ViViTClassificationModel of each attention type, in two shapes,
with every parameter drawn anew (a scale's around one, all others' around zero, standard deviation
0.3, NumPy's generator of seed 1); train_lib's TrainState of it by flax.serialization.to_bytes; its
logits of two clips, normal numbers of seed 0, with matmuls at full precision. Optimiser-era files
are these trees in another place, since no optimiser of flax's own is left to write them.
"""

import pathlib

import flax.serialization
import numpy as np
import pytest
from peers import MOST, difference, equal, logits

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.pretrained import scenic
from vivit_jax.trees import as_tree

GOLDEN = pathlib.Path(__file__).parent / "golden"
IMAGE = np.load(GOLDEN / "augreg_vit_wide.npz")
MODELS = {
    "joint": "joint",
    "fe": "factorised_encoder",
    "fsa": "factorised_self_attention",
    "fdpa": "factorised_dot_product",
}
SIZES = {
    "deep": {"width": 24, "heads": 4, "depth": 3, "mlp_dim": 36, "tubelet": (3, 4, 4)},
    "wide": {"width": 32, "heads": 2, "depth": 2, "mlp_dim": 20, "tubelet": (2, 2, 2)},
}


def golden(kind, shape):
    return GOLDEN / f"scenic_{kind}_{shape}.msgpack"


def params_of(file):
    return flax.serialization.msgpack_restore(file.read_bytes())["params"]


def written(path, state):
    path.write_bytes(flax.serialization.to_bytes(state))
    return path


def refusal(path):
    with pytest.raises(InputError) as caught:
        pretrained.read(f"scenic:{path}")
    return str(caught.value)


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("kind", MODELS)
def test_a_classifier_gives_scenics_logits(kind, shape):
    outputs = np.load(GOLDEN / "scenic.npz")
    ours = logits(*pretrained.load(f"scenic:{golden(kind, shape)}"), outputs[f"{shape}/video"])
    assert difference(ours, outputs[f"{shape}/{kind}"]) < MOST


@pytest.mark.parametrize("shape", SIZES)
@pytest.mark.parametrize("kind", MODELS)
def test_sizes_arrangement_and_clip_are_read_from_shapes(kind, shape):
    experiment = pretrained.read(f"scenic:{golden(kind, shape)}").experiment
    model = experiment.model
    assert model["attention"] == MODELS[kind]
    assert {name: model[name] for name in SIZES[shape]} == SIZES[shape]
    assert (experiment.data.frames, experiment.data.image_size) == (
        6,
        {"deep": 12, "wide": 8}[shape],
    )
    if kind == "fe":
        assert model["temporal_depth"] == {"deep": 2, "wide": 3}[shape]


def test_every_era_of_a_checkpoint_and_a_folder_of_them_give_the_same(tmp_path):
    file = golden("joint", "deep")
    want, params = pretrained.read(f"scenic:{file}").params, params_of(file)
    numbers = {"LayerNorm_1": "LayerNorm_2", "MlpBlock_0": "MlpBlock_3"}
    numbers["MultiHeadDotProductAttention_0"] = "MultiHeadDotProductAttention_1"
    blocks = params["Transformer"]
    together = {
        name: {numbers.get(part, part): x for part, x in block.items()}
        if name.startswith("encoderblock")
        else block
        for name, block in blocks.items()
    }
    old = {"global_step": 7, "model_state": {}, "accum_train_time": 3}
    target = {"optimizer": {"target": params, "state": {"step": 7}}, **old}
    before_linen = {"params": {**params, "Transformer": together}}
    (tmp_path / "folder").mkdir()
    written(tmp_path / "folder" / "checkpoint_9", {"params": {}})
    files = [
        written(tmp_path / "checkpoint", target),
        written(tmp_path / "any", {"optimizer": {"target": before_linen}, **old}),
        written(tmp_path / "nested", {"params": {"params": params}, "model_state": {}}),
        written(tmp_path / "folder" / "checkpoint_10", {"params": params}).parent,
    ]
    for path in files:
        assert equal(pretrained.read(f"scenic:{path}").params, want)


def test_epic_kitchens_head_becomes_two_with_the_nouns_first(tmp_path):
    params = params_of(golden("fe", "deep"))
    rng = np.random.default_rng(0)
    head = {"kernel": rng.normal(size=(24, 397)), "bias": rng.normal(size=397)}
    params["output_projection"] = head = {k: x.astype(np.float32) for k, x in head.items()}
    found = pretrained.read(f"scenic:{written(tmp_path / 'epic', {'params': params})}")
    assert [len(names) for names in found.label_maps] == [300, 97]
    assert found.experiment.data.labels == "heads"
    assert any("300 nouns, 97 verbs" in line for line in found.account)
    assert found.build()[0].class_splits == (300, 97)
    np.testing.assert_array_equal(found.params["head/kernel"], head["kernel"])


def test_what_the_file_cannot_tell_is_noted():
    account = "\n".join(pretrained.read(f"scenic:{golden('fdpa', 'deep')}").account)
    assert "no class token: taken for factorised dot-product attention" in account
    account = "\n".join(pretrained.read(f"scenic:{golden('fsa', 'wide')}").account)
    assert "48 positions are taken for 3 x 4 x 4 (slots, rows, columns)" in account
    assert "12 x 2 x 2" in account


@pytest.mark.parametrize(
    ("tokens", "size", "axes"),
    [
        (3136, (2, 16, 16), (16, 14, 14)),  # 56 x 56 is square, and no clip of 32 frames
        (4096, (2, 16, 16), (16, 16, 16)),
        (6400, (2, 16, 16), (16, 20, 20)),
        (1568, (2, 16, 16), (8, 14, 14)),
        (4096, (2, 14, 14), (16, 16, 16)),
    ],
)
def test_published_clips_are_guessed_from_the_number_of_their_tokens(tokens, size, axes):
    assert scenic.linen.guess(tokens, size, "")[0] == axes


def test_an_image_model_is_one_of_clips_of_one_frame(tmp_path):
    names = {name.replace("head/", "output_projection/"): x for name, x in IMAGE.items()}
    file = written(tmp_path / "image", {"params": as_tree(names)})
    found = pretrained.read(f"scenic:{file}")
    assert found.experiment.model["attention"] == "joint"
    assert (found.experiment.data.frames, found.experiment.data.image_size) == (1, 8)
    want = pretrained.read(f"augreg:{GOLDEN / 'augreg_vit_wide.npz'}").params
    assert equal(found.params, want)


def test_mean_over_slots_without_a_temporal_encoder(tmp_path):
    params = params_of(golden("fe", "wide"))
    del params["TemporalTransformer"]
    found = pretrained.read(f"scenic:{written(tmp_path / 'mean', {'params': params})}")
    assert found.experiment.model["temporal_depth"] == 0
    assert found.experiment.data.frames == 32


def test_a_file_that_is_none_is_refused_with_what_it_holds(tmp_path):
    whole = golden("joint", "deep").read_bytes()
    for name, content in (("cut", whole[:-1000]), ("empty", b""), ("text", b"some text")):
        (tmp_path / name).write_bytes(content)
        assert "is damaged or no flax checkpoint" in refusal(tmp_path / name)
    (tmp_path / "number").write_bytes(b"\x07")
    assert "holds int; expected flax's training state" in refusal(tmp_path / "number")
    assert "holds a, b; expected parameters" in refusal(
        written(tmp_path / "other", {"a": np.ones(2), "b": np.ones(2)})
    )
    assert "its parts are words" in refusal(
        written(tmp_path / "model", {"params": {"words": {"kernel": np.ones((2, 2))}}})
    )
    (tmp_path / "folder").mkdir()
    assert "holds nothing; expected a file checkpoint_STEP" in refusal(tmp_path / "folder")
    assert "embedding/kernel is str; expected an array" in refusal(
        written(tmp_path / "words", {"params": {"embedding": {"kernel": "no array"}}})
    )


def test_what_is_left_over_or_missing_is_listed(tmp_path):
    params = params_of(golden("joint", "deep"))
    params["pre_logits"] = {"kernel": np.ones((24, 24), np.float32)}
    del params["Transformer"]["encoder_norm"]
    text = refusal(written(tmp_path / "file", {"params": params}))
    assert "unknown  pre_logits/kernel: (24, 24)" in text
    assert "missing  encoder/blocks/norm/scale: (24,)" in text


def test_temporal_heads_of_another_number_are_refused(tmp_path):
    params = params_of(golden("fe", "deep"))
    for block in params["TemporalTransformer"].values():
        if "MultiHeadDotProductAttention_0" in block:
            attention = block["MultiHeadDotProductAttention_0"]
            for part in ("query", "key", "value"):
                attention[part]["kernel"] = attention[part]["kernel"].reshape(24, 2, 12)
    text = refusal(written(tmp_path / "file", {"params": params}))
    assert "heads of the temporal encoder are not those of the spatial one" in text


def test_a_head_behind_a_batch_norm_is_refused(tmp_path):
    state = {"params": params_of(golden("joint", "deep"))}
    state["model_state"] = {"batch_stats": {"BatchNorm_0": {"mean": np.ones(24, np.float32)}}}
    assert "batch_stats" in refusal(written(tmp_path / "file", state))
