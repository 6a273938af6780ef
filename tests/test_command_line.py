"""Every command answers each video, tells what is missing, and ends by a true code."""

import json

import pytest

from vivit_jax import command_line
from vivit_jax.errors import InputError
from vivit_jax.terminal import command_parser


def seen(path):
    if "bad" in path:
        raise InputError(f"{path} cannot be read: empty: no bytes.")
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
        assert [line["video"] for line in lines if "error" in line] == [
            path for path in paths if path == "bad"
        ]
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
