"""Batches on their way to the devices: read and sent by a thread of its own, one ahead."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np

from vivit_jax import sharding
from vivit_jax.data.pool import Reading


class Feed:
    """Gives batches that already lie on the devices.

    Attributes:
      waited: seconds for which nothing was left to compute and the next batch was not there.
      reading: tells what was read so far.
    """

    def __init__(self, queue_: "queue.Queue[Any]", reading: Callable[[], Reading]):
        """Reads from a queue that a thread fills."""
        self._queue = queue_
        self.reading = reading
        self.waited = 0.0

    def next(self, busy_with: Any) -> dict[str, jax.Array]:
        """Returns the next batch, over all hosts.

        Args:
          busy_with: arrays that the devices are still computing.

        Raises:
          Exception: whatever the reading raised.
        """
        try:
            item = self._queue.get_nowait()
        except queue.Empty:
            jax.block_until_ready(busy_with)
            start = time.perf_counter()
            item = self._queue.get()
            self.waited += time.perf_counter() - start
        if isinstance(item, BaseException):
            raise item
        return item


@contextlib.contextmanager
def feed(
    batches: Iterator[Mapping[str, np.ndarray]],
    mesh: jax.sharding.Mesh,
    reading: Callable[[], Reading],
) -> Iterator[Feed]:
    """Yields a Feed of batches without end; ends its thread.

    Args:
      batches: this host's shares.
      mesh: whose devices they go to.
      reading: tells what was read so far.
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
        thread.join()
