"""Lists, labels and names that are wrong or hard to read: named at the start, or read right."""

import json
import os
import pathlib
import time

import pytest
from faults import runs
from faults.canary import SECRETS, told
from tiny import noise_video

from vivit_jax import config
from vivit_jax.data.examples import Sources
from vivit_jax.data.sources import open_sources
from vivit_jax.errors import InputError

pytestmark = pytest.mark.fault
CLASSES = 101


def opened(folder: pathlib.Path, text: str | bytes, **options) -> Sources:
    """Returns the sources of a list of files v0.mp4 to v9.mp4, which hold nothing."""
    for i in range(10):
        (folder / f"v{i}.mp4").write_bytes(b"x")
    (folder / "map.txt").write_text("".join(f"class {i}\n" for i in range(CLASSES)))
    (folder / "list.csv").write_bytes(text.encode() if isinstance(text, str) else text)
    given = {"train_list": str(folder / "list.csv"), "holdout": 0.0, **options}
    return open_sources(config.Data(**given))


def lines(*labels: object, separator: str = " ") -> str:
    return "".join(f"v{i}.mp4{separator}{label}\n" for i, label in enumerate(labels))


WRONG = {
    "-1": (lines(0, 1, -1), "list.csv, line 3: label '-1'"),
    "as many as there are classes": (lines(0, CLASSES), "line 2: label '101'"),
    "3.5": (lines(0, "3.5", 1), "line 2: label '3.5'"),
    "empty": ("v0.mp4,0\nv1.mp4,\n", "line 2: no label"),
    "counted from 1": (lines(1, 50, CLASSES), "line 3: label '101'"),
    "not a number": (lines(0, "nan", 1), "line 2: label 'nan'"),
}
RIGHT = {
    "CRLF": lines(0, 1, 2).replace("\n", "\r\n"),
    "tabs": lines(0, 1, 2, separator="\t"),
    "a byte order mark": "\ufeff" + lines(0, 1, 2),
    "a header line": "path,label\n" + lines(0, 1, 2, separator=","),
    "all of these": ("\ufeffvideo\tlabel\n" + lines(0, 1, 2, separator="\t")).replace("\n", "\r\n"),
}


@pytest.mark.parametrize("about", WRONG)
def test_a_wrong_label_is_refused_at_the_start_with_its_line(about, tmp_path, trial):
    text, message = WRONG[about]
    with trial(26, about) as one:
        one.silent = 1  # until it is refused
        with pytest.raises(InputError) as caught:
            opened(tmp_path, text, label_map=str(tmp_path / "map.txt"))
        one.silent = 0
        assert message in str(caught.value)


@pytest.mark.parametrize("about", RIGHT)
def test_every_way_to_write_a_list_is_read_right(about, tmp_path, trial):
    with trial(26, about) as one:
        found = opened(tmp_path, RIGHT[about]).train
        labels = {found.example(i).id: found.example(i).label for i in range(len(found))}
        one.silent = int(labels != {"v0.mp4": 0, "v1.mp4": 1, "v2.mp4": 2})
        assert not one.silent


def test_labels_that_count_from_1_without_a_map_are_refused(tmp_path, trial):
    with trial(26, "counted from 1, without a map"), pytest.raises(InputError) as caught:
        opened(tmp_path, lines(1, 2, 3))
    assert "lowest label is 1" in str(caught.value)


def test_a_label_map_without_a_label_of_its_first_class_is_told_of(tmp_path, trial, caplog):
    with trial(26, "counted from 1, without the last class"), caplog.at_level("WARNING"):
        opened(tmp_path, lines(1, 2, 3), label_map=str(tmp_path / "map.txt"))
        assert "No video has label 0" in caplog.text


def test_the_command_ends_by_2_with_the_line(tmp_path, trial):
    (tmp_path / "v0.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("v0.mp4,-1\n")
    with trial(26, "the command") as one:
        begun, options = time.monotonic(), f"--config.data.train_list={tmp_path}/list.csv"
        process = runs.start(tmp_path / "run", tmp_path, options)
        said = process.communicate(timeout=runs.PATIENCE)[1]
        one.wrong_code, one.seconds = process.returncode != 2, time.monotonic() - begun
        assert "list.csv, line 1: label '-1'" in said
        assert not one.wrong_code


LINKS = {
    "a file of the list": ("list.csv", "out.mp4 0\n", {}),
    "a folder of the list": ("list.csv", "away/a.mp4 0\n", {}),
    "a file of a class": ("", "", {}),
    "a class": ("", "", {}),
    "a split": ("", "", {}),
}


@pytest.mark.parametrize("about", LINKS)
def test_a_link_that_leaves_the_root_is_refused_unless_told(about, tmp_path, trial):
    away, root = tmp_path / "away", tmp_path / "root"
    places = {"a class": away / "c", "a split": away / "train"}
    noise_video((places.get(about, away) if about != "a split" else away / "train/c") / "a.mp4", 0)
    noise_video(root / ("val/c" if about == "a split" else "b") / "b.mp4", 1)
    given = {"root": str(root), "holdout": 0.0}
    if about.endswith("of the list"):
        os.symlink(away / "a.mp4", root / "out.mp4")
        os.symlink(away, root / "away")
        (root / "list.csv").write_text(LINKS[about][1])
        given["train_list"] = str(root / "list.csv")
    elif about == "a file of a class":
        os.symlink(away / "a.mp4", root / "b/out.mp4")
    else:
        os.symlink(places[about], root / places[about].name)
    with trial(38, f"a link: {about}"):
        with pytest.raises(InputError, match=r"data\.follow_links"):
            open_sources(config.Data(**given))
        found = open_sources(config.Data(**given, follow_links=True)).train
        assert len(found) >= 1


@pytest.mark.parametrize("path", ["../v.mp4", "/etc/v.mp4", "c/../../v.mp4"])
def test_a_path_that_leaves_the_root_is_refused_with_its_line(path, tmp_path, trial):
    (tmp_path / "root").mkdir()
    (tmp_path / "v.mp4").write_bytes(b"x")
    with trial(38, f"a list with {path}"), pytest.raises(InputError, match="line 1: .* leaves"):
        opened(tmp_path / "root", f"{path} 0\n", root=str(tmp_path / "root"))


NAMES = {
    "bytes that are no text": "caf\udce9.mp4",
    "spaces": " a  b .mp4",
    "a line break": "a\nb.mp4",
    "a dash first": "-x.mp4",
    "255 letters": "n" * 251 + ".mp4",
    "a protocol": "file:x.mp4",
    "a percent sign": "100%d.mp4",
    "quotes": "'\"`$(touch x)`.mp4",
}


@pytest.mark.slow
def test_a_run_over_names_that_are_hard_to_read(tmp_path, trial, repeat):
    """Names of videos, of a class and of what is no video; and one of 20 held-out videos cut."""
    videos, run = tmp_path / "videos", tmp_path / "run"
    for i, name in enumerate(NAMES.values()):
        noise_video(tmp_path / "plain.mp4", i).rename(_place(videos / "train/caf\udce9 $1", name))
    for i in range(4):
        noise_video(videos / f"train/b/{i}.mp4", 50 + i)
    for i in range(20):
        noise_video(videos / f"val/b/{i}.mp4", 100 + i)
    (videos / "train/b/folder.mp4").mkdir()
    os.symlink("loop.mp4", videos / "train/b/loop.mp4")
    os.symlink(videos / "train", videos / "train/b/up")
    cut = videos / "val/b/7.mp4"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    with trial(27, "of 8 videos, a class, a link to itself, to above, and a folder") as one:
        options = ("--config.train.steps=6", "--config.data.max_bad=0.1")
        process = runs.start(run, videos, *options, environment=SECRETS)
        said = runs.finish(process)
        bad = [json.loads(x) for x in (run / "bad_videos.jsonl").read_text().splitlines()]
        assert {x["id"] for x in bad if x["split"] == "train"} == {"train/b/loop.mp4"}
    with trial(40, "a run") as one:
        one.silent = len(told(run, said))
    with trial(8, "1 of 20, in training") as one:
        assert "19 of 20 videos; missing: val/b/7.mp4 (" in said
        (result,) = map(json.loads, (run / "results.jsonl").read_text().splitlines())
        assert (result["videos"], result["coverage"]) == (20, 0.95)
        listed = (run / "evaluation/00000006-eval/videos.csv").read_bytes().decode(errors="replace")
        one.silent = int("val/b/7.mp4" in listed or listed.count("\n") != 20)
        assert [x["id"] for x in bad if x["split"] == "eval"] == ["val/b/7.mp4"]
    with trial(8, "1 of 20, eval.strict") as one:
        given = ("--config.train.steps=0", "--config.eval.strict=True")
        process = runs.start(run, videos, *given)
        said = process.communicate(timeout=runs.PATIENCE)[1]
        one.wrong_code = process.returncode != 2
        assert not one.wrong_code
        assert "1 of 20 videos could not be read:\n  val/b/7.mp4: " in said


def test_a_class_whose_name_is_two_lines_is_refused(tmp_path, trial, repeat):
    noise_video(tmp_path / "a\nb" / "v.mp4", 0)
    with trial(27, "a class of two lines"), pytest.raises(InputError, match="one line"):
        open_sources(config.Data(root=str(tmp_path), holdout=0.0))


def _place(folder: pathlib.Path, name: str) -> pathlib.Path:
    """Returns where a file of a name goes, whose folder is made."""
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name
