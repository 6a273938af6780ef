"""Batches on their way to the devices: read and sent by a thread of its own, one ahead."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vivit_jax import sharding
from vivit_jax.clock import Clock
from vivit_jax.data.pool import Reading
from vivit_jax.stopping import STOP

_LOOK = 0.2  # seconds between looks at whether to stop


class Feed:
    """Gives batches that already lie on the devices.

    Attributes:
      reading: tells what was read so far.
    """

    def __init__(self, queue_: "queue.Queue[Any]", reading: Callable[[], Reading]):
        """Reads from a queue that a thread fills."""
        self._queue = queue_
        self.reading = reading

    def next(self, busy_with: Any, clock: Clock) -> dict[str, jax.Array]:
        """Returns the next batch, over all hosts.

        Args:
          busy_with: arrays that the devices are still computing.
          clock: whose phase is "data_wait" while nothing is left to compute.

        Raises:
          Stopped: the process was asked to stop while it waited.
          Exception: whatever the reading raised.
        """
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            jax.block_until_ready(busy_with)
            item = self._wait(clock)
        if isinstance(item, BaseException):
            raise item
        return item

    def _wait(self, clock: Clock) -> Any:
        """Returns what comes next, however long that takes."""
        before = clock.turn_to("data_wait")
        try:
            while True:
                STOP.check()
                with contextlib.suppress(queue.Empty):
                    return self._queue.get(timeout=_LOOK)
        finally:
            clock.turn_to(before)


@contextlib.contextmanager
def feed(
    batches: Iterator[Mapping[str, np.ndarray]],
    mesh: jax.sharding.Mesh,
    reading: Callable[[], Reading],
    close: Callable[[], None],
) -> Iterator[Feed]:
    """Yields a Feed of batches without end; ends its thread.

    Args:
      batches: this host's shares.
      mesh: whose devices they go to.
      reading: tells what was read so far.
      close: ends what is being read, and the batches.
    """
    ahead: queue.Queue[Any] = queue.Queue(maxsize=1)
    stop = threading.Event()

    def put(item: Any) -> None:
        while not stop.is_set():
            with contextlib.suppress(queue.Full):
                return ahead.put(item, timeout=0.1)

    def read() -> None:
        try:
            for batch in batches:
                put(sharding.to_devices(batch, mesh))
                if stop.is_set():
                    return
        except BaseException as error:
            put(error)

    thread = threading.Thread(target=read, name="feed", daemon=True)
    thread.start()
    try:
        yield Feed(ahead, reading)
    finally:
        stop.set()
        close()
        thread.join()
