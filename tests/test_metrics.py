import json
import logging
import math
import subprocess
import sys

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray

from vivit_jax import film
from vivit_jax.metrics import (
    METRICS,
    RESULTS,
    SKIPPED,
    Lines,
    Progress,
    Writer,
    append,
    as_line,
    drop_after,
    duration,
    held_out,
    read_lines,
)


@pytest.fixture
def file(tmp_path):
    file = tmp_path / METRICS
    for step in (10, 20, 30):
        append(file, {"step": step, "loss": step / 7, "name": "Grü\u2028ße \udce4"})
    return file


def test_what_is_appended_is_read_back_exactly(file):
    assert read_lines(file)[1] == {"step": 20, "loss": 20 / 7, "name": "Grü\u2028ße \udce4"}


def test_no_file_holds_no_lines(tmp_path):
    assert read_lines(tmp_path / METRICS) == []


def test_dropping_leaves_the_lines_up_to_a_step_untouched(file):
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    drop_after(file, 20)
    assert file.read_text(encoding="utf-8") == "".join(lines[:2])
    assert [other.name for other in file.parent.iterdir()] == [METRICS]


def test_dropping_removes_a_torn_last_line(file):
    whole = file.read_text(encoding="utf-8")
    file.write_text(whole + whole.splitlines()[-1][:-3], encoding="utf-8")
    drop_after(file, 100)
    assert file.read_text(encoding="utf-8") == whole


def test_dropping_from_no_file_makes_none(tmp_path):
    drop_after(tmp_path / METRICS, 3)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_becomes_null(value):
    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    line = as_line({"step": 1, "loss": value})
    assert json.loads(line, parse_constant=refuse) == {"step": 1, "loss": None}


def test_tensorboard_reads_what_was_written(tmp_path):
    with Writer(tmp_path) as writer:
        writer.write(METRICS, {"step": 5, "loss": 0.5, "note": "no number"})
        writer.write(METRICS, {"step": 6, "loss": math.nan})
        writer.write(RESULTS, {"step": 6, "split": "train", "top1": 0.25})
        writer.write(SKIPPED, {"step": 6, "examples": ["a"]})
    events = EventAccumulator(str(tmp_path)).Reload()
    assert set(events.Tags()["tensors"]) == {"train/loss", "train/top1"}
    losses = [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors("train/loss")]
    assert losses[0] == (5, 0.5)
    assert losses[1][0] == 6
    assert math.isnan(losses[1][1])
    assert read_lines(tmp_path / METRICS)[1]["loss"] is None
    assert read_lines(tmp_path / SKIPPED) == [{"step": 6, "examples": ["a"]}]


def test_tensorboard_has_pictures_byte_by_byte(tmp_path):
    panels = np.random.default_rng(0).integers(0, 256, (2, 3, 16, 24, 3), np.uint8)
    files = film.write_panels(tmp_path / "pictures", "clip", panels)
    with Writer(tmp_path) as writer:
        writer.write_pictures(7, "eval", files)
    events = EventAccumulator(str(tmp_path), {"tensors": 0}).Reload()
    assert set(events.Tags()["tensors"]) == {"eval/clip.png", "eval/clip.gif"}
    assert events.SummaryMetadata("eval/clip.gif").plugin_data.plugin_name == "images"
    sizes = {".png": (b"512", b"228"), ".gif": (b"340", b"112")}  # enlarged 7 times, 4 between
    for file in files:
        (event,) = events.Tensors(f"eval/{file.name}")
        *size, data = make_ndarray(event.tensor_proto)
        assert event.step == 7
        assert tuple(size) == sizes[file.suffix]
        assert data == file.read_bytes()


def test_a_run_that_goes_on_writes_over_what_it_repeats(tmp_path):
    for name in (METRICS, RESULTS, SKIPPED):
        for step in (1, 2):
            append(tmp_path / name, {"step": step, "first": True})
    with Writer(tmp_path, start_step=1) as writer:
        writer.write(METRICS, {"step": 2, "first": False})
    assert [line["first"] for line in read_lines(tmp_path / METRICS)] == [True, False]
    assert [len(read_lines(tmp_path / name)) for name in (RESULTS, SKIPPED)] == [1, 1]


def test_a_process_that_is_not_the_first_writes_nothing(tmp_path):
    append(tmp_path / METRICS, {"step": 9})
    with Writer(tmp_path, start_step=1, active=False) as writer:
        writer.write(METRICS, {"step": 2})
        writer.write_pictures(2, "eval", [tmp_path / "none.png"])
    assert read_lines(tmp_path / METRICS) == [{"step": 9}]
    assert len(list(tmp_path.iterdir())) == 1


def test_progress_tells_how_far_it_is_and_when_it_ends(monkeypatch, caplog):
    now = 0.0
    monkeypatch.setattr("vivit_jax.metrics.time.perf_counter", lambda: now)
    caplog.set_level(logging.INFO, "vivit_jax")
    progress = Progress("evaluating", 100, every=10)
    for now, done in ((5, 10), (10, 20), (15, 30), (20, 50)):  # noqa: B007
        progress.look(done)
    assert caplog.messages == ["evaluating 20/100, ETA 0:40", "evaluating 50/100, ETA 0:20"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (123, "2:03"), (3723, "1:02:03")],
)
def test_durations_are_short(seconds, text):
    assert duration(seconds) == text


def test_lines_that_cannot_be_written_are_kept_and_written_later(tmp_path, caplog):
    file = tmp_path / "lines.jsonl"
    lines = Lines(file)
    lines.add({"step": 1})
    file.rename(tmp_path / "aside")
    file.mkdir()
    for step in (2, 3):
        lines.add({"step": step})
    file.rmdir()
    (tmp_path / "aside").rename(file)
    lines.add({"step": 4})
    lines.close()
    assert [line["step"] for line in read_lines(file)] == [1, 2, 3, 4]
    assert len(caplog.messages) == 1
    assert "lines.jsonl cannot be written" in caplog.text


def test_a_line_that_fitted_in_part_leaves_nothing_behind(tmp_path):
    program = (
        "import pathlib, resource, sys\n"
        "from vivit_jax.metrics import Lines\n"
        "lines = Lines(pathlib.Path(sys.argv[1]))\n"
        "lines.add({'step': 1})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20, resource.RLIM_INFINITY))\n"
        "lines.add({'step': 2, 'about': 30 * 'x'})\n"
        "print(pathlib.Path(sys.argv[1]).read_text())\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "lines.close()\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lines")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == '{"step": 1}\n\n'
    assert [line["step"] for line in read_lines(tmp_path / "lines")] == [1, 2]


def test_lines_that_never_could_be_written_are_told(tmp_path, caplog):
    lines = Lines(tmp_path)
    lines.add({"step": 7})
    lines.close()
    assert caplog.messages[-1].endswith('lacks its last 1 lines: {"step": 7}')


def test_without_tensorboard_the_run_goes_on_with_one_warning(tmp_path, caplog, monkeypatch):
    with Writer(tmp_path) as writer:

        def fail(*_):
            raise RuntimeError("no disk")

        monkeypatch.setattr(writer._board, "write_scalars", fail)
        for step in (1, 2):
            writer.write(METRICS, {"step": step, "loss": 0.5})
        writer.write_pictures(2, "eval", [])
    assert [line["step"] for line in read_lines(tmp_path / METRICS)] == [1, 2]
    assert sum("TensorBoard" in message for message in caplog.messages) == 1


def test_results_on_training_videos_count_where_there_are_no_others():
    old, new, trained = ({"step": 1}, {"step": 2, "split": "eval"}, {"step": 2, "split": "train"})
    assert held_out([old, new, trained]) == [old, new]
    assert held_out([trained]) == [trained]
    assert held_out([]) == []
