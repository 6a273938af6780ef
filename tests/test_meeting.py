"""Processes meet, or learn who is missing: threads here, that talk by real sockets."""

import concurrent.futures
import socket
import time

import pytest

from vivit_jax.errors import InputError
from vivit_jax.meeting import MissingProcess, meet


@pytest.fixture
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def outcomes(address, processes, seconds=20.0):
    """Returns what became of processes, given as (number, count): None, or an error."""
    with concurrent.futures.ThreadPoolExecutor(len(processes)) as threads:
        started = []
        for number, count in processes:
            started.append(threads.submit(meet, address, count, number, seconds))
            time.sleep(0.05)
        return [future.exception() for future in started]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_all_meet_in_whatever_order_they_come(address, order):
    assert outcomes(address, [(number, 3) for number in order]) == [None] * 3


def test_the_port_is_free_for_what_is_to_come(address):
    for _ in range(3):
        assert outcomes(address, [(0, 2), (1, 2)]) == [None] * 2


def test_a_process_that_does_not_come_is_named_to_all_others(address):
    for error in outcomes(address, [(0, 4), (2, 4)], seconds=1.0):
        assert isinstance(error, MissingProcess)
        assert "processes 1, 3 did not come" in str(error)
        assert f"0 ({socket.gethostname()}), 2 (" in str(error)


def test_the_first_process_is_missed_by_its_address(address):
    (error,) = outcomes(address, [(1, 2)], seconds=0.5)
    assert isinstance(error, MissingProcess)
    assert f"Process 0 is missing: {address}" in str(error)


def test_two_processes_of_one_number_are_refused(address):
    for error in outcomes(address, [(0, 3), (1, 3), (1, 3)]):
        assert isinstance(error, InputError)
        assert "Two processes have the number 1" in str(error)


def test_processes_that_were_told_of_other_counts_are_refused(address):
    for error in outcomes(address, [(0, 2), (1, 3)]):
        assert isinstance(error, InputError)
        assert "one of 3" in str(error)


def test_a_stranger_at_the_port_is_no_process(address):
    host, port = address.split(":")
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(meet, address, 2, 0, 20.0)
        time.sleep(0.2)
        with socket.create_connection((host, int(port))) as stranger:
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            second = threads.submit(meet, address, 2, 1, 20.0)
            assert first.exception() is second.exception() is None


def test_a_process_that_went_and_came_again_is_one(address):
    host, port = address.split(":")
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        first = threads.submit(meet, address, 2, 0, 20.0)
        time.sleep(0.2)
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(b'{"process": 1, "count": 3, "host": "x"')  # and dies, half way
        assert threads.submit(meet, address, 2, 1, 20.0).exception() is None
        assert first.exception() is None


def test_a_port_that_is_taken_is_refused(address):
    host, port = address.split(":")
    with socket.create_server((host, int(port))), pytest.raises(InputError, match="cannot be"):
        meet(address, 2, 0, 1.0)


def test_one_process_meets_nobody():
    meet("nowhere:1", 1, 0)
