"""The command carries weights in and out, and every other command takes them where they lie."""

import json
import sys

import numpy as np
import pytest
from peers import equal, logits
from tiny import experiment, noise_video

from vivit_jax import predict, pretrained, terminal, train, trained
from vivit_jax.errors import InputError
from vivit_jax.pretrained import __main__ as command
from vivit_jax.trees import by_path

NAMES = ["jump", "run", "walk"]
OPTIONS = {  # of every run here, so that each program is compiled once
    "model": {"attention": "factorised_encoder", "temporal_depth": 1},
    "optim": {"average": 0.5},
    "train": {"steps": 1, "evaluate": False},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for i in range(12):
        noise_video(root / f"{'train' if i < 9 else 'val'}/{NAMES[i % 3]}/{i}.mp4", i)
    return root


@pytest.fixture(scope="module")
def workdir(videos, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    train.run(experiment(data={"root": str(videos)}, **OPTIONS), folder)
    return folder


@pytest.fixture(scope="module")
def file(workdir, tmp_path_factory):
    """Returns a file that the command has made of the run."""
    file = tmp_path_factory.mktemp("exported") / "model.safetensors"
    assert command.take_out(str(workdir), f"safetensors:{file}") == 0
    return file


@pytest.fixture(scope="module")
def brought(file, tmp_path_factory):
    """Returns the workdir that the command has made of the file."""
    folder = tmp_path_factory.mktemp("brought") / "in"
    assert command.bring_in(f"safetensors:{file}", folder) == 0
    return folder


def shell(monkeypatch, name, main, *arguments):
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    return terminal.run(main)


def arrays_of(source):
    return trained.read_arrays(trained.find(str(source)))[0]


def test_a_file_and_what_is_made_of_it_hold_the_run_s_average_bit_for_bit(workdir, file, brought):
    expected = arrays_of(workdir)
    for source in (f"safetensors:{file}", brought):
        assert equal(arrays_of(source), expected)


def test_load_gives_the_logits_of_the_run(workdir, file):
    video = np.random.default_rng(0).integers(0, 256, (2, 4, 16, 16, 3), np.uint8)
    found = logits(*pretrained.load(f"safetensors:{file}"), video)
    assert found.shape == (2, 3)
    own = logits(*trained.to_publish(trained.find(str(workdir))).build(), video)
    np.testing.assert_array_equal(found, own)


def test_predict_says_the_same_by_the_run_the_file_and_the_import(
    workdir, file, brought, videos, monkeypatch, capsys
):
    video = next(videos.glob("val/*/*.mp4"))
    said = []
    for source in (workdir, f"safetensors:{file}", brought):
        code = shell(monkeypatch, "predict", predict.main, "--json", "--checkpoint", source, video)
        assert code == 0
        said.append(json.loads(capsys.readouterr().out))
    assert said[0] == said[1] == said[2]


def test_an_import_is_evaluated_and_not_trained(workdir, brought, videos, tmp_path):
    options = {**OPTIONS, "data": {"root": str(videos)}}
    alone = {**options, "optim": {}, "train": {"steps": 0}}  # an import has no average of weights
    results = train.run(experiment(**alone), brought)
    assert results["videos"] == 3
    with pytest.raises(InputError, match=f"holds imported weights alone.*init_from={brought}"):
        train.run(experiment(**options), brought)


def test_training_starts_from_a_file(file, videos, tmp_path, caplog):
    options = {**OPTIONS, "data": {"root": str(videos)}, "init_from": f"safetensors:{file}"}
    with caplog.at_level("INFO"):
        train.run(experiment(**options), tmp_path)
    assert f"Starts from safetensors:{file}" in caplog.text


def test_inspect_tells_what_is_not_the_default(file, monkeypatch, capsys):
    assert shell(monkeypatch, "pretrained", command.main, "inspect", f"safetensors:{file}") == 0
    said = capsys.readouterr().out
    assert "config.model.attention = 'factorised_encoder'" in said
    assert "config.model.norm_eps" not in said
    assert "clips    4 x 16 x 16" in said
    assert "classes  3" in said


def test_what_cannot_be_used_is_refused_and_leaves_nothing(workdir, file, brought, tmp_path):
    with pytest.raises(InputError, match=r"videomae: config.model.attention = 'factorised_enc"):
        command.take_out(str(workdir), f"hf:{tmp_path / 'hf'}")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InputError, match="broken.safetensors is damaged or no safetensors file"):
        command.bring_in(f"safetensors:{broken}", tmp_path / "in")
    with pytest.raises(InputError, match="names no published file; expected one of"):
        pretrained.read("theirs:x")
    with pytest.raises(InputError, match="none.safetensors does not exist"):
        pretrained.read("safetensors:none.safetensors")
    with pytest.raises(InputError, match="exists; give another name"):
        command.bring_in(f"safetensors:{file}", brought)
    assert [path.name for path in tmp_path.iterdir()] == ["broken.safetensors"]


def test_a_parameter_of_another_shape_is_named(file, tmp_path):
    found = pretrained.read(f"safetensors:{file}")
    params = {**found.params, "head/kernel": np.zeros((32, 4), np.float32)}
    pretrained.plain.write(found._replace(params=params), tmp_path / "other.safetensors")
    with pytest.raises(InputError, match=r"shape +head/kernel: \(32, 4\).*is \(32, 3\)"):
        pretrained.read(f"safetensors:{tmp_path / 'other.safetensors'}")


def test_features_need_videos_and_a_folder(file, monkeypatch, capsys):
    from vivit_jax import features

    monkeypatch.setattr(features, "speak", lambda _: None)
    assert shell(monkeypatch, "features", features.main, "--checkpoint", f"safetensors:{file}") == 2
    assert "is no run with videos of its own: give some, and --out" in capsys.readouterr().err


def test_the_tree_is_what_its_paths_say(file):
    found = pretrained.read(f"safetensors:{file}")
    assert by_path(found.build()[1]).keys() == found.params.keys()
