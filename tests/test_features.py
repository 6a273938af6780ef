"""The features of every video, an array each, made once and gone on with after a stop."""

import csv
import json
import os
import pathlib
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import experiment, noise_video

from vivit_jax import features, predict, terminal, train, trained
from vivit_jax.data.decode import read_views
from vivit_jax.data.views import eval_views

ROOT = pathlib.Path(__file__).parents[1]
COMMAND = [sys.executable, "-m", "vivit_jax.features"]
ENVIRONMENT = {**os.environ, "JAX_PLATFORMS": "cpu"}


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> pathlib.Path:
    """Returns a folder of class folders, and a video that is none."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(6):
        noise_video(root / ("train" if i < 4 else "val") / "ab"[i % 2] / f"{i} é.mp4", i)
    return root


@pytest.fixture(scope="module")
def workdir(videos, tmp_path_factory) -> pathlib.Path:
    """Returns the workdir of a pretraining run whose average of weights is far from its last."""
    folder = tmp_path_factory.mktemp("run")
    given = experiment(
        data={"root": str(videos)},
        model={"pool": "mean"},
        objective={
            "name": "masked_pixels",
            "mask_ratio": 0.5,
            "decoder_width": 16,
            "decoder_depth": 1,
            "decoder_heads": 2,
        },
        optim={"average": 0.7},
        train={"evaluate": False},
        probe={"clips": 2},
    )
    train.run(given, folder)
    return folder


@pytest.fixture(scope="module")
def expected(workdir, videos) -> dict[str, np.ndarray]:
    """Returns the summaries of every video's views by its path, by hand: [V D]."""
    saved = trained.find(workdir)
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    encoder, params = trained.read_encoder(saved, place)
    views = eval_views(saved.experiment.data, 2, 1)
    encode = jax.jit(encoder.apply)
    return {
        str(path): np.asarray(
            encode({"params": params}, jnp.asarray(read_views(str(path), *views, (0,)))).summary
        )
        for path in sorted(videos.rglob("*.mp4"))
    }


def main(monkeypatch, *arguments) -> int:
    monkeypatch.setattr(sys, "argv", ["features", *map(str, arguments)])
    monkeypatch.setattr(features, "speak", lambda _: None)
    return terminal.run(features.main)


def table(folder: pathlib.Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


@pytest.mark.slow
def test_the_runs_own_videos_and_going_on_after_a_stop(workdir, videos, expected):
    command = [*COMMAND, "--checkpoint", str(workdir)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    out = workdir / "features/00000002-summary"
    assert done.stdout == f"6 of 6 videos are in {out}, listed in index.csv.\n"
    rows = table(out)
    ids = [path.relative_to(videos).as_posix() for path in map(pathlib.Path, expected)]
    assert sorted(row["id"] for row in rows) == ids
    for row in rows:
        assert row["file"].isascii()
        assert row["label"] == row["id"].split("/")[1]
        assert row["split"] == {"train": "train", "val": "eval"}[row["id"].split("/")[0]]
        found = np.load(out / row["file"])
        assert found.dtype == np.float32
        wanted = expected[str(videos / row["id"])].mean(axis=0)
        np.testing.assert_allclose(found, wanted, atol=1e-5)

    before = {path: (path.stat().st_mtime_ns, np.load(path)) for path in out.glob("*.npy")}
    gone = out / rows[2]["file"]
    gone.unlink()
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0
    assert {path.name for path in out.iterdir()} == {
        *("features.json", "index.csv"),
        *(row["file"] for row in rows),
    }
    assert table(out) == rows
    for path, (written, array) in before.items():
        assert (path.stat().st_mtime_ns == written) == (path != gone)
        np.testing.assert_allclose(np.load(path), array, atol=1e-6)


def test_files_folders_and_lists_with_a_video_that_cannot_be_read(
    workdir, videos, expected, tmp_path, monkeypatch, capsys
):
    paths = list(expected)
    (tmp_path / "broken.mp4").write_bytes(np.random.default_rng(0).bytes(3000))
    shutil.copy(paths[1], tmp_path / "one.mp4")
    (tmp_path / "plain.txt").write_text(f"one.mp4\n{paths[2]}\n")
    (tmp_path / "labelled.csv").write_text(f"{paths[3]},a label\n")
    given = [paths[0], videos / "val", tmp_path / "plain.txt", tmp_path / "labelled.csv"]
    given += [tmp_path / "broken.mp4", tmp_path / "missing.mp4", paths[0]]
    out = tmp_path / "out"
    code = main(monkeypatch, "--checkpoint", workdir, "--out", out, "--views", *given)
    printed = capsys.readouterr()
    assert code == 1
    assert printed.out == f"6 of 8 videos are in {out}, listed in index.csv.\n"
    assert "bad_videos.jsonl" in printed.err
    lines = (out / "bad_videos.jsonl").read_text().splitlines()
    causes = {record["id"]: record["cause"] for record in map(json.loads, lines)}
    assert causes == {
        str(tmp_path / "broken.mp4"): "unreadable",
        str(tmp_path / "missing.mp4"): "missing",
    }
    wanted = {str(tmp_path / "one.mp4"): expected[paths[1]]}
    wanted |= {path: expected[path] for path in (paths[0], *paths[2:])}
    rows = {row["id"]: row for row in table(out)}
    assert {row: rows[row]["label"] for row in rows} == {
        path: "a label" if path == paths[3] else "" for path in wanted
    }
    for path, views in wanted.items():
        np.testing.assert_allclose(np.load(out / rows[path]["file"]), views, atol=1e-5)

    one = tmp_path / "one.mp4"
    shutil.copy(paths[4], one)
    assert main(monkeypatch, "--checkpoint", workdir, "--out", out, "--views", one) == 0
    np.testing.assert_allclose(np.load(out / rows[str(one)]["file"]), expected[paths[4]], atol=1e-5)
    one.write_bytes(b"")
    assert main(monkeypatch, "--checkpoint", workdir, "--out", out, "--views", one) == 1
    assert not (out / rows[str(one)]["file"]).exists()
    about = json.loads((out / "features.json").read_text())
    (out / "features.json").write_text(json.dumps({**about, "digest": "other"}))
    assert main(monkeypatch, "--checkpoint", workdir, "--out", out, "--views", one) == 2
    assert "holds other features: digest was 'other' and is" in capsys.readouterr().err
    (out / "features.json").write_text("{")
    assert main(monkeypatch, "--checkpoint", workdir, "--out", out, "--views", one) == 2
    assert "is broken" in capsys.readouterr().err


def test_tokens_have_the_summary_as_their_mean(workdir, expected, tmp_path, monkeypatch):
    path, views = next(iter(expected.items()))
    arguments = ("--checkpoint", workdir, "--out", tmp_path, "--tokens", path)
    assert main(monkeypatch, *arguments) == 0
    (row,) = table(tmp_path)
    tokens = np.load(tmp_path / row["file"])
    assert tokens.shape == (2, 8, 32)
    np.testing.assert_allclose(tokens.mean(axis=1), views, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--checkpoint={0}/nowhere"], "config.json does not exist; expected the workdir of a run"),
        (["--checkpoint={0}/checkpoints/7"], "holds no such checkpoint; steps that it has: 2."),
        (["--checkpoint={0}", "--out={1}/out", "{1}"], "No videos below {1}; expected files of"),
        (["--checkpoint={0}", "--out={1}/out", "{1}/no.txt"], "{1}/no.txt cannot be read"),
        (["--checkpoint={0}", "--out={1}/made", "x.mp4"], "kind was 'tokens' and is 'summary'"),
        (["--checkpoint={0}", "--out={1}/file/out", "x.mp4"], "cannot be written into"),
    ],
)
def test_what_cannot_be_used_is_refused(workdir, tmp_path, monkeypatch, capsys, arguments, message):
    made = tmp_path / "made"
    made.mkdir()
    about = {"checkpoint": str(workdir), "step": 2, "weights": "average", "kind": "tokens"}
    (made / "features.json").write_text(json.dumps({**about, "clips": 2, "crops": 1, "resize": 0}))
    (tmp_path / "file").touch()
    arguments = [argument.format(workdir, tmp_path) for argument in arguments]
    assert main(monkeypatch, *arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    assert message.format(workdir, tmp_path) in error


def test_names_of_files_are_safe_and_no_others():
    ids = ["a/b.mp4", "a_b.mp4", "a/b.webm", "../x.mp4", ".hidden.mp4", "é" * 300, "\udcff.mp4", ""]
    names = [features.Video(identity, "").file for identity in ids]
    assert len(set(names)) == len(ids)
    for name in names:
        assert name.isascii()
        assert len(name) < 110
        assert "/" not in name
        assert not name.startswith(".")


def test_a_pretraining_run_predicts_nothing(workdir, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict", "--checkpoint", str(workdir), "x.mp4"])
    assert terminal.run(predict.main) == 2
    assert "'masked_pixels', which predicts nothing of labels" in capsys.readouterr().err
