"""A host that is alive and stuck is named, with what it reads, and ends the run everywhere."""

import os
import signal
import socket
import time

import pytest
from faults import runs
from faults.running import running, together

pytestmark = [pytest.mark.fault, pytest.mark.slow]
PATIENCE = 5
OPTIONS = [
    "--config.train.steps=100000",
    "--config.train.checkpoint_every=20",
    "--config.train.evaluate=False",
    f"--config.train.patience={PATIENCE}",
]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return runs.videos(tmp_path_factory.mktemp("videos"))


def stick(run):
    """Stops the decoders of a process, which go on to hold their videos."""
    for pid in run.workers():
        os.kill(pid, signal.SIGSTOP)


def check(one, run, begun):
    code = run.end(120)
    one.seconds = max(one.seconds or 0.0, time.monotonic() - begun)
    one.wrong_code = code != 1
    said = run.said()
    assert code == 1, said[-3000:]
    last = said[said.index("error: The run is stuck.") :]
    print(last)
    assert "phase data wait" in last
    assert ".mp4 for " in last
    assert " has step " in last
    return last


def test_one_process_that_is_stuck_is_ended(trial, repeat, videos, tmp_path):
    with trial(16, "one process") as one, running(tmp_path / "run", videos, *OPTIONS) as run:
        run.wait_until(lambda run: run.steps() > 30)
        begun = time.monotonic()
        stick(run)
        check(one, run, begun)
        assert one.seconds < 10 * PATIENCE
        stacks = (tmp_path / "run/stacks/process_0.txt").read_text()
        assert "feed.py" in stacks


@pytest.mark.parametrize("victim", [0, 1])
def test_the_one_of_two_that_is_stuck_is_named_by_both(trial, repeat, videos, tmp_path, victim):
    with (
        trial(16, f"process {victim} of 2") as one,
        together(tmp_path / "run", videos, *OPTIONS) as both,
    ):
        both[0].wait_until(lambda run: run.steps() > 30)
        begun = time.monotonic()
        stick(both[victim])
        for run in both:
            first, second = check(one, run, begun).splitlines()[1:3]
            assert first.startswith(f"  process {victim} ({socket.gethostname()}): at step ")
            assert "phase data wait" in first
            assert "phase step" in second
        assert one.seconds < 10 * PATIENCE
