"""Waiting for the next batch is a phase of its own, and ends where the run is stopped."""

import queue
import signal
import threading
import time

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from vivit_jax import feed as feeds
from vivit_jax.clock import Clock
from vivit_jax.data.pool import Reading
from vivit_jax.feed import Feed, feed
from vivit_jax.stopping import Stop, Stopped


@pytest.fixture
def stop(monkeypatch):
    """Returns a Stop of the test's own."""
    stop = Stop()
    monkeypatch.setattr(feeds, "STOP", stop)
    return stop


def nothing_read():
    return Reading(0, 0.0, 1)


def test_only_waiting_is_the_phase_of_waiting(stop):
    clock, ahead = Clock(), queue.Queue()
    batches = Feed(ahead, nothing_read)
    clock.turn_to("step")
    ahead.put({"a": 1})
    assert batches.next((), clock) == {"a": 1}
    assert clock.session()["data_wait"] == 0
    threading.Timer(0.5, lambda: ahead.put({"a": 2})).start()
    assert batches.next((), clock) == {"a": 2}
    assert 0.3 < clock.session()["data_wait"] < 10
    assert clock.now == "step"


def test_who_waits_leaves_when_asked(stop):
    clock = Clock()
    stop.point()  # else the process is ended
    threading.Timer(0.3, lambda: (stop._ask(signal.SIGTERM), stop._follow())).start()
    with pytest.raises(Stopped):
        Feed(queue.Queue(), nothing_read).next((), clock)
    assert clock.now == "start"


def test_a_feed_ends_though_its_reading_hangs(stop):
    shape = (1,) * 5
    names = ("dcn", "data", "fsdp", "sequence", "tensor")
    devices = np.array(jax.devices()[:1]).reshape(shape)
    mesh = jax.sharding.Mesh(devices, names, axis_types=(AxisType.Auto,) * 5)
    closed = threading.Event()

    def batches():
        yield {"x": np.zeros((1, 2), np.float32)}
        closed.wait(60)

    begun = time.monotonic()
    with feed(batches(), mesh, nothing_read, closed.set) as ahead:
        assert ahead.next((), Clock())["x"].shape == (1, 2)
    assert time.monotonic() - begun < 30
