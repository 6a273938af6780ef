"""The search and summarise commands, on real videos and a tiny model."""

import json
import os
import pathlib
import shutil
import sys

import av
import numpy as np
import pytest
import tiny
from data.conftest import write_video
from PIL import Image

from vivit_jax import search, summarise, terminal, train
from vivit_jax.analysis.index import Index
from vivit_jax.data import windows
from vivit_jax.workdir_lock import locked


@pytest.fixture(scope="module")
def workdir(tiny_videos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    given = tiny.experiment(
        data={"root": str(tiny_videos)},
        train={"evaluate": False, "steps": 3},
        optim={"learning_rate": 1},
    )
    train.run(given, workdir)
    return workdir


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Returns a folder: two scenes, each twice, one that is short, cut and no video at all."""
    folder = tmp_path_factory.mktemp("searched")
    rng = np.random.default_rng(0)
    places = rng.integers(0, 41, (3, 1, 6, 8, 3), np.uint8).repeat(8, axis=2).repeat(8, axis=3)
    frames = places + rng.integers(0, 215, (3, 24, 48, 64, 3), np.uint8)
    for name, number, length in (("a", 0, 24), ("a_trimmed", 0, 16), ("b", 1, 24), ("short", 2, 3)):
        texture = frames[number].__getitem__
        write_video(folder / f"{name}.mp4", length, texture=texture, options={"g": "4", "qp": "8"})
    write_video(
        folder / "cut.mp4", 24, texture=frames[2].__getitem__, options={"g": "4", "bf": "0"}
    )
    data = bytearray((folder / "cut.mp4").read_bytes())
    data[len(data) * 6 // 10 : len(data) * 6 // 10 + 300] = bytes(300)
    (folder / "cut.mp4").write_bytes(data)
    (folder / "none.mp4").write_text("no video")
    return folder


@pytest.fixture(autouse=True)
def short_stretches(monkeypatch):
    """Reads a window at a time, so that what is lost is not the whole of these short videos."""
    monkeypatch.setattr(windows, "STRETCH", 4 * tiny.SIZE**2 * 3)


@pytest.fixture
def said(monkeypatch, capfd):
    """Returns what runs a command: exit code, objects of --json, and what was said besides."""

    def run(command, *arguments):
        monkeypatch.setattr(sys, "argv", [command.__name__, *map(str, arguments)])
        try:
            code = terminal.run(command.main)
        except SystemExit as end:  # of argparse
            code = end.code
        out, besides = capfd.readouterr()
        objects = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
        return code, objects, out + besides

    return run


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return tmp_path_factory.mktemp("index")


def test_a_build_tells_what_it_could_not_read_and_does_nothing_twice(said, workdir, videos, index):
    given = ("build", "--checkpoint", workdir, "--index", index, "--workers", 2, "--json")
    code, made, besides = said(search, *given, videos)
    assert code == 1
    by_name = {os.path.basename(one["video"]): one for one in made}
    assert {name: one["windows"] for name, one in by_name.items() if "windows" in one} == {
        **{"a.mp4": 6, "a_trimmed.mp4": 4, "b.mp4": 6},
        "cut.mp4": by_name["cut.mp4"]["windows"],
    }
    assert 0 < by_name["cut.mp4"]["windows"] < 6
    assert by_name["cut.mp4"]["partial"]
    assert by_name["cut.mp4"]["lost"][0]["cause"] == "corrupt"
    assert "longer than the video" in by_name["short.mp4"]["error"]["message"]
    assert "cannot be read: unreadable" in by_name["none.mp4"]["error"]["message"]
    assert "2 cannot be read (bad_videos.jsonl)" in besides
    bad = [json.loads(line) for line in (index / "bad_videos.jsonl").read_text().splitlines()]
    assert {os.path.basename(one["id"]) for one in bad} == {"short.mp4", "none.mp4"}

    os.utime(videos / "b.mp4", ns=(1, 1))
    code, made, _ = said(search, *given, videos)
    assert code == 1  # one is still partial, two cannot be read
    new = {os.path.basename(one["video"]): one["new"] for one in made if "new" in one}
    assert new == {"a.mp4": False, "a_trimmed.mp4": False, "b.mp4": True, "cut.mp4": False}
    assert len(list((index / "parts").glob("*.json"))) == 2
    code, made, _ = said(search, *given, videos / "a.mp4")
    assert code == 0

    code, _, besides = said(search, *given, "--hop", 0.2, videos)
    assert code == 2
    assert "has other windows: hop was 0.0 and is 0.2" in besides


def test_a_video_finds_its_copy_and_not_itself(said, videos, index, tmp_path):
    given = ("query", "--index", index, "--video", videos / "a.mp4", "--json", "--out", tmp_path)
    code, (found,), _ = said(search, *given)
    assert code == 0
    assert [os.path.basename(hit["video"]) for hit in found["hits"]] != []
    assert os.path.basename(found["hits"][0]["video"]) == "a_trimmed.mp4"
    assert found["hits"][0]["score"] > 0.999
    assert str(videos / "a.mp4") not in {hit["video"] for hit in found["hits"]}
    assert Image.open(found["picture"]).size[0] > 600

    code, (found,), _ = said(search, *given, "--begin", 0.8, "--end", 1.2, "--moments")
    assert (found["begin"], found["end"]) == (0.8, 1.2)
    best = found["hits"][0]
    assert (os.path.basename(best["video"]), best["begin"], best["end"]) == (
        "a_trimmed.mp4",
        0.8,
        1.2,
    )
    own = [hit for hit in found["hits"] if hit["video"] == str(videos / "a.mp4")]
    assert own
    assert all(hit["end"] <= 0.8 + 1e-6 or hit["begin"] >= 1.2 - 1e-6 for hit in own)


def test_an_answer_says_what_has_changed_since(said, workdir, videos, tmp_path):
    copy = shutil.copy(videos / "a.mp4", tmp_path / "copy.mp4")
    options = ("--checkpoint", workdir, "--index", tmp_path / "index")
    with locked(tmp_path / "index"):
        code, _, besides = said(search, "build", *options, copy)
    assert code == 2
    assert "take another --index" in besides
    assert said(search, "build", *options, copy, videos / "b.mp4")[0] == 0
    os.utime(copy, ns=(1, 1))
    ask = ("--index", tmp_path / "index", "--video", videos / "a.mp4", "--top", 2)
    code, (found,), _ = said(search, "query", *ask, "--json")
    states = {pathlib.Path(hit["video"]).name: hit["state"] for hit in found["hits"]}
    assert states == {"copy.mp4": "changed", "b.mp4": "same"}
    pathlib.Path(copy).unlink()
    assert "copy.mp4  (not there any more)" in said(search, "query", *ask)[2]
    besides = said(search, "duplicates", "--index", tmp_path / "index")[2]
    assert "1 of the 2 videos" in besides


def test_the_model_of_an_index_is_asked_for_where_it_is_gone(said, workdir, videos, tmp_path):
    moved = shutil.copytree(workdir, tmp_path / "run")
    options = ("--checkpoint", moved, "--index", tmp_path / "index")
    assert said(search, "build", *options, videos / "a.mp4")[0] == 0
    shutil.rmtree(moved)
    ask = ("--index", tmp_path / "index", "--video", videos / "a.mp4")
    code, _, besides = said(search, "query", *ask)
    assert code == 2
    assert "The model that made --index" in besides
    assert "Say by --checkpoint where it is now" in besides
    assert said(search, "query", *ask, "--checkpoint", workdir)[0] == 0


def test_a_damaged_question_is_answered_as_partial(said, videos, index):
    code, (found,), _ = said(
        search, "query", "--index", index, "--video", videos / "cut.mp4", "--json"
    )
    assert code == 1
    assert found["partial"]
    assert found["lost"][0]["cause"] == "corrupt"
    assert found["hits"]


def test_a_class_ranks_as_the_models_probabilities_do(said, workdir, videos, index):
    from vivit_jax.observer import Observer
    from vivit_jax.watching import Watcher

    options = ("--index", index, "--class", "b", "--top", 50, "--moments", "--json")
    code, (found,), _ = said(search, "query", *options)
    assert code == 0
    seen = Observer(str(workdir))
    with Watcher(seen.frames, seen.rate(), seen.geometry(), workers=1) as watcher:
        expected = {}
        for name in ("a", "a_trimmed", "b"):
            path = str(videos / f"{name}.mp4")
            watched = watcher.watch(path, seen.scores)
            expected |= {
                (path, begin): p
                for (begin, _), p in zip(
                    watched.spans.round(6).tolist(), watched.rows[:, 1].tolist(), strict=True
                )
            }
    got = {(hit["video"], round(hit["begin"], 6)): hit["score"] for hit in found["hits"]}
    assert len(got) == len(Index(index))
    for moment, probability in expected.items():
        assert got[moment] == pytest.approx(probability, abs=1e-4)
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)
    assert max(scores) - min(scores) > 1e-4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--class", "c"), "none of the 2 classes"),
        (("--class", "b", "--begin", "1"), "--begin and --end are of a --video"),
        (("--video", "x.mp4", "--begin", "2", "--end", "1"), "is not after --begin"),
        (("--video", "x.mp4", "--top", "0"), "expected at least 1"),
        (("--video", "x.mp4", "--workers", "-1"), "--workers: -1: expected at least 0"),
        (("--video", "x.mp4"), "cannot be read: missing"),
        (("--video", "VIDEOS/a.mp4", "--begin", "5"), "begins at 5 s of a video of 2.40 s"),
        (("--video", "VIDEOS/short.mp4"), "longer than the video"),
        ((), "one of the arguments --video --class is required"),
    ],
)
def test_what_cannot_be_asked_is_told(said, videos, index, options, message):
    options = [option.replace("VIDEOS", str(videos)) for option in options]
    code, found, besides = said(search, "query", "--index", index, *options)
    assert code == 2
    assert message in besides
    assert found == []


def test_an_index_of_another_model_is_refused_with_both_named(said, workdir, index, tmp_path):
    tmp_path = shutil.copytree(workdir, tmp_path / "other")
    about = json.loads((tmp_path / "config.json").read_text())
    about["data"]["stride"] = 2  # so its clips are made otherwise
    (tmp_path / "config.json").write_text(json.dumps(about))
    options = ("--index", index, "--checkpoint", tmp_path, "--class", "a")
    code, _, besides = said(search, "query", *options)
    assert code == 2
    assert f"{tmp_path} is another model" in besides
    assert besides.count("fingerprint") >= 2
    code, _, besides = said(search, "query", "--index", tmp_path, "--class", "a")
    assert code == 2
    assert "has no index.json" in besides


def test_duplicates_are_the_planted_ones(said, videos, index):
    code, (found,), _ = said(search, "duplicates", "--index", index, "--json")
    assert code == 0
    assert found["groups"] == [[str(videos / "a.mp4"), str(videos / "a_trimmed.mp4")]]
    (pair,) = found["pairs"]
    assert (pair["share"], pair["shift"]) == (1, 0)
    assert len(pair["windows"]) == 4
    code, _, out = said(search, "duplicates", "--index", index)
    assert "group 1" in out


def test_evaluation_is_by_the_labels_of_lists_beside_mean_pictures(said, workdir, videos, tmp_path):
    lines = [
        f"{videos}/{name}.mp4,{label}"
        for name, label in (("a", "x"), ("b", "y"), ("a_trimmed", "x"))
    ]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    options = ("--checkpoint", workdir, "--index", tmp_path / "index")
    code, _, _ = said(search, "build", *options, tmp_path / "list.csv")
    assert code == 0
    code, (found,), _ = said(search, "evaluate", "--index", tmp_path / "index", "--json")
    assert code == 0
    assert (found["videos"], found["windows"], found["labels"]) == (3, 16, 2)
    assert found["features"]["recall_at_10"] == pytest.approx(10 / 16)  # none of y has another
    assert set(found["mean_pictures"]) == set(found["features"])
    code, _, out = said(search, "evaluate", "--index", tmp_path / "index")
    assert "mean_average_precision" in out


def test_lists_are_read_as_the_run_read_its_own(said, workdir, videos, tmp_path):
    workdir = shutil.copytree(workdir, tmp_path / "run")
    about = json.loads((workdir / "config.json").read_text())
    about["data"]["labels"] = "multi"
    (workdir / "config.json").write_text(json.dumps(about))
    (tmp_path / "list.csv").write_text(f"{videos}/a_trimmed.mp4,x,y\n")
    options = ("--checkpoint", workdir, "--index", tmp_path / "index")
    code, _, besides = said(search, "build", *options, tmp_path / "list.csv")
    assert code == 0, besides
    assert Index(tmp_path / "index").labels == ["x|y"]


def test_windows_beside_the_question_are_answers_whatever_their_times(said, workdir, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (12, 48, 64, 3), np.uint8)
    video = write_video(tmp_path / "a.mp4", 12, fps=15, texture=noise.__getitem__)
    given = ("--index", tmp_path / "index", "--json")
    code, _, _ = said(search, "build", "--checkpoint", workdir, *given, video)
    assert code == 0
    options = ("--video", video, "--end", 0.26, "--moments")
    code, (found,), _ = said(search, "query", *given, *options)
    assert (code, found["begin"], found["end"]) == (0, 0, 0.267)  # 4 moments of 15 a second
    begins = sorted(hit["begin"] for hit in found["hits"])
    assert begins == pytest.approx([4 / 15, 8 / 15], abs=1e-6)


def test_a_folder_that_cannot_be_is_told_before_the_work(said, videos, index, tmp_path):
    (tmp_path / "file").write_text("no folder")
    options = ("--video", videos / "none.mp4", "--out", tmp_path / "file")
    code, _, besides = said(search, "query", "--index", index, *options)
    assert code == 2
    assert f"--out={tmp_path / 'file'} cannot be written into" in besides


def test_without_labels_there_is_nothing_to_judge_by(said, index):
    code, _, besides = said(search, "evaluate", "--index", index)
    assert code == 2
    assert "videos of 0 labels" in besides


@pytest.mark.parametrize("method", ["k_centre", "determinantal", "uniform"])
def test_a_summary_is_a_sheet_and_a_film_of_what_was_picked(
    said, workdir, videos, tmp_path, method
):
    options = ("--checkpoint", workdir, "--out", tmp_path, "--frames", 3, "--method", method)
    code, (made,), _ = said(summarise, *options, "--json", videos / "b.mp4")
    assert code == 0
    assert len(made["picks"]) == 3
    assert made["picks"] == sorted(made["picks"], key=lambda pick: pick["begin"])
    assert made["radius"] <= made["uniform_radius"] or method == "determinantal"
    assert Image.open(made["picture"]).size[0] > 600
    with av.open(made["film"]) as film:
        stream = film.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.width, stream.height) == (64, 48)
        assert sum(1 for _ in film.decode(stream)) == 12  # 3 windows of 4 frames
        assert float(film.duration / av.time_base) == pytest.approx(1.2, abs=0.02)


def test_a_summary_of_seconds_and_of_damaged_videos(said, workdir, videos, tmp_path):
    options = ("--checkpoint", workdir, "--out", tmp_path, "--json")
    code, made, _ = said(
        summarise, *options, "--seconds", 0.8, *(videos / f"{x}.mp4" for x in ("a", "cut", "none"))
    )
    assert code == 1
    assert len(made[0]["picks"]) == 2
    assert made[1]["partial"]
    assert len(made[1]["picks"]) == 2
    assert "error" in made[2]
    code, made, _ = said(summarise, *options, "--frames", 99, videos / "a.mp4")
    assert code == 0
    assert len(made[0]["picks"]) <= 6
    code, _, besides = said(summarise, *options, "--frames", 0, videos / "a.mp4")
    assert code == 2
    assert "--frames is 0" in besides


def test_picked_windows_that_touch_are_one_stretch_of_the_film():
    assert summarise.merged([(0, 1), (1, 2), (3, 4), (3.5, 5)]) == [(0, 2), (3, 5)]


def test_help_needs_no_jax(said):
    for command in (search, summarise):
        code, _, out = said(command, "--help")
        assert code == 0
        assert "python -m vivit_jax." in out
