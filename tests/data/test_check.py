"""The doctor finds what was planted, and nothing else; what it writes is read by training."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import write_video
from planted import FAULTS, LEAKS, encode, scene

from vivit_jax import config
from vivit_jax.data.check import check, main
from vivit_jax.data.examples import Example, Listed, Sources, fingerprint
from vivit_jax.data.findings import CAUSES, choose_bad
from vivit_jax.data.sources import open_sources
from vivit_jax.data.synthetic import SPLITS, encode_all
from vivit_jax.errors import InputError

CLIP = ["--frames", "8", "--stride", "2"]


def doctor(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Returns how the command ended."""
    command = [sys.executable, "-m", "vivit_jax.data.check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def lines(file: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def causes(out: pathlib.Path) -> dict[str, list[str]]:
    """Returns the causes of what was found, by id."""
    records = lines(out / "checks.jsonl")
    return {record["id"]: [cause for cause, _ in record["findings"]] for record in records}


def ids(source) -> set[str]:
    return {source.example(i).id for i in range(len(source))}


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """Returns a folder of good videos and planted faults, these, and what the doctor said."""
    root = tmp_path_factory.mktemp("planted")
    few = {"train": 2, "val": 1}  # of each of 8 classes
    encode_all(
        root / "videos", {n: dataclasses.replace(s, videos=few[n]) for n, s in SPLITS.items()}
    )
    good = sorted((root / "videos").rglob("*.mp4"))
    trained = [path for path in good if path.parts[-3] == "train"]
    held_out = [path for path in good if path.parts[-3] == "val"]
    expected = {}
    for i, (name, fault) in enumerate({**FAULTS, **LEAKS}.items()):
        donors = held_out if name in LEAKS else trained
        of = donors[i % len(donors)]
        made = root / "videos/train" / of.parent.name / f"planted_{name}{fault.ending}"
        fault.make(made, of, np.random.default_rng([7, i]))
        expected[made.relative_to(root / "videos").as_posix()] = fault.cause
    answer = doctor(root / "videos", *CLIP, "--out", root / "out")
    return root, expected, answer


@pytest.fixture
def few(tmp_path) -> pathlib.Path:
    """Returns a folder of two classes: two good videos and an empty file."""
    for name in ("run/a", "jump/b"):
        path = tmp_path / f"videos/{name}.mp4"
        path.parent.mkdir(parents=True)
        encode(path, scene(np.random.default_rng(len(path.name) + ord(name[-1]))))
    (tmp_path / "videos/run/empty.mp4").touch()
    return tmp_path


def test_every_planted_fault_is_found_and_nothing_else(planted):
    root, expected, answer = planted
    found = causes(root / "out")
    missed = {name: cause for name, cause in expected.items() if cause not in found[name]}
    assert missed == {}, answer.stdout
    assert {name for name in found if found[name]} == set(expected), answer.stdout


def test_bad_videos_are_those_with_a_bad_cause_each_with_what_was_found(planted):
    root, expected, answer = planted
    assert answer.returncode == 3
    bad = {line["id"]: line for line in lines(root / "out/bad_videos.jsonl")}
    assert set(bad) == {name for name, cause in expected.items() if CAUSES[cause].bad}
    for name, line in bad.items():
        assert pathlib.Path(line["path"]) == root / "videos" / name
        assert line["split"] == "train"
        assert expected[name] in line["message"]


def test_the_bad_list_and_the_clean_lists_leave_the_same_videos(planted):
    root, _, answer = planted
    whole = open_sources(config.Data(root=str(root / "videos")))
    without = open_sources(
        config.Data(root=str(root / "videos"), exclude=str(root / "out/bad_videos.jsonl"))
    )
    bad = {line["id"] for line in lines(root / "out/bad_videos.jsonl")}
    assert ids(without.train) == ids(whole.train) - bad
    assert ids(without.eval) == ids(whole.eval)
    told = dict(re.findall(r"--config\.data\.(\w+)=(\S+)", answer.stdout.splitlines()[-1]))
    clean = open_sources(config.Data(**told))
    assert clean.label_maps == without.label_maps == whole.label_maps
    assert fingerprint(clean.train) == fingerprint(without.train)
    assert fingerprint(clean.eval) == fingerprint(without.eval)


def test_the_page_stands_alone_and_shows_what_was_found(planted):
    root, expected, _ = planted
    page = (root / "out/index.html").read_text()
    assert not re.search(r"https?:|<script|<link|src=\"(?!data:)", page)
    assert all(name in page for name in expected)
    pictures = page.count("data:image/jpeg;base64,")
    unseen = ("empty", "unreadable", "no_video")
    assert pictures == sum(cause not in unseen for cause in expected.values())
    assert page.count("<figure>") == 3
    assert "zoom_in" in page


def test_a_second_run_decodes_nothing_and_may_judge_otherwise(planted, tmp_path):
    root, _, _ = planted
    out = tmp_path / "again"
    shutil.copytree(root / "out", out)
    again = doctor(root / "videos", *CLIP, "--out", out, "--bad", "rotated,short")
    assert again.returncode == 3
    assert "\n0 videos decoded" in again.stdout
    assert {line["cause"] for line in lines(out / "bad_videos.jsonl")} == {"rotated", "short"}
    assert causes(out) == causes(root / "out")


def test_no_real_clip_is_bad_that_decodes_whole(real_clips, tmp_path):
    for i, path in enumerate(real_clips):
        if path.parent.name != "odd" and path.stat().st_size < 500_000:  # decoded within seconds
            (tmp_path / "videos").mkdir(exist_ok=True)
            os.symlink(path, tmp_path / f"videos/{i:02d}_{path.name}")
    paths = sorted((tmp_path / "videos").iterdir())
    (tmp_path / "list.txt").write_text("".join(f"{path}\n" for path in paths))
    answer = doctor(tmp_path / "list.txt", "--labels", "none", "--out", tmp_path / "out")
    assert answer.returncode == 0, answer.stdout
    found = {cause for kinds in causes(tmp_path / "out").values() for cause in kinds}
    assert found <= {"short", "time_stamps", "odd_rate", "rotated", "non_square_pixels"}


def test_files_that_are_not_there_and_classes_of_one_split_are_told_not_refused(few):
    (few / "videos/train.csv").write_text("run/a.mp4,run\ngone.mp4,run\njump/b.mp4,jump\n")
    (few / "videos/eval.csv").write_text("run/empty.mp4,swim\n")
    root = few / "videos"
    answer = doctor(root / "train.csv", "--eval-list", root / "eval.csv", "--out", few / "out")
    assert answer.returncode == 3, answer.stderr
    found = causes(few / "out")
    assert found["gone.mp4"] == ["missing"]
    assert found["run/empty.mp4"] == ["empty"]
    assert "train: 1 classes without a video: swim" in answer.stdout
    assert "eval: 2 classes without a video: jump, run" in answer.stdout
    assert "train: 1 classes with a single video: jump" in answer.stdout
    lists = {"train_list": str(root / "train.csv"), "labels": "single"}
    with pytest.raises(InputError, match=r"no such file: .*gone\.mp4"):
        open_sources(config.Data(**lists))
    without = config.Data(**lists, exclude=str(few / "out/bad_videos.jsonl"), holdout=0.0)
    assert ids(open_sources(without).train) == {"run/a.mp4", "jump/b.mp4"}


def test_a_clean_data_set_ends_with_0(few):
    (few / "videos/run/empty.mp4").unlink()
    answer = doctor(few / "videos", *CLIP, "--out", few / "out")
    assert answer.returncode == 0, answer.stdout
    assert "0 bad, 0 with warnings, 2 without" in answer.stdout


@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (["nowhere"], "cannot be read"),
        (["run/a.mp4"], "is a video by its name"),
        ([".", "--bad", "frozzen"], "Did you mean 'frozen'"),
        ([".", "--frames", "0"], "data.frames is 0"),
        ([".", "--timeout", "0"], "--timeout is 0"),
        ([".", "--root", "run"], "--root and --eval-list are for lists"),
        ([".", "--out", "run/a.mp4"], "cannot be used"),
    ],
)
def test_what_cannot_be_used_is_named(few, monkeypatch, wrong, found):
    monkeypatch.chdir(few / "videos")
    monkeypatch.setattr(sys, "argv", ["check", *wrong])
    monkeypatch.setattr("vivit_jax.data.check.speak", lambda first_process: None)
    with pytest.raises(InputError, match=re.escape(found)):
        main()


def test_content_without_files_is_checked_too(few):
    good = (few / "videos/run/a.mp4").read_bytes()
    other = (few / "videos/jump/b.mp4").read_bytes()
    train = Listed([Example("0", good, 0), Example("1", good[:-500], 0), Example("2", b"", 1)])
    parts = [Example("3", other, 1, (0.0, 1.9)), Example("4", good, 0, (0.5, 0.6))]
    sources = Sources(train, Listed(parts), (("run", "jump"),))
    data = config.Data(frames=8, stride=2)
    bad = choose_bad("default")
    assert check(sources, data, few / "out", bad=bad, workers=1, timeout=60) == 3
    found = causes(few / "out")
    assert found["0"] == ["leak"]
    assert found["2"] == ["empty"]
    assert found["4"] == ["short"]
    assert not list(few.glob("out/clean*"))


@pytest.mark.slow
def test_videos_that_are_records_are_checked_and_shown(few, tmp_path):
    (few / "videos/run/empty.mp4").unlink()
    shutil.copy(few / "videos/run/a.mp4", few / "videos/run/again.mp4")
    build = [sys.executable, "-m", "vivit_jax.data.build", "--root", few / "videos", "--holdout", 0]
    build += ["--out", tmp_path / "records", "--form", "video"]
    subprocess.run([str(x) for x in build], check=True)
    answer = doctor(tmp_path / "records", "--dataset", "records", *CLIP, "--out", few / "out")
    assert answer.returncode == 3, answer.stderr
    assert sorted(causes(few / "out").values()) == [[], [], ["duplicate"]]
    assert (few / "out/index.html").read_text().count("data:image/jpeg") == 1


def worker_of(process: subprocess.Popen, seconds: float = 30.0) -> int:
    """Returns the process id of a decoding process of a doctor, as soon as there is one."""
    end = time.monotonic() + seconds
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while time.monotonic() < end:
        for child in children.read_text().split():
            if b"vivit_jax.data.worker" in pathlib.Path(f"/proc/{child}/cmdline").read_bytes():
                return int(child)
        time.sleep(0.01)
    raise AssertionError("no decoding process")


@pytest.fixture
def long(tmp_path) -> pathlib.Path:
    """Returns a list of a video that takes seconds to decode, and a short one."""
    size = {"height": 720, "width": 1280, "options": {"preset": "ultrafast", "g": "500"}}
    noise = np.random.default_rng(0).integers(0, 256, (4, 90, 160, 3), np.uint8)
    noise = noise.repeat(8, axis=1).repeat(8, axis=2)
    write_video(tmp_path / "long.mp4", 150, **size, texture=lambda i: noise[i % 4])
    encode(tmp_path / "short.mp4", scene(np.random.default_rng(0)))
    (tmp_path / "list.txt").write_text("long.mp4\nshort.mp4\n")
    return tmp_path


def command(folder: pathlib.Path) -> list[str]:
    out = str(folder / "out")
    return [str(folder / "list.txt"), "--labels", "none", "--out", out, "--workers", "1", *CLIP]


def start(*arguments: str) -> subprocess.Popen:
    program = [sys.executable, "-m", "vivit_jax.data.check", *arguments]
    return subprocess.Popen(program, stdout=subprocess.DEVNULL)


def written(file: pathlib.Path, seconds: float = 30.0) -> None:
    """Returns once a file has something in it."""
    end = time.monotonic() + seconds
    while not (file.exists() and file.stat().st_size):
        assert time.monotonic() < end, f"nothing was written to {file.name}"
        time.sleep(0.01)


def decoding(pid: int, file: pathlib.Path, seconds: float = 30.0) -> None:
    """Returns once a process has a file open."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                if os.readlink(f"/proc/{pid}/fd/{descriptor}") == str(file):
                    return
        time.sleep(0.005)
    raise AssertionError("it is not being decoded")


@pytest.mark.parametrize(
    ("sent", "cause"),
    [
        (signal.SIGABRT, "crashed"),
        pytest.param(signal.SIGSTOP, "timeout", marks=pytest.mark.slow),
    ],
)
def test_a_decoder_that_dies_or_hangs_costs_one_video_which_is_tried_again(long, sent, cause):
    with start(*command(long), "--timeout", "5") as process:
        pid = worker_of(process)
        decoding(pid, long / "long.mp4")
        os.kill(pid, sent)
    assert process.returncode == 3
    assert causes(long / "out") == {"long.mp4": [cause], "short.mp4": []}
    again = doctor(*command(long))
    assert again.returncode == 0
    assert "\n1 videos decoded" in again.stdout
    assert causes(long / "out") == {"long.mp4": [], "short.mp4": []}


def test_ctrl_c_keeps_what_was_measured(long):
    (long / "list.txt").write_text("short.mp4\nlong.mp4\n")
    with start(*command(long)) as process:
        written(long / "out/checks.jsonl")
        decoding(worker_of(process), long / "long.mp4")
        process.send_signal(signal.SIGINT)
    assert process.returncode == -signal.SIGINT
    assert [line["id"] for line in lines(long / "out/checks.jsonl")] == ["short.mp4"]
    again = doctor(*command(long))
    assert again.returncode == 0
    assert "\n1 videos decoded" in again.stdout
