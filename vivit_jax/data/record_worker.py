"""A process that makes records: `python -m vivit_jax.data.record_worker PIPE MEMORY SECONDS`.

It serves as data/worker.py does, but what it makes has no fixed size, so that goes back through
the pipe. A decoder that crashes or hangs takes this process with it and nothing else.
"""

import sys
from typing import Any, NamedTuple

import numpy as np

from vivit_jax.data import worker
from vivit_jax.data.container import DecodeError
from vivit_jax.data.encoding import encode
from vivit_jax.data.record_format import Form


class Task(NamedTuple):
    """One video to encode; the arguments of encoding.encode."""

    video: str
    span: tuple[float, float] | None
    form: Form


def answer(task: Task, memory: np.ndarray) -> tuple[str, dict[str, Any] | str]:
    """Returns ("", content of the record), or (cause, message)."""
    try:
        return "", encode(*task)
    except DecodeError as error:
        return error.cause, error.message
    except Exception as error:  # a fault of the file's that nobody has met yet
        return "unreadable", f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    worker.main(sys.argv[1:], answer)
