"""Decoding processes that may crash, hang or be killed without taking the training with them.

Each worker has a pipe and two parts of shared memory. A call takes an idle worker, waits for its
answer with the interpreter lock released, hands it on to the next call, and copies the pixels out
while the worker fills its other part. A worker that dies or takes too long costs the one video it
was reading: it is replaced, and the call returns a DecodeFailure.
"""

import contextlib
import math
import mmap
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

import numpy as np

from vivit_jax.data import container, limits, worker
from vivit_jax.errors import InputError

_START_SECONDS = 60.0
_END_SECONDS = 5.0  # after which one that waits for a dead disk is left to itself
_OPEN: "set[DecodePool]" = set()  # of this process


class DecodeFailure(NamedTuple):
    """Why a video gave no pixels; `cause` is DecodeError's, "crashed" or "timeout"."""

    cause: str
    message: str


class Reading(NamedTuple):
    """What a pool has done so far.

    Attributes:
      videos: that it was given.
      seconds: that its workers spent on them.
      workers: how many there are.
    """

    videos: int
    seconds: float
    workers: int

    def since(self, before: "Reading") -> "Reading":
        """Returns what was done since another moment."""
        videos, seconds = self.videos - before.videos, self.seconds - before.seconds
        return self._replace(videos=videos, seconds=seconds)


class DecodePool:
    """A fixed number of decoding processes, as a context manager; safe to call from any thread."""

    def __init__(
        self,
        workers: int,
        clip_bytes: int,
        timeout: float = 60.0,
        memory: int = limits.MEMORY,
    ):
        """Makes a pool; entering it starts the processes.

        Args:
          workers: processes.
          clip_bytes: most bytes of pixels that one task gives.
          timeout: seconds that one video may take.
          memory: bytes that a process may take for one.
        """
        self._workers = [_Worker(clip_bytes, timeout, memory) for _ in range(workers)]
        self._idle: queue.SimpleQueue[_Worker | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._videos, self._seconds = 0, 0.0
        self._closed = False

    def __enter__(self) -> "DecodePool":
        """Starts the processes; they come up while other things happen."""
        container.tell_decoder()
        for member in self._workers:
            member.start()
            self._idle.put(member)
        _OPEN.add(self)
        return self

    def __exit__(self, *exception) -> None:
        """Ends the processes at once; calls that wait return a failure."""
        self.close()

    def close(self) -> None:
        """Ends the processes at once, whatever they are doing; a second call does nothing."""
        self._closed = True
        _OPEN.discard(self)
        self._idle.put(None)
        for member in self._workers:
            member.close()

    def decode(self, task: worker.Task) -> np.ndarray | DecodeFailure:
        """Returns the views of the task's video: uint8 [V T H W 3], or why there are none."""
        return self._answer(task)

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what a function of a module returns there, or a DecodeFailure."""
        return self._answer(worker.Call(function, arguments))

    def _answer(self, task: worker.Task | worker.Call) -> Any:
        """Returns the answer to a task from the first worker that is idle."""
        member = self._idle.get()
        if member is None:  # closed; pass the word on to the next that waits
            self._idle.put(None)
            return DecodeFailure("closed", "the pool was closed")
        member.busy = (_subject(task), time.monotonic())
        try:
            reply, pixels = member.answer(task)
        except _Broken as broken:
            if self._closed:
                return DecodeFailure("closed", "the pool was closed")
            member.restart()
            return DecodeFailure(broken.cause, broken.message)
        finally:
            member.busy, member.answers = None, member.answers + 1
            self._idle.put(member)
        with self._lock:
            self._videos, self._seconds = self._videos + 1, self._seconds + reply.seconds
        if reply.cause:
            return DecodeFailure(reply.cause, reply.detail)
        return reply.detail if pixels is None else pixels.take()

    def reading(self) -> Reading:
        """Returns what was done so far, without what broke a worker."""
        with self._lock:
            return Reading(self._videos, self._seconds, len(self._workers))

    def under_way(self) -> list[tuple[str, float]]:
        """Returns the videos that are read now, and for how many seconds they have been."""
        now, busy = time.monotonic(), [member.busy for member in self._workers]
        return [(subject, now - since) for subject, since in filter(None, busy)]

    def answers(self) -> int:
        """Returns how many tasks have ended, well or not."""
        return sum(member.answers for member in self._workers)

    def processes(self) -> list[int]:
        """Returns the process ids of the workers."""
        return [member.process.pid for member in self._workers]


class _Broken(Exception):
    """A worker that will not answer."""

    def __init__(self, cause: str, message: str):
        super().__init__(cause, message)
        self.cause, self.message = cause, message


class _Pixels(NamedTuple):
    """A clip in a part of a worker's memory, which is held until it is taken."""

    memory: np.ndarray
    part: threading.Lock

    def take(self) -> np.ndarray:
        """Returns a copy."""
        try:
            return self.memory.copy()
        finally:
            self.part.release()


class _Worker:
    """One process with its pipe and memory; used by one thread at a time, closed by any."""

    def __init__(self, clip_bytes: int, timeout: float, memory: int):
        self._timeout, self._most = timeout, memory
        size = worker.PARTS * clip_bytes
        self._file = _memory_file(size)
        self._memory = np.frombuffer(mmap.mmap(self._file, size), np.uint8)
        self._memory = self._memory.reshape(worker.PARTS, clip_bytes)
        self._parts = [threading.Lock() for _ in range(worker.PARTS)]
        self._part = 0
        self._lock = threading.Lock()
        self._ready = False
        self._closed = False
        self.busy: tuple[str, float] | None = None  # with what, and since when
        self.answers = 0
        self._pipe: Connection
        self.process: subprocess.Popen

    def start(self) -> None:
        """Starts the process."""
        with self._lock:
            if self._closed:
                return
            self._ready = False
            self._pipe, far_end = Pipe()
            with far_end:
                fds = (far_end.fileno(), self._file)
                given = (*fds, int(2 * self._timeout) + 1, self._most)
                self.process = subprocess.Popen(
                    [sys.executable, "-m", worker.__name__, *map(str, given)],
                    pass_fds=fds,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,  # a command's output is the command's own
                    env=limits.environment(os.environ, str(limits.PACKAGE_ROOT)),
                )

    def answer(self, task: worker.Task | worker.Call) -> tuple[worker.Reply, _Pixels | None]:
        """Returns the answer to a task, and the pixels where there are some.

        Raises:
          _Broken: the process died or was too slow.
          RuntimeError: the process cannot be started.
        """
        if self._ready and self.process.poll() is not None:
            self.restart()  # it died idle: no video's fault
        if not self._ready:
            self._receive(_START_SECONDS)
            self._ready = True
        self._part = (self._part + 1) % worker.PARTS
        part = self._parts[self._part]
        part.acquire()  # the clip before the last may still be copied out of it
        with contextlib.ExitStack() as stack:
            stack.callback(part.release)
            try:
                self._pipe.send((self._part, task))
            except OSError as error:
                raise self._death() from error
            reply = worker.Reply(*self._receive(self._timeout))
            if reply.cause or isinstance(task, worker.Call):
                return reply, None
            stack.pop_all()  # released by whoever takes the pixels
        memory = self._memory[self._part, : math.prod(reply.detail)]
        return reply, _Pixels(memory.reshape(reply.detail), part)

    def restart(self) -> None:
        """Replaces the process."""
        self._end()
        self._pipe.close()
        self.start()

    def close(self) -> None:
        """Ends the process for good."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._end()
            os.close(self._file)

    def _end(self) -> None:
        """Ends the process; one that the kernel cannot end yet ends as soon as it can."""
        self.process.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_END_SECONDS)

    def _receive(self, seconds: float):
        """Returns the next message of the process."""
        try:
            if self._pipe.poll(seconds):
                return self._pipe.recv()
        except (OSError, EOFError) as error:
            raise self._death() from error
        raise _Broken("timeout", f"the decoder took longer than {seconds:g} s")

    def _death(self) -> Exception:
        """Returns how the process ended."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(5.0)
        code = self.process.poll()
        how = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        if self._ready or self._closed:
            return _Broken("crashed", f"the decoder ended with {how}")
        return RuntimeError(f"a decoding process ended with {how} while it started")


def videos_under_way() -> list[tuple[str, float]]:
    """Returns the videos that this process reads now, and for how many seconds it has, in order."""
    return sorted((one for pool in list(_OPEN) for one in pool.under_way()), key=lambda x: -x[1])


def videos_answered() -> int:
    """Returns how many tasks have ended in the pools that are open."""
    return sum(pool.answers() for pool in list(_OPEN))


def _subject(task: worker.Task | worker.Call) -> str:
    """Returns what a task is about, in words."""
    video = task.arguments[0] if isinstance(task, worker.Call) else task.video
    return f"a video of {len(video)} bytes" if isinstance(video, bytes) else str(video)


def cores() -> int:
    """Returns how many cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _memory_file(size: int) -> int:
    """Returns the descriptor of an unnamed file of reserved bytes: in memory, if it has room."""
    reserve = getattr(os, "posix_fallocate", lambda fd, _, length: os.ftruncate(fd, length))
    for folder in ("/dev/shm", tempfile.gettempdir()):
        if os.path.isdir(folder):
            descriptor, path = tempfile.mkstemp(dir=folder)
            os.unlink(path)
            try:
                reserve(descriptor, 0, size)
                return descriptor
            except OSError:  # full, as the 64 MB of a container soon are
                os.close(descriptor)
    raise InputError(
        f"No room for {size / 1e6:.0f} MB of clips in /dev/shm or {tempfile.gettempdir()}; "
        "free some, or lower data.workers or the number of views."
    )
