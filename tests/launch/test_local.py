"""Runs of several processes under launch/local.sh, beside the same runs in one process."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import many
import numpy as np
import pytest
import tiny

from vivit_jax import metrics
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.processes import HEARTBEAT

VIDEOS = 5  # held out, of which 4 at once are judged
LATER = {"steps": 400, "checkpoint_every": 50}  # long enough to be stopped in


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return many.make_videos(tmp_path_factory.mktemp("videos"), held_out=VIDEOS)


@pytest.fixture(scope="module")
def config(videos, tmp_path_factory):
    return many.write_config(tmp_path_factory.mktemp("config"), videos)


@pytest.fixture(scope="module")
def one(config, tmp_path_factory):
    """Returns the workdir of a run in one process of four devices."""
    workdir = tmp_path_factory.mktemp("one")
    many.finish(many.start(workdir, config, devices=4))
    return workdir


def saved(workdir, step):
    """Returns the parameters of a checkpoint, whatever devices it was saved from."""
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return checkpoints.read(step, {"params": checkpoints.shapes(step)["params"]})


def assert_close(found, expected):
    """Compares what two runs wrote down."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            assert value == (value if isinstance(value, str) else pytest.approx(b[name], rel=1e-4))


def judged(workdir, step=4):
    rows = (workdir / f"evaluation/{step:08d}-eval/videos.csv").read_text().splitlines()[1:]
    return sorted(row.split(",")[0] for row in rows)


def check_equal(workdir, one, processes):
    """Compares a run of several processes with that of one."""
    for process in range(processes):
        assert many.ids(workdir, process) == many.ids(one)
    assert_close(*(tiny.written(path, metrics.METRICS) for path in (workdir, one)))
    (found,), (expected,) = (tiny.written(path, metrics.RESULTS) for path in (workdir, one))
    assert found == pytest.approx(expected)
    assert found["videos"] == VIDEOS
    assert judged(workdir) == judged(one)
    assert len(set(judged(workdir))) == VIDEOS


def test_two_processes_see_learn_and_judge_what_one_does(config, one, tmp_path):
    many.finish(many.start(tmp_path, config, processes=2, devices=2))
    check_equal(tmp_path, one, 2)


@pytest.mark.slow
@pytest.mark.parametrize("tensor", [1, 2, 4])  # with 4, every process gives every row
def test_four_processes_see_learn_and_judge_what_one_does(config, one, tmp_path, tensor):
    mesh = f"--config.mesh.tensor={tensor}"
    many.finish(many.start(tmp_path, config, mesh, processes=4))
    check_equal(tmp_path, one, 4)


@pytest.mark.slow
def test_what_cannot_be_read_is_counted_once_where_processes_share_rows(videos, tmp_path):
    root = shutil.copytree(videos, tmp_path / "videos")
    (root / "val/a/2.mp4").write_bytes(b"")
    config = many.write_config(tmp_path / "config", root)
    many.finish(many.start(tmp_path / "run", config, "--config.mesh.tensor=2", processes=2))
    (result,) = tiny.written(tmp_path / "run", metrics.RESULTS)
    assert (result["videos"], result["coverage"]) == (VIDEOS, 0.8)
    files = list((tmp_path / "run").glob("bad_videos*.jsonl"))
    assert [len(file.read_text().splitlines()) for file in files] == [1]


def dry(*options, **environment):
    command = [many.SCRIPT, "--dry-run", *options]
    environment = {**os.environ, "PYTHON": "python", **environment}
    found = subprocess.run(command, env=environment, capture_output=True, text=True)
    return found.returncode, found.stdout.splitlines(), found.stderr


def test_a_dry_run_prints_every_command():
    options = ["--", "--workdir=a b", "--config=c.py"]
    command = r"python -m vivit_jax.main --workdir=a\ b --config=c.py "
    assert dry(*options, JAX_PLATFORMS="cpu") == (0, [command], "")
    code, lines, _ = dry("-n", "2", "--devices", "3", *options, JAX_PLATFORMS="cpu")
    assert code == 0
    for index, line in enumerate(lines):
        assert f"JAX_NUM_PROCESSES=2 JAX_PROCESS_ID={index} JAX_NUM_CPU_DEVICES=3 " in line
        assert line.endswith(command)
    assert len(lines) == 2


def test_every_process_has_gpus_of_its_own():
    options = ["--", "--workdir=a"]
    environment = {"CUDA_VISIBLE_DEVICES": "4,5,6,7", "JAX_PLATFORMS": ""}
    _, lines, _ = dry("-n", "2", *options, **environment)
    assert [line.split("CUDA_VISIBLE_DEVICES=")[1].split()[0] for line in lines] == [
        r"4\,5",
        r"6\,7",
    ]
    _, lines, _ = dry("-n", "4", "--devices=1", *options, **environment)
    assert len({line.split("CUDA_VISIBLE_DEVICES=")[1].split()[0] for line in lines}) == 4
    for wrong in (["-n", "3"], ["-n", "2", "--devices", "3"]):
        code, _, said = dry(*wrong, *options, **environment)
        assert (code, "there are 4" in said or "4 GPUs" in said) == (2, True)


@pytest.mark.parametrize(
    "options", [["-n", "0", "--", "x"], ["--devices", "x", "--", "x"], ["--steps"], [], ["-n"]]
)
def test_options_that_cannot_be_are_refused(options):
    code, _, said = dry(*options)
    assert code == 2
    assert said.startswith("error: ")


def test_all_end_by_the_code_of_what_was_refused(config, tmp_path):
    said = many.finish(many.start(tmp_path, config, "--config.data.batch_size=7", processes=2), 2)
    assert "data.batch_size" in said


def children(process):
    """Returns the processes of the run that launch/local.sh has started, the first first."""
    path = f"/proc/{process.pid}/task/{process.pid}/children"
    with open(path) as numbers:
        return [int(number) for number in numbers.read().split()][: int(process.args[2])]


def wait_for(workdir, lines, process):
    """Returns when a run has written so many lines."""
    while len(metrics.read_lines(workdir / metrics.METRICS)) < lines:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def later(config, **given):
    options = {**LATER, **given}
    return [config, *(f"--config.train.{name}={value}" for name, value in options.items())]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_kill_one_and_all_stop_and_go_on_as_if_nothing_had_been(config, tmp_path, victim):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    many.finish(many.start(straight, *later(config), processes=2))
    process = many.start(broken, *later(config), processes=2)
    wait_for(broken, 120, process)
    begun = time.monotonic()
    os.kill(children(process)[victim], signal.SIGKILL)
    said = many.finish(process, 128 + signal.SIGKILL)
    print(f"all stopped {time.monotonic() - begun:.1f} s after kill -9 of process {victim}")
    assert time.monotonic() - begun < HEARTBEAT + 15
    assert f"process {victim} of 2 ended with code 137" in said
    many.finish(many.start(broken, *later(config), processes=2))
    names = (metrics.METRICS, metrics.RESULTS)
    assert tiny.written(broken, *names) == tiny.written(straight, *names)
    jax.tree.map(np.testing.assert_array_equal, saved(broken, 400), saved(straight, 400))


@pytest.mark.slow
def test_what_four_processes_began_goes_on_in_one_and_in_two(config, one, tmp_path):
    # A low rate: sums in another order differ by rounding, which many large steps would magnify.
    options = [*later(config, steps=100, checkpoint_every=20), "--config.optim.learning_rate=1e-3"]
    straight, stopped = tmp_path / "straight", tmp_path / "stopped"
    many.finish(many.start(straight, *options, devices=4))
    process = many.start(stopped, *options, processes=4)
    wait_for(stopped, 45, process)
    process.terminate()
    many.finish(process, 128 + signal.SIGTERM)
    for processes in (1, 2):
        workdir = shutil.copytree(stopped, tmp_path / str(processes))
        shutil.rmtree(workdir / "ids")
        many.finish(many.start(workdir, *options, processes=processes, devices=4 // processes))
        seen = many.ids(workdir)
        assert max(seen) == 100
        assert min(seen) in (21, 41, 61, 81)
        assert seen == {step: ids for step, ids in many.ids(straight).items() if step in seen}
        assert_close(*(tiny.written(path, metrics.METRICS) for path in (workdir, straight)))


def test_another_config_is_refused_by_the_name_of_its_option(config, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    given = {"JAX_PLATFORMS": "cpu", "JAX_NUM_PROCESSES": "2", "JAX_COORDINATOR_ADDRESS": address}
    command = [sys.executable, "-m", "vivit_jax.main", config, f"--workdir={tmp_path}"]
    pair = [
        subprocess.Popen(
            [*command, f"--config.seed={index}"],
            env={**os.environ, **given, "JAX_PROCESS_ID": str(index)},
            cwd=many.ROOT,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    for process in pair:
        said = many.finish(process, 2)
        assert re.search(r"process 1 \(.*\):\n  config.seed is 1, and 0 there\n", said)
        assert "data.batch_size" not in said
