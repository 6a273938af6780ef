"""Signals are heard wherever a process is; all leave at one point; a second signal ends at once."""

import contextlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from vivit_jax import stopping
from vivit_jax.stopping import Stop, Stopped

HEAR = """
import sys, time
from vivit_jax.stopping import STOP, block
from vivit_jax.terminal import run
block()
STOP.listen()
{before}
print("here", flush=True)
def main():
    {body}
    return 0
sys.exit(run(main))
"""


def start(body, before="", **kwargs):
    """Returns a process that has printed "here"."""
    command = [sys.executable, "-c", HEAR.format(body=body, before=before)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = subprocess.Popen(command, text=True, **pipes, **kwargs)
    assert process.stdout.readline() == "here\n", process.stderr.read()
    return process


@pytest.fixture
def end(monkeypatch):
    """Returns the codes by which processes would have been ended, and lets none be."""
    codes = []

    def end(code):
        codes.append(code)
        raise SystemExit  # ends a thread

    monkeypatch.setattr(stopping, "end", end)
    monkeypatch.setattr(stopping, "_OWN_TIME", 0.0)
    monkeypatch.setattr(stopping, "_NEWS", 0.01)
    return codes


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_looks_leaves_by_the_signals_code(number):
    process = start("while True: STOP.check(); time.sleep(0.01)")
    process.send_signal(number)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 128 + number
    assert said == f"Stopped by {number.name}. Nothing was begun.\n"


def test_a_process_with_nothing_to_save_is_ended_though_it_never_looks():
    before = "from vivit_jax import stopping; stopping._OWN_TIME = 0.2"
    process = start("time.sleep(60)", before)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 143
    assert said.startswith("Stopped by SIGTERM.")
    assert time.monotonic() - begun < 10


def test_a_second_signal_ends_a_process_at_once_that_is_saving():
    process = start("time.sleep(60)", before="STOP.point()")
    for _ in range(3):  # the first of them, as launchers tell a process and its group
        process.send_signal(signal.SIGTERM)
        time.sleep(0.1)
    assert process.poll() is None
    time.sleep(stopping._SAME)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM


def test_a_background_job_goes_on_ignoring_ctrl_c():
    process = start(
        "time.sleep(1.0)", preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)
    )
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0


def test_what_comes_while_a_command_starts_itself_again_is_heard():
    program = (
        "import os, signal, sys\n"
        "from vivit_jax import stopping\n"
        "stopping.block()\n"
        "if len(sys.argv) == 1:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], 'again'])\n"
        "stopping.STOP.listen()\n"
        "import time\n"
        "deadline = time.monotonic() + 20\n"
        "while not stopping.STOP.asked and time.monotonic() < deadline: time.sleep(0.01)\n"
        "print(stopping.STOP.asked)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == f"{signal.SIGTERM.value}\n"


def follow(stop):
    """Returns when a Stop has settled where to leave."""
    thread = threading.Thread(target=stop._follow)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()


def test_one_process_leaves_where_it_next_looks(end):
    stop = Stop()
    stop.point()
    stop.check()
    stop._ask(signal.SIGTERM)
    follow(stop)
    assert stop.asked == signal.SIGTERM
    with pytest.raises(Stopped):
        stop.check()
    with pytest.raises(Stopped):
        stop.point()
    assert not end


class Store:
    """A key-value store as JAX's runtime has it."""

    def __init__(self):
        self.values = {}

    def key_value_set(self, key, value):
        assert key not in self.values
        self.values[key] = value

    def key_value_dir_get(self, folder):
        return [pair for pair in self.values.items() if pair[0].startswith(f"{folder}/")]


def together(monkeypatch, passed, missing=0):
    """Returns the Stops of some processes that have passed so many points, after one was asked.

    Args:
      monkeypatch: of the test.
      passed: points, of each.
      missing: processes that do not answer.
    """
    store, who = Store(), threading.local()
    monkeypatch.setattr(stopping, "together", lambda: (store, who.index, len(passed) + missing))
    stops = []

    def run(index, stop):
        who.index = index
        stop.joined()
        with contextlib.suppress(SystemExit):
            stop._follow()

    for _ in passed:
        stops.append(Stop())
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(stops)]
    for stop, points in zip(stops, passed, strict=True):
        for _ in range(points):
            stop.point()
    for thread in threads:
        thread.start()
    stops[-1]._ask(signal.SIGTERM)
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    return stops


@pytest.mark.parametrize("passed", [(4, 4), (4, 5), (5, 4, 4)])
def test_all_processes_leave_at_the_point_that_none_has_passed(monkeypatch, end, passed):
    for stop, points in zip(together(monkeypatch, passed), passed, strict=True):
        assert stop.asked == signal.SIGTERM
        for _ in range(points, max(passed)):
            stop.check()  # the others wait for it
            stop.point()
        with pytest.raises(Stopped):
            stop.point()
    assert not end


def test_before_the_first_point_all_may_leave_at_once(monkeypatch, end):
    for stop in together(monkeypatch, (0, 0)):
        with pytest.raises(Stopped):
            stop.check()
    assert end == [143, 143]


def test_a_process_that_does_not_answer_is_named(monkeypatch, end, capsys):
    monkeypatch.setattr(stopping, "_PATIENCE", 0.2)
    together(monkeypatch, (3,), missing=1)
    assert end == [1]
    assert (
        "error: SIGTERM came, and process 1 (unknown host) did not say" in capsys.readouterr().err
    )


def test_the_newest_step_is_one_that_orbax_has_finished(tmp_path):
    assert stopping.newest(tmp_path) is None
    for name, whole in (("5", True), ("10", True), ("15", False), ("20.orbax-tmp", True)):
        folder = tmp_path / "checkpoints" / name
        folder.mkdir(parents=True)
        if whole:
            (folder / "_CHECKPOINT_METADATA").touch()
    assert stopping.newest(tmp_path) == 10
    stop = Stop()
    stop.workdir = tmp_path
    assert stop.standing() == f"{tmp_path} has step 10, from which the same command goes on."


def test_a_point_costs_microseconds():
    stop, points = Stop(), 20_000
    seconds = []
    for _ in range(5):
        begun = time.perf_counter()
        for _ in range(points):
            stop.point()
        seconds.append((time.perf_counter() - begun) / points)
    print(f"a point takes {1e9 * min(seconds):.0f} ns")
    assert min(seconds) < 20e-6
