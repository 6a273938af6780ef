"""Three processes of two devices: what each gives of a batch, and what they tell each other."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time

import pytest

from vivit_jax.processes import HEARTBEAT

PROGRAM = pathlib.Path(__file__).parent / "together.py"
HOST = socket.gethostname()
GOODBYE = 5.0  # seconds in which a process looks whether the others fail like it


def start(*options):
    """Returns three running processes of together.py."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    given = {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2", "JAX_NUM_PROCESSES": "3"}
    environment = {**os.environ, **given, "JAX_COORDINATOR_ADDRESS": address}
    return [
        subprocess.Popen(
            [sys.executable, PROGRAM, *options],
            env={**environment, "JAX_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(3)
    ]


@pytest.fixture(scope="module")
def found():
    """Returns what together.py found in each of its processes."""
    started = start()
    said = [process.communicate(timeout=300) for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


def test_processes_in_a_row_give_runs(found):
    shares = [process["near"] for process in found]
    assert [share["rows"] for share in shares] == [[*range(4 * i, 4 * i + 4)] for i in range(3)]
    assert all(share["counted"] == share["rows"] and share["right"] for share in shares)


def test_a_process_gives_what_its_devices_hold_wherever_they_stand(found):
    shares = [process["scattered"] for process in found]
    assert [share["rows"] for share in shares] == [[0, 1, 6, 7], [2, 3, 8, 9], [4, 5, 10, 11]]
    assert all(share["counted"] == share["rows"] and share["right"] for share in shares)


def test_rows_that_two_processes_hold_are_given_by_both_and_counted_by_one(found):
    shares = [process["shared"] for process in found]
    first, second, third = range(4), range(4, 8), range(8, 12)
    assert [share["rows"] for share in shares] == [
        [*first, *second],
        [*first, *third],
        [*second, *third],
    ]
    assert [share["counted"] for share in shares] == [[*first, *second], [*third], []]
    assert all(share["right"] for share in shares)


def test_a_video_whose_clips_would_fall_to_two_processes_is_refused_by_all(found):
    for process in found:
        assert "InputError: Process 0 would give 2 of the 6 clips" in process["halves"]
        assert "data.batch_size = 3 to be a multiple of 6" in process["halves"]


def test_what_differs_is_named_to_all_with_the_processes(found):
    assert [process["same"] for process in found] == ["None"] * 3
    for process in found:
        assert "disagree on the config. Compared with process 0" in process["other"]
        assert f"process 2 ({HOST}):\n  config.data.frames is 9, and 8 there" in process["other"]
        assert "seed" not in process["other"]


def test_a_process_that_does_not_come_to_a_barrier_is_named(found):
    for process in found[:2]:
        assert process["late"].startswith(f"MissingProcess: process 2 ({HOST}) did not come to")
        assert "'restored'" in process["late"]


@pytest.mark.slow
def test_a_process_that_fails_alone_ends_by_its_own_code_and_ends_the_others():
    started = start("fail")
    said = started[1].communicate()[1]
    begun = time.monotonic()
    assert (started[1].returncode, "error: this cannot be used" in said) == (2, True)
    for process in (started[0], started[2]):
        process.communicate()
        assert process.returncode not in (0, 2)
    seconds = time.monotonic() - begun
    print(f"the others ended {seconds:.1f} s later")
    assert seconds < HEARTBEAT + GOODBYE + 10
