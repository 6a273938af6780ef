"""Every command answers each video, tells what is missing, and ends by a true code."""

import json
import os

import pytest

from vivit_jax import command_line, events, predict, summarise, trained
from vivit_jax.errors import Damaged, InputError, Unread
from vivit_jax.terminal import command_parser


def seen(path):
    if "bad" in path:
        raise Unread(f"{path} cannot be read: empty: no bytes.", "empty")
    lost = [{"begin": 1.0, "end": 2.5, "cause": "corrupt", "message": "damaged"}]
    return {"video": path, "partial": "cut" in path, "lost": lost if "cut" in path else [], "n": 3}


@pytest.mark.parametrize(
    ("paths", "code"), [(["a", "b"], 0), (["a", "bad"], 1), (["cut", "a"], 1), ([], 0)]
)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_video_that_fails_is_answered_and_the_others_too(paths, code, as_json, capsys):
    found = command_line.answer(paths, seen, lambda made: f"  n {made['n']}", as_json)
    assert found == code
    out = capsys.readouterr().out
    if as_json:
        lines = [json.loads(line) for line in out.splitlines()]
        assert [line["video"] for line in lines] == paths
        errors = {line["video"]: line["error"]["cause"] for line in lines if "error" in line}
        assert errors == {path: "empty" for path in paths if path == "bad"}
    else:
        assert out.count("  n 3") == sum(path != "bad" for path in paths)
        assert ("error: bad cannot be read: empty" in out) == ("bad" in paths)
        assert ("PARTIAL: 1.0 to 2.5 s: corrupt: damaged" in out) == ("cut" in paths)


@pytest.mark.parametrize("text", ["-1", "inf", "nan", "x"])
def test_a_number_that_is_none_is_refused_with_the_option(text, capsys):
    parser = command_parser("vivit_jax.some", "About.")
    command_line.add_windows(parser)
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--hop", text])
    assert "argument --hop: " in capsys.readouterr().err


@pytest.mark.parametrize("text", ["-1", "x", "1.5"])
def test_a_number_of_processes_that_is_none_is_refused(text, capsys):
    parser = command_parser("vivit_jax.some", "About.")
    command_line.add_windows(parser)
    assert parser.parse_args(["--workers", "3"]).workers == 3
    with pytest.raises(SystemExit, match="2"):
        parser.parse_args(["--workers", text])
    assert "argument --workers: " in capsys.readouterr().err


def test_lists_of_several_labels_name_their_videos(tmp_path):
    (tmp_path / "list.csv").write_text("a.mp4,wet,loud\nb c.mp4,fast\nd.mp4\n")
    found = command_line.videos([str(tmp_path / "list.csv")])
    assert found == [str(tmp_path / name) for name in ("a.mp4", "b c.mp4", "d.mp4")]


def test_a_folder_gives_its_videos_once(tmp_path):
    for name in ("a.mp4", "b/c.mkv", "notes.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = command_line.videos([str(tmp_path), str(tmp_path / "a.mp4")])
    assert found == [str(tmp_path / "a.mp4"), str(tmp_path / "b/c.mkv")]


def test_pictures_are_named_after_their_video_and_those_of_two_of_a_name_differ():
    paths = ["x/a.mp4", "y/a.mkv", "b.mp4", "a-2.mp4", "b.mp4"]
    names = command_line.names(paths)
    assert set(names) == set(paths)
    assert (names["b.mp4"], names["a-2.mp4"]) == ("b", "a-2")
    assert names["x/a.mp4"].startswith("a-")
    assert len(set(names.values())) == 4
    assert command_line.names(reversed(paths)) == names


def test_pictures_of_a_video_of_a_long_name_have_one_that_a_disk_takes():
    paths = ["视频" * 40 + "a.webm", "视频" * 40 + "b.webm", "v" * 248 + ".mp4"]
    names = command_line.names(paths)
    assert len(set(names.values())) == 3
    for path, name in names.items():
        assert len(os.fsencode(name)) < 165
        assert path.startswith(name.rpartition("-")[0])


@pytest.mark.parametrize(
    "lines", ["a.mp4,3,7\nb c.mp4,1,2\n", "path,labels\na.mp4,x\nb c.mp4,x\n", "a.mp4\nb c.mp4\n"]
)
def test_a_list_gives_its_videos_whatever_their_labels(tmp_path, lines):
    (tmp_path / "list.csv").write_text(lines)
    found = command_line.videos([str(tmp_path / "list.csv")])
    assert found == [str(tmp_path / "a.mp4"), str(tmp_path / "b c.mp4")]


@pytest.mark.parametrize("folder", ["file/folder", "/proc/self"])
def test_a_folder_that_cannot_be_written_into_is_refused_with_its_option(tmp_path, folder):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=rf"^--some=.*{folder} cannot be written into: "):
        command_line.make_folder(tmp_path / folder, "--some")


@pytest.fixture(params=["predict", "events", "learn", "anomaly", "summarise"])
def judge(request, command_of, tiny_videos, tmp_path):
    """Returns a command on a video, as a function of where it writes to and other options."""
    (video,) = tiny_videos.glob("val/a/*.mp4")
    truth = tmp_path / "truth.csv"
    truth.write_text(f"video,begin,end,label\n{video},0,1,a\n")
    module = {"predict": predict, "summarise": summarise}.get(request.param, events)
    kind = {"learn": ("--learn", truth), "anomaly": ("--anomaly", "--normal", tiny_videos)}

    def run(out, *options):
        to = ("--out", out) if request.param != "learn" else ("--thresholds", out / "learnt.json")
        return command_of(module)(video, *kind.get(request.param, ()), *to, *options)

    return run


def test_what_is_wrong_with_the_parameters_is_told_once_and_of_no_video(
    judge, tmp_path, monkeypatch
):
    def damaged(*arguments):
        raise Damaged("Step 2 is not what was saved.")

    monkeypatch.setattr(trained, "read_params", damaged)
    code, (out, error) = judge(tmp_path / "out")
    assert (code, out) == (2, "")
    assert error.endswith("error: Step 2 is not what was saved.\n")


def test_where_nothing_can_be_written_the_model_is_not_even_looked_for(judge, tmp_path):
    (tmp_path / "file").write_text("")
    code, (out, error) = judge(tmp_path / "file", "--checkpoint", "nowhere")
    assert (code, out) == (2, "")
    assert f"={tmp_path / 'file'} cannot be written into" in error
