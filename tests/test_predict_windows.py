"""A long video is judged window by window, and says when; what is cut or too short says so."""

import json
import shutil
import sys

import numpy as np
import pytest
from data.conftest import write_video

from vivit_jax import predict
from vivit_jax.analysis import timelines
from vivit_jax.data import pool
from vivit_jax.data.clips import Moments
from vivit_jax.data.decode import read_views
from vivit_jax.errors import InputError
from vivit_jax.observer import Observer


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (30, 48, 64, 3), np.uint8)
    path = tmp_path_factory.mktemp("long") / "noise.mp4"
    return write_video(path, 30, texture=frames.__getitem__)


@pytest.fixture
def command(command_of):
    return command_of(predict)


def scores_at(workdir, video, begin):
    observer = Observer(str(workdir))
    clip = Moments(tuple(begin + np.arange(4) / 10))
    views = read_views(video, clip, observer.geometry(), (0,))
    return observer.scores(views[None])[0]


def test_the_timeline_has_each_windows_scores_and_the_whole_has_their_mean(
    command, tiny_run, video, tmp_path
):
    code, (out, _) = command(video, "--hop", "0.4", "--json", "--out", tmp_path / "out")
    assert code == 0
    made = json.loads(out)
    keys = ["video", "seconds", "windows", "partial", "lost", "top", "timeline"]
    assert list(made) == keys
    assert (made["seconds"], made["windows"], made["partial"]) == (3.0, 8, False)
    spans = [(one["begin"], one["end"]) for one in made["timeline"]]
    begins = [0, 0.4, 0.8, 1.2, 1.6, 2.0, 2.4, 2.6]
    assert spans == [(begin, round(begin + 0.4, 3)) for begin in begins]
    expected = [scores_at(tiny_run, video, begin) for begin in begins]
    shown, expected = [*made["timeline"], made], [*expected, np.mean(expected, 0)]
    for one, scores in zip(shown, expected, strict=True):
        found = {row["label"]: row["score"] for row in one["top"]}
        np.testing.assert_allclose([found["a"], found["b"]], scores, atol=1e-5)
    assert json.loads((tmp_path / "out/noise.json").read_text()) == made
    picture = (tmp_path / "out/noise.timeline.png").read_bytes()
    assert picture.startswith(b"\x89PNG")


def test_what_is_longer_than_a_minute_is_judged_in_windows_unless_whole_is_wanted(
    command, video, monkeypatch
):
    code, (out, _) = command(video, "--json")
    assert (code, set(json.loads(out))) == (0, {"video", "top"})
    monkeypatch.setattr(predict, "LONG", 2.0)
    code, (out, _) = command(video, "--json")
    assert (code, json.loads(out)["windows"]) == (0, 8)
    code, (out, _) = command(video, "--json", "--whole")
    assert (code, set(json.loads(out))) == (0, {"video", "top"})


@pytest.mark.parametrize("option", ["--crops", "--out"])
def test_what_is_asked_of_windows_makes_windows_of_a_short_video(command, video, tmp_path, option):
    given = {"--crops": 3, "--out": tmp_path / "out"}[option]
    code, (out, _) = command(video, "--json", option, given)
    assert (code, json.loads(out)["windows"]) == (0, 8)
    assert (tmp_path / "out/noise.timeline.png").exists() == (option == "--out")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--live", "x", "--out", "y"), "--out does nothing with --live"),
        (("--live", "x", "--whole"), "--whole does nothing with --live"),
        (("--live", "x", "--workers", "0"), "--workers does nothing with --live"),
        (("x.mp4", "--seconds", "0"), "--seconds does nothing without --live"),
        (("x.mp4", "--allow", "tcp"), "--allow does nothing without --live"),
        (("x.mp4", "--patience", "10"), "--patience does nothing without --live"),
        (("x.mp4", "--whole", "--hop", "1"), "--hop does nothing with --whole"),
        (("x.mp4", "--whole", "--crops", "1"), "--crops does nothing with --whole"),
        (("x.mp4", "--whole", "--out", "y"), "--out does nothing with --whole"),
    ],
)
def test_an_option_that_does_nothing_is_refused_with_the_mode(given, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["predict", "--checkpoint", "x", *given])
    with pytest.raises(SystemExit, match="2"):
        predict.main()
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("sampling", ["segments", "key_frames"])
def test_a_model_of_whole_videos_judges_long_ones_whole_and_no_window_without_its_length(
    command, tiny_run, video, tmp_path, monkeypatch, sampling
):
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    config = json.loads((workdir / "config.json").read_text())
    config["data"]["sampling"] = sampling
    (workdir / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(predict, "LONG", 2.0)
    given = ["--checkpoint", workdir, video, "--json"]
    code, (out, _) = command(*given)
    assert (code, set(json.loads(out))) == (0, {"video", "top"})
    code, (out, error) = command(*given, "--hop", 1)
    assert (code, out) == (2, "")
    assert "a window has no length of its own: give --window" in error


@pytest.mark.parametrize("options", [[], ["--hop", 1]])
def test_no_room_for_pixels_is_told_once_and_of_no_video(command, video, monkeypatch, options):
    def full(size):
        raise InputError("No room for clips.")

    monkeypatch.setattr(pool, "_memory_file", full)
    code, (out, error) = command(video, video, *options)
    assert (code, out) == (2, "")
    assert error.endswith("error: No room for clips.\n")


def test_a_model_that_says_nothing_finite_of_a_video_has_no_answer_on_it(
    command, video, monkeypatch
):
    monkeypatch.setattr(Observer, "scores", lambda self, clips: np.full((len(clips), 2), np.nan))
    code, (out, _) = command(video, "--json")
    assert code == 1
    message = "the model's output is not finite"
    error = {"cause": "not_finite", "message": message}
    assert json.loads(out) == {"video": str(video), "error": error}
    code, (out, _) = command(video, "--json", "--hop", 0.4)
    assert code == 1
    assert message in json.loads(out)["error"]["message"]


def test_the_table_merges_windows_that_one_class_leads(command, video):
    code, (out, _) = command(video, "--window", "0.4")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == str(video)
    assert lines[1].split()[0] == "0:00"
    last = lines[lines.index("  of the whole video") - 1]
    assert last.split()[1] == "0:03"


def test_a_window_longer_than_the_video_is_that_videos_error(command, video):
    code, (out, _) = command(video, "--window", "9", "--json")
    assert code == 1
    error = json.loads(out)["error"]
    assert "a window of 9.00 s is longer than the video, which has 3.00 s" in error["message"]


def test_of_a_cut_file_what_is_there_is_told_and_marked(command, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    path = write_video(tmp_path / "a.mkv", 40, texture=noise.__getitem__)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 5])
    code, (out, _) = command(path, "--hop", "0.4", "--json")
    made = json.loads(out)
    assert (code, made["partial"]) == (1, True)
    assert made["lost"][-1]["cause"] == "truncated"
    assert 1 < made["timeline"][-1]["end"] < 3.5
    code, (out, _) = command(path, "--hop", "0.4")
    assert code == 1
    assert "PARTIAL" in out


def test_a_folder_gives_all_its_videos(command, tmp_path):
    for name in ("a.mp4", "b/c.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_video(tmp_path / name, 8)
    code, (out, _) = command(tmp_path, "--json")
    assert code == 0
    found = [json.loads(line)["video"] for line in out.splitlines()]
    assert found == [str(tmp_path / "a.mp4"), str(tmp_path / "b/c.mp4")]


def test_runs_end_where_the_leader_changes_or_windows_are_lost():
    scores = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [np.nan, np.nan], [0.6, 0.4]])
    spans = np.stack([np.arange(5.0), np.arange(5.0) + 2], axis=1)
    there = np.array([1, 1, 1, 0, 1], bool)
    found = timelines.runs(scores, spans, there)
    assert [run[:3] for run in found] == [(0, 2.5, 0), (2.5, 3.5, 1), (4.5, 6, 0)]
    np.testing.assert_allclose([run.score for run in found], [0.8, 0.8, 0.6])


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00"), (59.96, "1:00"), (75.25, "1:15.2"), (3661.5, "1:01:01.5")]
)
def test_moments_read_as_a_clock(seconds, text):
    assert timelines.moment(seconds) == text
