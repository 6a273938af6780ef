"""A build is the same however it was made, and refuses what it cannot trust."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import av
import numpy as np
import pytest
from conftest import STEP, write_video

from vivit_jax import config
from vivit_jax.data import build, record_plan, record_shards
from vivit_jax.data.catalog import open_dataset
from vivit_jax.data.encoding import encode
from vivit_jax.data.record_format import NANO, Form
from vivit_jax.errors import InputError


def plan_of(out: pathlib.Path, *flags: str) -> record_plan.Plan:
    """Returns what the command would build with these flags."""
    return build.make_plan(build.parse(["--out", str(out), *flags])[0])


def build_with(out: pathlib.Path, *flags: str, timeout: float = 60) -> pathlib.Path:
    """Returns the folder of a dataset, built as the command builds it."""
    plan = plan_of(out, *flags)
    record_shards.build(plan, 2, timeout)
    return pathlib.Path(plan.out)


def files(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns every file below a folder."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Returns a folder of train and val, with one video that cannot be read."""
    root = tmp_path_factory.mktemp("folder")
    for split, count in (("train", 5), ("val", 2)):
        for label in ("a", "b"):
            (root / split / label).mkdir(parents=True)
            for i in range(count):
                write_video(root / split / label / f"{i}.mp4", 12 + i)
    (root / "train/b/empty.mp4").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory) -> pathlib.Path:
    """Returns the dataset of that folder."""
    out = tmp_path_factory.mktemp("built")
    return build_with(out, "--root", str(folder), "--shard-videos", "4")


def test_examples_are_those_of_the_folder_in_its_order(folder, built):
    there = open_dataset(config.Data(root=str(folder)))
    here = open_dataset(config.Data(dataset="records", root=str(built.parents[1])))
    assert here.label_maps == there.label_maps == (("a", "b"),)
    for split, count in (("train", 11), ("eval", 4)):
        mine, theirs = getattr(here, split), getattr(there, split)
        assert len(mine) == len(theirs) == count
        for i in range(count):
            assert mine.example(i).id == theirs.example(i).id
            assert mine.example(i).label == theirs.example(i).label


def test_tfds_reads_what_was_built(built):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(built)
    assert builder.info.full_name == "videos/1.0.0"
    assert builder.info.features["label"].names == ["a", "b"]
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        "train": 11,
        "validation": 4,
    }
    by_name = tfds.data_source("videos", split="train", data_dir=built.parents[1])
    for source in (builder.as_data_source("train"), by_name):
        example = source[6]
        assert example["id"] == b"train/b/1.mp4"
        assert example["label"] == 1
        assert np.shape(example["frames"]) == (13, 48, 64, 3)
        brightness = np.mean(example["frames"], axis=(1, 2, 3)) / STEP
        np.testing.assert_allclose(brightness, np.arange(13), atol=0.4)
    validation = builder.as_data_source("validation")
    assert [validation[i]["id"] for i in range(4)] == [
        f"val/{label}/{i}.mp4".encode() for label in "ab" for i in range(2)
    ]


def test_a_video_that_cannot_be_read_keeps_its_place_and_is_written_down(built):
    lines = (built / record_plan.BAD).read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {
            "id": "train/b/empty.mp4",
            "cause": "empty",
            "message": "the file has no bytes",
            "split": "train",
        }
    ]
    index = (built / "train.index.jsonl").read_text().splitlines()
    assert json.loads(index[10]) == {"id": "train/b/empty.mp4", "label": 1}


def test_a_killed_build_goes_on_and_is_byte_for_byte_the_unbroken_one(folder, built, tmp_path):
    flags = ["--root", str(folder), "--shard-videos", "4", "--out", str(tmp_path)]
    command = [sys.executable, "-m", "vivit_jax.data.build", *flags, "--workers", "1"]
    notes = tmp_path / "videos/.1.0.0.progress"
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True) as process:
        while not list(notes.glob("*.json")) or len(list(notes.glob("*.json"))) < 2:
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
    unfinished = tmp_path / "videos/.1.0.0.unfinished"
    before = {path: path.stat().st_mtime_ns for path in unfinished.glob("*array_record*")}
    kept = [unfinished / path.name.removesuffix(".json") for path in notes.glob("*array*.json")]
    assert kept
    with pytest.raises(InputError, match=r"half written.*again"):
        open_dataset(config.Data(dataset="records", root=str(tmp_path)))
    moved = {path.name: before[path] for path in kept}
    whole = build_with(tmp_path, *flags[:4])
    assert files(whole) == files(built)
    for name, time_ns in moved.items():
        assert (whole / name).stat().st_mtime_ns == time_ns  # not made twice
    assert sorted(path.name for path in whole.parent.iterdir()) == [".1.0.0.lock", "1.0.0"]


def test_a_half_written_shard_is_written_again(folder, built, tmp_path):
    flags = ("--root", str(folder), "--shard-videos", "4")
    plan = plan_of(tmp_path, *flags)
    record_plan.begin(plan)
    (plan.unfinished / plan.shards()[0].file).write_bytes(b"half")
    (plan.notes / f"{plan.shards()[1].file}.new").write_bytes(b"half")
    assert files(build_with(tmp_path, *flags)) == files(built)


def test_a_list_that_changed_is_refused_by_name(folder, built, tmp_path):
    changed = tmp_path / "folder"
    shutil.copytree(folder, changed)
    (changed / "train/a/0.mp4").rename(changed / "train/a/new.mp4")
    flags = ("--root", str(changed), "--shard-videos", "4")
    fault = r"videos of train \(1 gone \(the first: train/a/0.mp4\), 1 new .*train/a/new.mp4"
    for out in (tmp_path / "finished", tmp_path / "unfinished"):
        shutil.copytree(built.parents[1], out)
    with pytest.raises(InputError, match=fault):
        run(tmp_path / "finished", *flags)
    shutil.rmtree(tmp_path / "unfinished/videos")
    record_plan.begin(plan_of(tmp_path / "unfinished", "--root", str(folder)))
    with pytest.raises(InputError, match=r"per_shard \(64, now 4\).*" + fault):
        record_plan.begin(plan_of(tmp_path / "unfinished", *flags))


def run(out: pathlib.Path, *flags: str) -> int:
    """Runs the command here; returns its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["build", "--out", str(out), *flags])
        return build.main()


def test_other_options_are_refused_by_name(folder, built):
    with pytest.raises(InputError, match=r"quality \(85, now 50\)"):
        run(built.parents[1], "--root", str(folder), "--quality", "50")
    with pytest.raises(InputError, match=r"kind \(jpeg, now video\)"):
        run(built.parents[1], "--root", str(folder), "--form", "video")


def test_the_same_command_again_does_nothing(folder, built, capsys):
    before = {path: path.stat().st_mtime_ns for path in built.rglob("*")}
    assert run(built.parents[1], "--root", str(folder), "--shard-videos", "4") == 0
    assert "built already" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in built.rglob("*")} == before


@pytest.mark.slow
def test_a_video_that_takes_too_long_costs_only_itself(folder, tmp_path):
    slow = tmp_path / "slow"
    (slow / "a").mkdir(parents=True)
    grey = np.full((720, 1280, 3), 99, np.uint8)
    write_video(slow / "a/0.mp4", 400, height=720, width=1280, texture=lambda i: grey)
    write_video(slow / "a/1.mp4", 12)
    out = build_with(tmp_path, "--root", str(slow), "--holdout", "0", timeout=0.5)
    rows = [json.loads(line) for line in (out / record_plan.BAD).read_text().splitlines()]
    assert [(row["id"], row["cause"]) for row in rows] == [("a/0.mp4", "timeout")]


def test_two_builds_of_one_dataset_do_not_meet(folder, tmp_path):
    plan = plan_of(tmp_path, "--root", str(folder))
    with record_plan.alone(plan), pytest.raises(InputError, match="under way"):
        record_shards.build(plan, 1, 60)


@pytest.mark.parametrize(
    ("flags", "fault"),
    [
        (("--form", "gif"), "--form is 'gif'"),
        (("--short-side", "4"), "--short-side is 4; expected 16"),
        (("--quality", "0"), "--quality is 0"),
        (("--form", "video", "--every", "2"), "are for --form jpeg"),
        (("--name", "My Videos"), "--name is 'My Videos'"),
        (("--version", "1"), "--version is '1'"),
        (("--dataset", "records"), "no dataset of video files"),
    ],
)
def test_flags_that_cannot_be_are_refused(folder, tmp_path, flags, fault):
    with pytest.raises(InputError, match=fault):
        plan_of(tmp_path, "--root", str(folder), *flags)


def test_labels_of_every_kind_reach_tfds(folder, tmp_path):
    import tensorflow_datasets as tfds

    names = [f"train/a/{i}.mp4" for i in range(4)]
    lists = {
        "multi": [f"{name},{i % 2},2\n" for i, name in enumerate(names)],
        "heads": [f"{name},{i},{i % 2}\n" for i, name in enumerate(names)],
        "none": [f"{name}\n" for name in names],
    }
    expected = {"multi": [1, 2], "none": None}
    for kind, lines in lists.items():
        file = tmp_path / f"{kind}.csv"
        file.write_text("".join(lines))
        flags = ("--list", str(file), "--root", str(folder), "--labels", kind, "--name", kind)
        out = build_with(tmp_path, *flags, "--holdout", "0")
        example = tfds.builder_from_directory(out).as_data_source("train")[3]
        if kind == "heads":
            assert (example["label_0"], example["label_1"]) == (3, 1)
        else:
            assert np.array_equal(example.get("label"), expected[kind])
        data = config.Data(dataset="records", root=str(out), labels=kind)
        assert open_dataset(data).train.example(3).label == {
            "multi": (1, 2),
            "heads": (3, 1),
            "none": (),
        }.get(kind)


def sizes_of(content: dict) -> tuple[int, int]:
    """Returns rows and columns of what was encoded."""
    import io

    data = content["video"] if "video" in content else content["frames"][0]
    with av.open(io.BytesIO(data)) as file:
        frame = next(file.decode(video=0))
        return frame.height, frame.width


@pytest.mark.parametrize("kind", ["jpeg", "video"])
def test_frames_are_upright_of_square_pixels_and_not_enlarged(kind, tmp_path):
    import fractions

    wide = write_video(tmp_path / "wide.mp4", 4, pixel_width=fractions.Fraction(2))
    turned = write_video(tmp_path / "turned.mp4", 4, rotation=90)
    form = Form(kind=kind, short_side=24)
    assert sizes_of(encode(str(wide), None, form)) == (24, 64)
    assert sizes_of(encode(str(turned), None, form)) == (32, 24)
    assert sizes_of(encode(str(turned), None, Form(kind=kind))) == (64, 48)


def test_a_turned_picture_is_turned_the_right_way(tmp_path):
    def texture(i):
        pixels = np.zeros((48, 64, 3), np.uint8)
        pixels[:24, :32] = 255
        return pixels

    from vivit_jax.data.clips import Sampling
    from vivit_jax.data.decode import read_views
    from vivit_jax.data.geometry import Geometry

    for rotation in (90, 180, 270):
        path = write_video(tmp_path / f"{rotation}.mp4", 4, rotation=rotation, texture=texture)
        content = encode(str(path), None, Form(kind="video"))
        args = (Sampling(1), Geometry(16), (0,))
        there, here = read_views(str(path), *args), read_views(content["video"], *args)
        assert np.abs(there.astype(int) - here).mean() < 8


def test_a_span_is_cut_out_and_fewer_frames_are_kept(tmp_path):
    path = str(write_video(tmp_path / "v.mp4", 40))  # 10 a second
    whole = encode(path, None, Form())
    assert (whole["length"], whole["nano_fps"]) == (4 * NANO, 10 * NANO)
    assert whole["nanoseconds"] == [round(i * NANO / 10) for i in range(40)]
    part = encode(path, (1.0, 2.0), Form())
    assert (part["length"], len(part["frames"])) == (NANO, 10)
    assert part["frames"] == whole["frames"][10:20]
    assert part["nanoseconds"] == whole["nanoseconds"][:10]
    assert encode(path, None, Form(every=4))["frames"] == whole["frames"][::4]
    assert encode(path, None, Form(fps=5))["frames"] == whole["frames"][::2]
    assert encode(path, None, Form(fps=50))["frames"] == whole["frames"]


def test_beam_builds_what_one_machine_builds(folder, built, tmp_path):
    pytest.importorskip("apache_beam")
    import tensorflow_datasets as tfds

    flags = ("--root", str(folder), "--shard-videos", "4")
    from vivit_jax.data.record_beam import build_by_beam

    with contextlib.chdir(tmp_path):
        build_by_beam(plan_of(tmp_path, *flags), "DirectRunner", [], 60)
    beam = tmp_path / "videos/1.0.0"
    assert (beam / record_plan.BAD).read_bytes() == (built / record_plan.BAD).read_bytes()
    for split in ("train", "validation"):
        name = f"{split}.index.jsonl"
        assert (beam / name).read_bytes() == (built / name).read_bytes()
        here, there = (
            tfds.builder_from_directory(path).as_data_source(
                split, deserialize_method=tfds.decode.DeserializeMethod.DESERIALIZE_NO_DECODE
            )
            for path in (beam, built)
        )
        assert len(here) == len(there)
        for a, b in zip(here, there, strict=True):
            assert a == b
