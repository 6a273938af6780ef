"""The predict command says what the evaluation of the same checkpoint says, or why it cannot."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from tiny import experiment, noise_video

from vivit_jax import predict, terminal, train

NAMES = ["jump", "run", "walk"]
ROOT = pathlib.Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "vivit_jax.predict"]
LISTENING = """
import runpy, signal
runpy.run_module("vivit_jax.predict", run_name="__main__", alter_sys=True)
"""
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> pathlib.Path:
    """Returns a folder of class folders."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(15):
        split = "train" if i < 9 else "val"
        noise_video(root / split / NAMES[i % 3] / f"{i}.mp4", i)
    return root


@pytest.fixture(scope="module")
def workdir(videos, tmp_path_factory) -> pathlib.Path:
    """Returns the workdir of a run whose average of weights is far from its last weights."""
    folder = tmp_path_factory.mktemp("run")
    given = experiment(
        data={"root": str(videos)}, optim={"average": 0.7}, train={"checkpoint_every": 1}
    )
    train.run(given, folder)
    return folder


@pytest.fixture(scope="module")
def evaluated(workdir) -> dict[str, np.ndarray]:
    """Returns what the evaluation of the last step has written of each video."""
    with np.load(workdir / "evaluation/00000002-eval/scores.npz") as file:
        return dict(file)


def run(*arguments) -> subprocess.CompletedProcess:
    command = [*COMMAND, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


def main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["predict", *map(str, arguments)])
    return terminal.run(predict.main)


def test_an_object_a_video_in_order_with_the_evaluations_scores(workdir, videos, evaluated):
    broken, missing = workdir / "broken.mp4", workdir / "missing.mp4"
    broken.write_bytes(np.random.default_rng(0).bytes(3000))
    paths = [videos / identity for identity in evaluated["id"]]
    given = [*paths[:2], broken, *paths[2:], missing, paths[0]]
    done = run("--checkpoint", workdir, *given, "--json", "--top", 9)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["video"] for one in found] == [str(path) for path in given]

    errors = {one["video"]: one.pop("error") for one in found if "error" in one}
    causes = {str(broken): "unreadable", str(missing): "missing"}
    assert {video: error["cause"] for video, error in errors.items()} == causes
    assert all(set(error) == {"cause", "message"} for error in errors.values())

    rows = {one["video"]: one["top"] for one in found if set(one) == {"video", "top"}}
    assert len(rows) == len(found) - len(errors) - 1  # one is there twice
    for path, expected in zip(paths, evaluated["score"], strict=True):
        top = rows[str(path)]
        assert [row["score"] for row in top] == sorted([row["score"] for row in top], reverse=True)
        scores = {row["label"]: row["score"] for row in top}
        np.testing.assert_allclose([scores[name] for name in NAMES], expected, atol=1e-5)


def test_a_steps_folder_is_a_checkpoint_and_a_table_is_for_people(workdir, videos):
    paths = sorted(videos.glob("val/*/*.mp4"))[:2]
    done = run("--checkpoint", workdir / "checkpoints/1", *paths, "--top", 2)
    assert (done.returncode, done.stderr) == (0, "")
    judge, views, label_maps = predict.load(workdir / "checkpoints/1")
    expected = []
    for video, pixels in predict.read(list(map(str, paths)), views):
        assert isinstance(pixels, np.ndarray)
        found = predict.best(judge(pixels), label_maps, 2)["top"]
        expected += [video, *(f"  {row['score']:.4f}  {row['label']}" for row in found)]
    assert done.stdout.splitlines() == expected


def test_the_average_of_weights_is_what_predicts(workdir, videos, evaluated, tmp_path):
    def scores(folder):
        judge, views, _ = predict.load(folder)
        given = [str(videos / identity) for identity in evaluated["id"]]
        return np.stack([judge(pixels) for _, pixels in predict.read(given, views)])  # type: ignore

    np.testing.assert_allclose(scores(workdir), evaluated["score"], atol=1e-5)
    last = shutil.copytree(workdir, tmp_path / "last")
    config = json.loads((last / "config.json").read_text())
    config["optim"]["average"] = 0.0
    (last / "config.json").write_text(json.dumps(config))
    assert np.abs(scores(last) - evaluated["score"]).max() > 1e-3


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "nowhere/config.json does not exist; expected the workdir of a run."),
        ("checkpoints", "checkpoints/config.json does not exist; expected the workdir of a run."),
        ("checkpoints/7", "checkpoints/7 holds no such checkpoint; steps that it has: 1, 2."),
    ],
)
def test_a_wrong_checkpoint_is_refused(workdir, monkeypatch, capsys, folder, message):
    assert main(monkeypatch, "--checkpoint", workdir / folder, "x.mp4") == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith("error: ")
    assert error.endswith(f"{message}\n")


def test_no_labels_a_video_are_refused(monkeypatch, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(monkeypatch, "--checkpoint", "x", "--top", 0, "x.mp4")
    assert "--top is 0; expected at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGPIPE])
def test_who_has_seen_enough_sees_no_traceback(workdir, videos, stop):
    paths = list(map(str, videos.glob("val/*/*.mp4"))) * 500
    command = [sys.executable, "-c", LISTENING, "--checkpoint", str(workdir), *paths]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, env=ENVIRONMENT, text=True, **pipes) as process:
        assert process.stdout.readline() == f"{paths[0]}\n"
        if stop == signal.SIGINT:
            process.send_signal(stop)
            process.stdout.read()  # to its end, as else the pipe's signal may be the first
        else:
            process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == -stop
