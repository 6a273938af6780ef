"""Events are where the scores say, and every wrong input is named."""

import json
import types

import numpy as np
import pytest
from data.conftest import write_video
from tiny import noise_video

from vivit_jax import events, unusual
from vivit_jax.analysis import anomaly, truth
from vivit_jax.analysis.thresholds import evaluation
from vivit_jax.data.decode import Extent
from vivit_jax.data.windows import Grid
from vivit_jax.errors import InputError
from vivit_jax.evals.neighbours import whitening
from vivit_jax.features import Video
from vivit_jax.watching import Watched


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    path = tmp_path_factory.mktemp("long") / "noise.mp4"
    return write_video(path, 40, texture=frames.__getitem__)


@pytest.fixture
def command(command_of):
    return command_of(events)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--anomaly", "--learn", "x"), "--learn does nothing with --anomaly"),
        (("--anomaly", "--threshold", "0"), "--threshold does nothing with --anomaly"),
        (("--anomaly", "--thresholds", "x"), "--thresholds does nothing with --anomaly"),
        (("--by", "distance"), "--by does nothing without --anomaly"),
        (("--normal", "x"), "--normal does nothing without --anomaly"),
        (("--most", "500"), "--most does nothing without --anomaly"),
        (("--nearest", "5"), "--nearest does nothing without --anomaly"),
        (("--masks", "4"), "--masks does nothing without --anomaly"),
        (("--quantile", "0"), "--quantile does nothing without --anomaly"),
        (("--learn", "x", "--out", "y"), "--out does nothing with --learn"),
        (("--learn", "x", "--truth", "y"), "--truth does nothing with --learn"),
        (("--learn", "x", "--threshold", "0"), "--threshold does nothing with --learn"),
        (("--anomaly", "--masks", "4"), "--masks does nothing with --by=distance"),
        (
            ("--anomaly", "--by", "reconstruction", "--nearest", "5"),
            "--nearest does nothing with --by=reconstruction",
        ),
        (
            ("--smooth", "none", "--smooth-seconds", "1"),
            "--smooth-seconds does nothing with --smooth=none",
        ),
    ],
)
def test_an_option_that_does_nothing_is_refused_with_the_mode(given, message, capsys):
    with pytest.raises(SystemExit, match="2"):
        events.parsed(["--checkpoint", "x", "v.mp4", *given])
    assert message in capsys.readouterr().err


def test_what_is_not_told_has_its_default():
    given = events.parsed(["--checkpoint", "x", "v.mp4", "--anomaly", "--most", "7"])
    assert (given.threshold, given.by, given.normal, given.most) == (0.3, "distance", None, 7)
    assert (given.nearest, given.masks, given.quantile) == (5, 4, 0.99)


def test_a_threshold_that_is_always_reached_gives_one_event_a_class(command, video, tmp_path):
    truth = tmp_path / "truth.csv"
    truth.write_text(f"video,begin,end,label\n{video},0,4,a\nnoise.mp4,1,3,b\n")
    code, (out, _) = command(
        *(video, "--threshold", "0", "--json", "--truth", truth, "--out", tmp_path / "out")
    )
    assert code == 0
    made, worth = map(json.loads, out.splitlines())
    assert list(made) == ["video", "seconds", "windows", "partial", "lost", "events"]
    assert made["windows"] == 37  # a hop of one moment, a quarter of a window's four
    assert {one["label"] for one in made["events"]} <= {"a", "b"}
    assert all(0 <= one["begin"] < one["end"] <= 4 for one in made["events"])
    assert set(worth["evaluation"]) == {"found", "naive"}
    assert (tmp_path / "out/noise.events.png").read_bytes().startswith(b"\x89PNG")


def test_thresholds_are_learnt_written_and_used_and_are_one_models(command, video, tmp_path):
    truth, file = tmp_path / "truth.json", tmp_path / "thresholds.json"
    both = [{"begin": 0, "end": 4, "label": label} for label in ("a", "b")]
    truth.write_text(json.dumps({"noise": both}))
    code, (out, _) = command(video, "--learn", truth, "--thresholds", file, "--json")
    assert code == 0
    learnt = json.loads(out)
    assert set(learnt) == {"a", "b"}
    leading = max(learnt, key=lambda label: learnt[label]["f1"])
    assert learnt[leading]["f1"] == 1
    assert json.loads(file.read_text())["thresholds"] == learnt
    code, (out, _) = command(video, "--thresholds", file, "--threshold", "2", "--json")
    assert code == 0
    found_ = [one for one in json.loads(out)["events"] if one["label"] == leading]
    assert [(one["begin"], one["end"]) for one in found_] == [(0, 4)]
    code, (_, error) = command(video, "--thresholds", file, "--hop", "0.3")
    assert code == 2
    assert "was learnt otherwise: hop was 0.0 and is 0.3" in error
    file.write_text(file.read_text().replace('"fingerprint": "', '"fingerprint": "x'))
    code, (_, error) = command(video, "--thresholds", file)
    assert code == 2
    assert "fingerprint was 'x" in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,begin,end,label\nnoise.mp4,0,4,bb\n", "line 2: the model has no class 'bb'. Did"),
        ("video,begin,end,label\nnoise.mp4,4,4,a\n", "line 2: video 'noise.mp4', begin '4', end"),
        ("video,begin,end,label\n\nnoise.mp4,x,4,a\n", "line 3: video 'noise.mp4', begin 'x'"),
        ("path,begin,end\na,0,1\n", "line 1: no column video; expected"),
        ("video,begin,end,label\nother.mp4,0,4,a\n", "names none of the videos: it has other.mp4"),
        ("video,begin,end,label\n", "tells of nothing"),
        ("", "line 1: no column video"),
    ],
)
def test_a_truth_file_that_cannot_be_used_is_refused_with_its_line(
    command, video, tmp_path, text, message
):
    truth = tmp_path / "truth.csv"
    truth.write_text(text)
    code, (out, error) = command(video, "--truth", truth)
    assert (code, out) == (2, "")
    assert f"{truth}" in error
    assert message in error


def test_labels_of_json_are_any_and_what_is_no_table_is_refused(tmp_path):
    file = tmp_path / "truth.json"
    file.write_text('{"a": [{"begin": 0, "end": 1, "label": 0}]}')
    assert truth.read_truth(str(file))["a"][0].label == "0"
    file.write_text('{"database": [1]}')
    with pytest.raises(InputError, match='its "database" is a list'):
        truth.read_truth(str(file))


def test_windows_longer_than_the_video_and_cut_files_are_told(command, video, tmp_path):
    code, (out, _) = command(video, "--window", "9", "--json")
    assert code == 1
    assert "longer than the video" in json.loads(out)["error"]["message"]
    noise = np.random.default_rng(0).integers(0, 256, (40, 48, 64, 3), np.uint8)
    cut = write_video(tmp_path / "a.mkv", 40, texture=noise.__getitem__)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 5])
    code, (out, _) = command(cut, "--json")
    assert (code, json.loads(out)["partial"]) == (1, True)


def test_what_no_normal_video_shows_is_unusual(command, tmp_path):
    for seed in range(4):
        noise_video(tmp_path / "normal" / f"{seed}.mp4", seed)
    frames = np.random.default_rng(9).integers(0, 256, (40, 32, 48, 3), np.uint8)
    frames[15:25] = 255
    odd = write_video(tmp_path / "odd.mp4", 40, height=32, width=48, texture=frames.__getitem__)
    truth = tmp_path / "truth.csv"
    truth.write_text("video,begin,end\nodd.mp4,1.5,2.5\n")
    given = ["--anomaly", "--normal", tmp_path / "normal", "--truth", truth]
    given_out = "--nearest", 2, "--json", "--out", tmp_path / "out"
    code, (out, error) = command(odd, *given, *given_out)
    assert code == 0
    assert "12 windows of 4 normal videos" in error
    made, worth = map(json.loads, out.splitlines())
    assert worth["evaluation"]["roc_auc"] > 0.95
    best = max(made["timeline"], key=lambda one: one["score"])
    assert 1.2 <= best["begin"] <= 2.1
    assert (tmp_path / "out/odd.unusual.png").exists()
    code, (_, error) = command(odd, *given, "--by", "reconstruction")
    assert code == 2
    assert "'masked_pixels'" in error
    code, (_, error) = command(odd, "--anomaly", "--normal", odd)
    assert code == 2
    assert "too few" in error


def test_left_out_distances_are_those_from_the_other_videos_windows():
    rng = np.random.default_rng(0)
    rows, owner = rng.standard_normal((12, 40)), np.repeat(np.arange(4), 3)
    usual = anomaly.Usual(rows, owner, [])
    made = anomaly.Distance(usual, 2)
    assert not made.whitened
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    for i in range(12):
        others = np.sort((unit @ unit[i])[owner != owner[i]])
        assert made.own()[i] == pytest.approx(1 - others[-2:].mean(), abs=1e-5)
    near = anomaly.Distance(usual, 1)(rows)
    np.testing.assert_allclose(near, 0, atol=1e-5)


def test_distances_by_whitened_features_are_those_of_all_directions_alike():
    rng = np.random.default_rng(0)
    rows = (rng.standard_normal((40, 3)) * [9, 1, 1]).astype(np.float32)
    made = anomaly.Distance(anomaly.Usual(rows, np.arange(40) % 5, []), 3)
    assert made.whitened
    turned = rows @ whitening(rows)
    unit = turned / np.linalg.norm(turned, axis=1, keepdims=True)
    for i in range(7):
        nearest = np.sort(unit @ unit[i])[-3:]
        assert made(rows[i : i + 1])[0] == pytest.approx(1 - nearest.mean(), abs=1e-5)


class Seen:
    """Stands for a watcher: every video has windows of 2 seconds, one a second."""

    def __init__(self, seconds):
        self.seconds, self.watched = seconds, []

    def watch(self, path, see):
        self.watched.append(path)
        if "bad" in path:
            raise InputError(f"{path} cannot be read: empty: no bytes.")
        grid = Grid(2, 1.0, range(self.seconds - 1), self.seconds)
        rows = np.arange(len(grid), dtype=np.float32)[:, None]
        return Watched(path, Extent(self.seconds, 1.0, 8, 8), grid, rows, [])


def test_a_window_in_many_parts_of_a_file_is_seen_once_and_is_that_files():
    watcher = Seen(8)
    parts = anomaly.Normal("a.mp4", ((0.0, 4.0), (1.0, 5.0), (1.0, 5.0)))
    given = [parts, anomaly.Normal("bad.mp4"), anomaly.Normal("b.mp4")]
    given.append(anomaly.Normal("short.mp4", ((3.0, 4.0),)))
    usual = anomaly.look_at(watcher, given, see=len)  # type: ignore[arg-type]
    assert watcher.watched == ["a.mp4", "bad.mp4", "b.mp4", "short.mp4"]
    np.testing.assert_array_equal(usual.rows[:, 0], [*range(4), *range(7)])
    np.testing.assert_array_equal(usual.owner, [0] * 4 + [2] * 7)
    assert [why.split(" ")[0] for why in usual.unread] == ["bad.mp4", "short.mp4:"]


def test_parts_of_one_file_are_one_normal_video(monkeypatch):
    found = [
        Video(f"{name}{begin}", f"{name}.mp4", split="train", span=(begin, begin + 2.0))
        for begin in (0.0, 1.0)
        for name in "abc"
    ]
    whole = Video("a", "a.mp4", split="train")
    monkeypatch.setattr(unusual, "own", lambda saved: [*found, whole, Video("d", "d.mp4")])
    observer = types.SimpleNamespace(saved=types.SimpleNamespace(workdir="x"))
    given = events.parsed(["--checkpoint", "x", "v.mp4", "--anomaly"])
    both = ((0.0, 2.0), (1.0, 3.0))
    expected = [("a.mp4", ()), ("b.mp4", both), ("c.mp4", both)]
    assert unusual.normal(observer, given) == expected  # type: ignore[arg-type]
    given.most = 2
    assert len(unusual.normal(observer, given)) == 2  # type: ignore[arg-type]


def test_normal_videos_of_a_list_may_have_any_labels(tmp_path):
    (tmp_path / "list.csv").write_text("a.mp4,3,7\nb.mp4,1,2\n")
    given = events.parsed(
        ["--checkpoint", "x", "v.mp4", "--anomaly", "--normal", str(tmp_path / "list.csv")]
    )
    expected = [(str(tmp_path / name), ()) for name in ("a.mp4", "b.mp4")]
    assert unusual.normal(None, given) == expected  # type: ignore[arg-type]


def test_a_moments_score_is_the_mean_of_its_windows():
    grid = Grid(4, 2.0, (0, 2, 4, 5), 9)
    scores = np.array([1.0, 3.0, np.nan, 7.0])
    expected = [1, 1, 2, 2, 3, 5, 7, 7, 7]
    np.testing.assert_allclose(anomaly.by_moment(scores, grid), expected)
    np.testing.assert_array_equal(
        anomaly.happens([(1, 2), (4, 9)], grid), [0, 0, 1, 1, 0, 0, 0, 0, 1]
    )


def test_an_evaluation_of_the_truth_itself_is_perfect():
    truth = [[(0.0, 2.0, 0), (2.0, 5.0, 1)], [(1.0, 4.0, 1)]]
    found = [[(*one, 0.5) for one in of_video] for of_video in truth]
    made = evaluation(found, truth, ["a", "b", "c"])  # type: ignore[arg-type]
    assert made["mean"] == 1
    assert made["by_class"] == {"a": 1, "b": 1}
    assert evaluation([[]], [[]], ["a"])["mean"] is None
