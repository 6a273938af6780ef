"""Decoding processes come back whatever happens to one of them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest

from vivit_jax.data import container
from vivit_jax.data.clips import Sampling
from vivit_jax.data.decode import read_views
from vivit_jax.data.examine import examine
from vivit_jax.data.examples import Example
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pixels import InProcesses
from vivit_jax.data.pool import DecodeFailure, DecodePool
from vivit_jax.data.worker import Task

BYTES = 4 * 16 * 16 * 3


def task(video, key: int = 0) -> Task:
    """Returns a task whose pixels take BYTES."""
    return Task(str(video), Sampling(4, 2), Geometry(16), (key,))


def wait_for_end(pids: list[int], seconds: float = 10.0) -> None:
    """Returns once no process has one of the ids."""
    end = time.monotonic() + seconds
    while any(os.path.exists(f"/proc/{pid}") for pid in pids):
        assert time.monotonic() < end, "a decoding process lives on"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def pool():
    """Returns a pool of one worker, for tests that leave it whole."""
    with DecodePool(1, BYTES, timeout=20) as pool:
        yield pool


def test_a_worker_returns_what_reading_here_returns(pool, videos):
    for key in range(3):
        there = pool.decode(task(videos["plain"], key))
        np.testing.assert_array_equal(there, read_views(*task(videos["plain"], key)[:5]))


def test_a_refused_video_is_a_failure_with_its_cause(pool, tmp_path):
    failure = pool.decode(task(tmp_path / "none.mp4"))
    assert failure == DecodeFailure("missing", "no such file")


def test_a_worker_calls_a_function_too(pool, videos, tmp_path):
    assert pool.call(examine, str(videos["plain"])) == examine(str(videos["plain"]))
    failure = pool.call(examine, str(tmp_path / "none.mp4"))
    assert failure == DecodeFailure("missing", "no such file")


def test_a_worker_that_dies_costs_one_video(pool, videos):
    pool.decode(task(videos["plain"]))
    (pid,) = pool.processes()
    os.kill(pid, signal.SIGSTOP)  # so that it dies while it has the task
    threading.Timer(1, lambda: [os.kill(pid, s) for s in (signal.SIGABRT, signal.SIGCONT)]).start()
    failure = pool.decode(task(videos["plain"]))
    assert failure == DecodeFailure("crashed", "the decoder ended with signal SIGABRT")
    assert isinstance(pool.decode(task(videos["plain"])), np.ndarray)
    assert pool.processes() != [pid]


def test_a_worker_that_died_idle_costs_nothing(pool, videos):
    pool.decode(task(videos["plain"]))
    (pid,) = pool.processes()
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)  # until its last thread has ended
    assert isinstance(pool.decode(task(videos["plain"])), np.ndarray)


def test_a_worker_that_hangs_is_replaced(videos):
    with DecodePool(1, BYTES, timeout=0.5) as pool:
        first = pool.decode(task(videos["plain"]))
        (pid,) = pool.processes()
        os.kill(pid, signal.SIGSTOP)
        started = time.monotonic()
        failure = pool.decode(task(videos["plain"]))
        assert failure == DecodeFailure("timeout", "the decoder took longer than 0.5 s")
        assert time.monotonic() - started < 3
        wait_for_end([pid])
        np.testing.assert_array_equal(pool.decode(task(videos["plain"])), first)


def test_many_threads_share_the_workers(videos):
    expected = [read_views(*task(videos["plain"], key)[:5]) for key in range(24)]
    found: list[object] = [None] * 24
    with DecodePool(2, BYTES) as pool:

        def run(first):
            for key in range(first, 24, 6):
                found[key] = pool.decode(task(videos["plain"], key))

        threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    np.testing.assert_array_equal(found, expected)


def test_closing_ends_the_workers_and_wakes_who_waits(videos):
    found = []
    with DecodePool(1, BYTES) as pool:
        pool.decode(task(videos["plain"]))
        pids = pool.processes()
        os.kill(pids[0], signal.SIGSTOP)
        call = lambda: found.append(pool.decode(task(videos["plain"])))  # noqa: E731
        threads = [threading.Thread(target=call) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.2)
    for thread in threads:
        thread.join(5)
    assert [failure.cause for failure in found] == ["closed"] * 3
    wait_for_end(pids)


def test_workers_outlive_no_killed_parent(videos):
    program = (
        "import sys, time\n"
        "from vivit_jax.data.pool import DecodePool\n"
        "with DecodePool(2, 100) as pool:\n"
        "    print(*pool.processes(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.kill()
    assert len(pids) == 2
    wait_for_end(pids)


def test_workers_import_neither_jax_nor_tensorflow():
    program = (
        "import sys, vivit_jax.data.worker\n"
        "print(sorted({'jax', 'tensorflow', 'flax', 'torch'} & set(sys.modules)))"
    )
    answer = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert answer.stdout == b"[]\n"


def test_a_video_that_cost_two_processes_is_not_read_again():
    class Pool:
        close = reading = None

        def __init__(self):
            self.asked = Counter()

        def decode(self, task):
            self.asked[task.video] += 1
            return DecodeFailure(task.video, f"time {self.asked[task.video]}")

    pool = Pool()
    pixels = InProcesses(pool, (Sampling(4), Geometry(16)), (1, 4, 16, 16, 3))  # type: ignore[arg-type]
    for cause in ("crashed", "timeout", "memory", "corrupt"):
        found = [pixels.read(Example(cause, cause, 0), (0,)) for _ in range(5)]
        tried = 5 if cause == "corrupt" else 2
        assert pool.asked[cause] == tried
        assert found[-1] == DecodeFailure(cause, f"time {tried}")


@pytest.mark.parametrize(
    ("version", "warned"),
    [("8.1.2", False), ("8.2", False), ("n9.0-12-gabc", False), ("N-1234-gabc", False)]
    + [("8.1.1", True), ("8.1", True), ("7.1.3-1ubuntu2", True), ("n5.1", True)],
)
def test_an_ffmpeg_with_known_faults_is_warned_of(version, warned, caplog, monkeypatch):
    monkeypatch.setattr(container.av, "ffmpeg_version_info", version)
    container.tell_decoder.cache_clear()
    with caplog.at_level("INFO", logger="vivit_jax"):
        container.tell_decoder()
        container.tell_decoder()
    assert [record.levelname for record in caplog.records] == ["INFO", "WARNING"][: 1 + warned]
    assert version in caplog.text
    container.tell_decoder.cache_clear()


def test_a_process_that_takes_too_much_memory_says_so(tmp_path):
    with DecodePool(1, BYTES, memory=300_000_000) as pool:
        assert pool.call(np.ones, 400_000_000).cause == "memory"
        assert len(pool.call(np.ones, 10)) == 10
