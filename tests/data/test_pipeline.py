"""Batches are a pure function of (seed, position), and an error ends the process."""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import write_video

from vivit_jax import config
from vivit_jax.data.examples import Example, Listed
from vivit_jax.data.order import epoch_order
from vivit_jax.data.pipeline import eval_batches, train_batches
from vivit_jax.errors import InputError

VIDEOS = 10
DATA = config.Data(
    batch_size=4, frames=4, stride=2, image_size=16, crop="random_resized", workers=1
)


@pytest.fixture(scope="session")
def source(tmp_path_factory) -> Listed:
    """Returns ten videos; video i is label i and at least 20 i bright."""
    folder = tmp_path_factory.mktemp("source")

    def texture(i):
        ramp = np.linspace(0, 9, 64)[None, :, None] + np.zeros((48, 1, 3))
        return lambda frame: (20 * i + ramp + frame / 2).astype(np.uint8)

    paths = [
        write_video(folder / f"{i}.mp4", 20, texture=texture(i), options={"qp": "4"})
        for i in range(VIDEOS)
    ]
    return Listed([Example(path.name, str(path), i) for i, path in enumerate(paths)])


@pytest.fixture(scope="session")
def spoilt(source, tmp_path_factory) -> Listed:
    """Returns the same source with two unreadable videos: 3 is missing and 7 is empty."""
    examples = list(source.examples)
    empty = tmp_path_factory.mktemp("spoilt") / "7.mp4"
    empty.write_bytes(b"")
    examples[3] = dataclasses.replace(examples[3], video="/nowhere/3.mp4")
    examples[7] = dataclasses.replace(examples[7], video=str(empty))
    return Listed(examples)


def take(source, steps: int, data: config.Data = DATA, **options) -> list[dict[str, np.ndarray]]:
    """Returns the first training batches."""
    with train_batches(source, data, seed=5, **options) as batches:
        return [next(batches) for _ in range(steps)]


@pytest.fixture(scope="session")
def straight(source):
    """Returns six training batches: two epochs and a bit."""
    return take(source, 6)


def assert_equal(found, expected) -> None:
    """Compares batches, bit for bit."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for key in a:
            np.testing.assert_array_equal(a[key], b[key], err_msg=key)


def test_a_batch_is_what_it_says(straight):
    for step, batch in enumerate(straight):
        assert {key: (value.shape, value.dtype.name) for key, value in batch.items()} == {
            "video": ((4, 4, 16, 16, 3), "uint8"),
            "label": ((4,), "int32"),
            "valid": ((4,), "bool"),
            "position": ((4,), "uint32"),
            "index": ((4,), "int32"),
        }
        assert batch["position"].tolist() == list(range(4 * step, 4 * step + 4))
        assert batch["valid"].all()
        brightness = batch["video"].mean(axis=(1, 2, 3, 4))
        np.testing.assert_array_equal(brightness // 20, batch["index"])
        np.testing.assert_array_equal(batch["label"], batch["index"])


def test_an_epoch_is_every_video_once_in_an_order_of_its_own(straight):
    order = np.concatenate([batch["index"] for batch in straight])
    assert sorted(order[:VIDEOS]) == sorted(order[VIDEOS : 2 * VIDEOS]) == list(range(VIDEOS))
    assert (order[:VIDEOS] != order[VIDEOS : 2 * VIDEOS]).any()
    np.testing.assert_array_equal(order[:VIDEOS], epoch_order(5, 0, VIDEOS))


def test_the_same_video_is_cut_differently_in_the_next_epoch(straight):
    videos = np.concatenate([batch["video"] for batch in straight])
    order = np.concatenate([batch["index"] for batch in straight])
    first, second = (np.flatnonzero(order == order[0])[:2]).tolist()
    assert (videos[first] != videos[second]).any()


def test_workers_change_nothing(source, straight):
    assert_equal(take(source, 6, dataclasses.replace(DATA, workers=3)), straight)


def test_starting_at_a_step_continues_the_straight_run(source, straight):
    assert_equal(take(source, 3, start_step=3), straight[3:])


def test_an_order_is_another_from_its_step_on_and_known_after_a_stop(source, straight):
    orders = ((1, 1), (4, 2))
    changed = take(source, 6, orders=orders)
    assert_equal(changed[:1], straight[:1])
    indices = np.concatenate([batch["index"] for batch in changed])
    assert sorted(indices[:VIDEOS]) == sorted(indices[VIDEOS : 2 * VIDEOS]) == list(range(VIDEOS))
    assert (indices[4:] != np.concatenate([batch["index"] for batch in straight])[4:]).any()
    for stop in (2, 5):
        assert_equal(take(source, 6 - stop, start_step=stop, orders=orders), changed[stop:])


@pytest.mark.parametrize("rows", [(0, 1), (1, 3), (2,)])
def test_whatever_rows_a_process_gives_are_those_of_the_whole_batch(source, straight, rows):
    expected = [{key: value[list(rows)] for key, value in batch.items()} for batch in straight[:3]]
    assert_equal(take(source, 3, rows=rows), expected)


REPEATED = dataclasses.replace(DATA, repeats=3)


def test_repeats_are_the_same_frames_cut_anew_side_by_side(source, straight):
    for once, batch in zip(straight, take(source, 3, REPEATED), strict=False):
        clips = batch["video"].reshape(4, 3, *once["video"].shape[1:])
        np.testing.assert_array_equal(clips[:, 0], once["video"])  # more copies change none
        assert (clips[:, 1] != clips[:, 0]).any(axis=(1, 2, 3, 4)).all()
        assert (clips[:, 2] != clips[:, 1]).any(axis=(1, 2, 3, 4)).all()
        for name in ("label", "valid", "index"):
            np.testing.assert_array_equal(batch[name], np.repeat(once[name], 3))
        assert batch["position"].dtype == np.uint32
        first = 3 * once["position"][0]
        assert batch["position"].tolist() == list(range(first, first + 12))


def test_repeats_show_the_same_moments(source):
    centred = dataclasses.replace(REPEATED, crop="centre")
    (batch,) = take(source, 1, centred)
    clips = batch["video"].reshape(4, 3, *batch["video"].shape[1:])
    np.testing.assert_array_equal(clips[:, 1:], clips[:, :1].repeat(2, axis=1))


def test_repeats_are_the_same_from_any_step_and_on_any_process(source):
    whole = take(source, 4, REPEATED)
    assert_equal(take(source, 2, REPEATED, start_step=2), whole[2:])
    (given,) = take(source, 1, REPEATED, rows=(1, 3))
    for key, value in whole[0].items():
        np.testing.assert_array_equal(given[key], value[[3, 4, 5, 9, 10, 11]])


def test_mixing_pairs_clips_of_different_videos(source):
    (batch,) = take(source, 1, dataclasses.replace(REPEATED, batch_size=10))
    assert (batch["index"] != batch["index"][::-1]).all()


def test_an_unreadable_video_is_counted_once_and_spoils_its_repeats_alone(spoilt):
    data = dataclasses.replace(REPEATED, max_bad=0.5, batch_size=10)
    with train_batches(spoilt, data, seed=5) as batches:
        batch = next(batches)
        assert batches.bad.counts == {"missing": 1, "empty": 1}
    np.testing.assert_array_equal(batch["valid"], ~np.isin(batch["index"], [3, 7]))
    assert (~batch["valid"]).sum() == 6


def test_evaluation_repeats_nothing(source):
    with eval_batches(source, REPEATED, clips=2, crops=1, batch_size=4) as batches:
        assert next(batches)["video"].shape == (4, 2, 4, 16, 16, 3)


def test_unreadable_videos_are_zeros_counted_and_written_down_once(spoilt, tmp_path):
    data = dataclasses.replace(DATA, max_bad=0.5)
    with train_batches(spoilt, data, seed=5, workdir=tmp_path) as batches:
        seen = [next(batches) for _ in range(5)]
        assert batches.bad.counts == {"missing": 1, "empty": 1}
    for batch in seen:
        np.testing.assert_array_equal(batch["valid"], ~np.isin(batch["index"], [3, 7]))
        assert not batch["video"][~batch["valid"]].any()
    with train_batches(spoilt, data, seed=6, workdir=tmp_path) as batches:  # and after a restart
        [next(batches) for _ in range(5)]
    lines = (tmp_path / "bad_videos.jsonl").read_text().splitlines()
    found = sorted((json.loads(line) for line in lines), key=lambda record: record["id"])
    assert found == [
        {"id": "3.mp4", "cause": "missing", "message": "no such file", "split": "train"},
        {"id": "7.mp4", "cause": "empty", "message": "the file has no bytes", "split": "train"},
    ]


def test_where_two_processes_give_a_row_one_counts_it(spoilt, tmp_path):
    data = dataclasses.replace(DATA, max_bad=0.5, batch_size=10)
    row = int(np.flatnonzero(epoch_order(5, 0, VIDEOS) == 3)[0])  # of the missing video
    others = [i for i in range(10) if i != row]
    for process, counted in enumerate((others, [row])):
        options = {"counted": counted, "process_index": process, "workdir": tmp_path}
        with train_batches(spoilt, data, seed=5, **options) as batches:
            assert (~next(batches)["valid"]).sum() == 2  # both processes read it
            assert batches.bad.seen == len(counted)
    files = [tmp_path / name for name in ("bad_videos.jsonl", "bad_videos_1.jsonl")]
    found = [[json.loads(line)["id"] for line in file.read_text().splitlines()] for file in files]
    assert found == [["7.mp4"], ["3.mp4"]]


def test_too_many_unreadable_videos_stop_training(spoilt):
    with pytest.raises(InputError, match=r"(?s)data.max_bad \(0.05\).*1  (missing|empty)"):
        take(spoilt, 6)


def test_few_unreadable_videos_do_not(spoilt):
    with train_batches(spoilt, dataclasses.replace(DATA, max_bad=0.2), seed=5) as batches:
        for _ in range(8):  # three epochs: exactly a fifth is unreadable
            next(batches)


def test_evaluation_sees_every_video_once_over_all_processes(source):
    found, padding = [], 0
    for rows in ((0, 3), (1, 2)):
        with eval_batches(source, DATA, clips=2, crops=3, batch_size=4, rows=rows) as batches:
            assert len(batches) == 3
            given = list(batches)
        assert len(given) == 3
        for batch in given:
            assert batch["video"].shape == (2, 6, 4, 16, 16, 3)
            assert batch.keys() == {"video", "label", "valid", "index"}
            np.testing.assert_array_equal(batch["valid"], batch["index"] >= 0)
            brightness = batch["video"].mean(axis=(1, 2, 3, 4, 5))[batch["valid"]]
            np.testing.assert_array_equal(brightness // 20, batch["index"][batch["valid"]])
            found += batch["index"][batch["valid"]].tolist()
            padding += int((~batch["valid"]).sum())
    assert sorted(found) == list(range(VIDEOS))
    assert padding == 2


def test_evaluation_replaces_nothing_and_names_what_it_lacks(spoilt):
    with eval_batches(spoilt, DATA, clips=1, crops=1, batch_size=4) as batches:
        given = list(batches)
        records = batches.bad.records
    index = np.concatenate([batch["index"] for batch in given])
    valid = np.concatenate([batch["valid"] for batch in given])
    assert index.tolist() == [*range(VIDEOS), -1, -1]
    assert np.flatnonzero(~valid).tolist() == [3, 7, 10, 11]
    assert [(record["id"], record["cause"]) for record in records] == [
        ("3.mp4", "missing"),
        ("7.mp4", "empty"),
    ]


def test_several_labels_are_multi_hot_or_one_a_head(source):
    pairs = [dataclasses.replace(e, label=(0, e.label // 4 + 1)) for e in source.examples]
    (multi,) = take(Listed(pairs), 1, dataclasses.replace(DATA, labels="multi"), num_outputs=4)
    (heads,) = take(Listed(pairs), 1, dataclasses.replace(DATA, labels="heads"))
    second = multi["index"] // 4 + 1
    assert multi["label"].dtype == np.float32
    np.testing.assert_array_equal(multi["label"], np.eye(4)[0] + np.eye(4)[second])
    np.testing.assert_array_equal(heads["label"], np.stack([0 * second, second], axis=1))


def test_without_labels_a_label_has_no_columns(source):
    data = dataclasses.replace(DATA, labels="none")
    unlabelled = Listed([dataclasses.replace(e, label=()) for e in source.examples])
    (batch,) = take(unlabelled, 1, data)
    assert batch["label"].shape == (4, 0)
    with eval_batches(unlabelled, data, clips=1, crops=1, batch_size=4) as batches:
        assert [batch["label"].shape for batch in batches] == [(4, 0)] * 3


def test_frame_order_controls_reach_the_batches(source):
    for order, steady in (("repeated", True), ("forward", False)):
        data = dataclasses.replace(DATA, frame_order=order, crop="centre")
        with eval_batches(source, data, clips=2, crops=1, batch_size=4) as batches:
            video = next(batches)["video"].astype(int)
        assert (np.abs(np.diff(video, axis=2)).max() == 0) == steady


def test_options_that_cannot_be_are_refused(source):
    for wrong in ({"sampling": "views"}, {"crop": "none"}, {"batch_size": 0}, {"frames": 0}):
        with (
            pytest.raises(InputError, match="expected"),
            train_batches(source, dataclasses.replace(DATA, **wrong), seed=0),
        ):
            pass


@pytest.mark.parametrize(
    "error", ["ValueError('stop here')", pytest.param("KeyboardInterrupt", marks=pytest.mark.slow)]
)
def test_an_error_inside_ends_the_process_promptly(error, source):
    program = (
        "import sys, time\n"
        "from vivit_jax import config\n"
        "from vivit_jax.data.pipeline import train_batches\n"
        "from vivit_jax.data.examples import Example, Listed\n"
        "videos = Listed([Example(path, path, 0) for path in sys.argv[1:]])\n"
        "data = config.Data(batch_size=2, frames=16, stride=1, image_size=224, workers=2)\n"
        "with train_batches(videos, data, seed=0) as batches:\n"
        "    next(batches)\n"
        "    print(time.time(), flush=True)\n"
        f"    raise {error}\n"
    )
    paths = [str(example.video) for example in source.examples]
    with contextlib.suppress(subprocess.TimeoutExpired):
        ended = subprocess.run(
            [sys.executable, "-c", program, *paths], capture_output=True, timeout=60, text=True
        )
        assert ended.returncode not in (0, None)
        assert error.split("(")[0] in ended.stderr
        assert time.time() - float(ended.stdout) < 20
        return
    pytest.fail("the process hangs")
