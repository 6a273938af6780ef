"""Folders of Hugging Face's, whatever their kind: how weights lie in them, and what is refused."""

import copy
import json

import numpy as np
import pytest
import safetensors.numpy
from peers import equal, saved

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.pretrained import files, huggingface
from vivit_jax.pretrained.hf_express import check_model
from vivit_jax.pretrained.hf_folder import Folder

torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="parity needs the extra `parity`")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = transformers.VivitConfig(
        hidden_size=24,
        num_attention_heads=2,
        num_hidden_layers=2,
        intermediate_size=40,
        image_size=16,
        num_frames=4,
        tubelet_size=[2, 8, 8],
        num_labels=3,
    )
    return saved(transformers.VivitForVideoClassification, config, tmp_path_factory.mktemp("hf"))


def params_of(folder):
    return pretrained.read(f"hf:{folder}").params


@pytest.mark.parametrize("kind", ["bfloat16", "float16", "float64"])
def test_weights_of_another_precision_become_float32(kind, model, tmp_path):
    dtype = getattr(torch, kind)
    rounded = copy.deepcopy(model).to(dtype)
    rounded.save_pretrained(tmp_path / "hf")
    assert huggingface.read_weights(tmp_path / "hf")["classifier.bias"].dtype == kind
    rounded.to(torch.float32).save_pretrained(tmp_path / "float32")
    found = params_of(tmp_path / "hf")
    assert {value.dtype for value in found.values()} == {np.dtype(np.float32)}
    assert equal(found, params_of(tmp_path / "float32"))


@pytest.fixture
def shards(model, tmp_path):
    model.save_pretrained(tmp_path / "shards", max_shard_size="20KB")
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 2
    return tmp_path / "shards"


def test_shards_are_the_same_as_one_file(model, shards, tmp_path):
    model.save_pretrained(tmp_path / "one")
    assert equal(params_of(shards), params_of(tmp_path / "one"))


def test_a_missing_shard_is_named(shards):
    gone = min(shards.glob("*.safetensors"))
    gone.unlink()
    with pytest.raises(InputError, match=rf"{gone.name} cannot be read"):
        params_of(shards)


def test_a_truncated_shard_is_named(shards):
    part = max(shards.glob("*.safetensors"))
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(InputError, match=rf"{part.name} is damaged or no safetensors file"):
        params_of(shards)


@pytest.mark.parametrize("index", [{}, {"weight_map": ["a"]}, {"weight_map": {"a": 3}}])
def test_an_index_that_is_none_is_refused(index, shards):
    (shards / f"{huggingface.WEIGHTS}.index.json").write_text(json.dumps(index))
    with pytest.raises(InputError, match="has no weight_map from names to files"):
        params_of(shards)


def test_a_weight_in_two_shards_is_refused(shards):
    first, second, *_ = sorted(shards.glob("*.safetensors"))
    given = files.read_safetensors(first)
    name = min(given)
    safetensors.numpy.save_file({**files.read_safetensors(second), name: given[name]}, second)
    with pytest.raises(InputError, match=rf"holds {name} twice"):
        params_of(shards)


def test_a_weight_under_the_names_of_two_versions_is_refused(model, tmp_path):
    model.save_pretrained(tmp_path)
    given = huggingface.read_weights(tmp_path)
    name = "vivit.layers.1.mlp.fc1.bias"
    given[name] = 1 + given["vivit.encoder.layer.1.intermediate.dense.bias"]
    safetensors.numpy.save_file(given, tmp_path / huggingface.WEIGHTS)
    with pytest.raises(InputError, match="intermediate.dense.bias twice, perhaps under names of"):
        params_of(tmp_path)


@pytest.mark.parametrize(
    ("told", "mean", "std"),
    [
        ({}, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
        ({"image_mean": 0.4, "image_std": [0.1, 0.2, 0.3]}, (0.4,) * 3, (0.1, 0.2, 0.3)),
        ({"do_normalize": False}, (0.0,) * 3, (1.0,) * 3),
        (
            {"do_normalize": False, "offset": True, "rescale_factor": 1 / 127.5},
            (0.5,) * 3,
            (0.5,) * 3,
        ),
        ({"do_rescale": False, "image_mean": 51, "image_std": 255}, (0.2,) * 3, (1.0,) * 3),
    ],
)
def test_colours_are_what_the_preprocessor_makes_of_pixels(told, mean, std):
    found = Folder("", {}, told, {}).colours((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    assert found == {"mean": mean, "std": std}


@pytest.mark.parametrize(
    "told", [{"image_mean": [0.1, 0.2]}, {"image_std": "a"}, {"rescale_factor": None}]
)
def test_a_preprocessor_without_colours_is_refused(told):
    with pytest.raises(InputError, match=r"DIR/preprocessor_config\.json tells no colours: "):
        Folder("DIR", {}, told, {}).colours((0.5,) * 3, (0.5,) * 3)


def test_an_option_that_no_kind_knows_of_is_not_lost():
    given = {"name": "video_transformer", "key_bias": False}
    check_model({"key_bias": False}, given)
    with pytest.raises(InputError, match=r"^config\.model\.key_bias = False, and it has True$"):
        check_model({}, given)
    with pytest.raises(InputError, match=r"config\.model\.name = 'another'"):
        check_model({}, {"name": "another"})
