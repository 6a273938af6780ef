"""A decoding process: `python -m vivit_jax.data.worker PIPE MEMORY SECONDS BYTES`; see the pool.

Tasks come through a pipe and short answers go back; pixels go through shared memory and are never
pickled. It is a fresh interpreter, neither a fork of the training process (whose libraries do not
survive one) nor a re-run of its main module, and it imports neither JAX nor TensorFlow. When the
training process is gone, however it went, the pipe ends and so does the worker.
"""

import contextlib
import mmap
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from vivit_jax.data.clips import Moments, Sampling
from vivit_jax.data.decode import DecodeError, read_views
from vivit_jax.data.digests import verified
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.limits import confine

PARTS = 2  # of the memory: one is copied out of while the next clip is decoded into the other


class Task(NamedTuple):
    """One video to read: the arguments of decode.read_views, and what digests.verified compares."""

    video: str | bytes
    sampling: Sampling | Moments
    geometry: Geometry
    key: tuple[int, ...]
    span: tuple[float, float] | None = None
    digest: str = ""


class Call(NamedTuple):
    """A function of a module, to be called with a video; its answer is small and no pixels."""

    function: Callable[..., Any]
    arguments: tuple[Any, ...]


class Reply(NamedTuple):
    """What became of a task.

    Attributes:
      cause: why there are none; empty where pixels are in memory, or a call has an answer.
      detail: the shape of the pixels, the answer, or a message.
      seconds: that it took.
    """

    cause: str
    detail: Any
    seconds: float


def answer(task: Task | Call, memory: np.ndarray) -> tuple[str, Any]:
    """Returns ("", shape of the pixels now in memory or a call's answer), or (cause, message)."""
    try:
        if isinstance(task, Call):
            return "", task.function(*task.arguments)
        video = verified(task.video, task.digest)
        pixels = read_views(video, task.sampling, task.geometry, task.key, task.span, memory)
    except DecodeError as error:
        return error.cause, error.message
    except MemoryError:
        return "memory", "it takes more memory than a decoding process may have"
    except Exception as error:  # a fault of the file's that nobody has met yet
        return "unreadable", f"{type(error).__name__}: {error}"
    return "", pixels.shape


def serve(pipe: Connection, memory: np.ndarray, seconds: int) -> None:
    """Answers tasks until the pipe ends; a task of more than `seconds` ends the process.

    Args:
      pipe: gives (part of the memory, Task), and takes what makes a Reply.
      memory: uint8 [parts, bytes].
      seconds: see above.
    """
    # OSError and EOFError: the training process is gone.
    with contextlib.suppress(OSError, EOFError):
        pipe.send("ready")
        while True:
            part, task = pipe.recv()
            signal.alarm(seconds)  # kills, should nobody be left to do it
            start = time.perf_counter()
            found = answer(task, memory[part])
            signal.alarm(0)
            pipe.send((*found, time.perf_counter() - start))  # a Reply; its class is another's here


def main(arguments: list[str]) -> None:
    """Serves over the inherited file descriptors."""
    pipe, memory, seconds, most = (int(argument) for argument in arguments)
    for told in (signal.SIGINT, signal.SIGTERM):  # a group is: this is for the training process
        signal.signal(told, signal.SIG_IGN)
    size = os.fstat(memory).st_size
    parts = np.frombuffer(mmap.mmap(memory, size), np.uint8).reshape(PARTS, -1)
    confine(most)
    serve(Connection(pipe), parts, seconds)


if __name__ == "__main__":
    from vivit_jax.data import worker  # whose Call is what comes through the pipe

    worker.main(sys.argv[1:])
