"""Ends a run that is stuck, and says where: what each process does, and which videos it reads.

A process moves as long as it passes the points of stopping.py (a step, a batch of an evaluation),
its clock turns to another phase, or its decoding processes answer. One that does not within its
time writes the stacks of all threads to stderr and to WORKDIR/stacks/process_I.txt, and ends the
run with exit code 1. Where several processes are one run, all stand still for want of one: so each
says what it is at, and all repeat what all said, first those that do not just wait for the others.
"""

import collections
import contextlib
import faulthandler
import json
import pathlib
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

from vivit_jax.clock import PHASES, Clock
from vivit_jax.data.pool import videos_answered, videos_under_way
from vivit_jax.processes import end, named, together, told_by
from vivit_jax.stopping import STOP

FOLDER = "stacks"
_TIMES = 10  # the median step, and the patience, that are waited for
_REMEMBERED = 50  # steps
_SHOWN = 5  # videos
_ANSWERS = 10.0  # seconds in which the other processes say what they are at
_DISK = 5.0  # seconds that a disk has, which may be what is stuck
_STUCK = "vivit_jax/stuck"


class Place(NamedTuple):
    """Where a process is; it moves while this changes.

    Attributes:
      phase: a row of clock.PHASES.
      step: that is under way, or was the last.
      passed: points of stopping.py.
      videos: that decoding processes have answered for.
    """

    phase: str
    step: int
    passed: int
    videos: int


class Watchdog:
    """Watches a process from a thread of its own; a context manager."""

    def __init__(
        self,
        clock: Clock,
        patience: float,
        workdir: pathlib.Path,
        bite: Callable[[str, Place, pathlib.Path], None] | None = None,
    ):
        """Prepares; entering it starts to watch.

        Args:
          clock: of the session.
          patience: seconds for which a step may stand still, or ten times the median of the last
            steps where that is more; ten times as many for every other phase. 0 watches nothing.
          workdir: of the run.
          bite: is told what the process is at, once; None for `end_all`.
        """
        self._clock, self._patience, self._workdir = clock, patience, workdir
        self._bite = bite or end_all
        self._tick = min(1.0, patience / 5)
        self._seconds: collections.deque[float] = collections.deque(maxlen=_REMEMBERED)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def __enter__(self) -> "Watchdog":
        """Starts to watch."""
        if self._patience:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Ends the watch."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()

    def limit(self, phase: str) -> float:
        """Returns the seconds for which a phase may stand still."""
        if phase == "step" or (phase == "data_wait" and self._seconds):
            usual = statistics.median(self._seconds) if self._seconds else 0.0
            return max(self._patience, _TIMES * usual)
        return _TIMES * self._patience

    def place(self) -> Place:
        """Returns where the process is."""
        return Place(self._clock.now, self._clock.step, STOP.passed, videos_answered())

    def _watch(self) -> None:
        """Looks, now and then, whether the process is where it was."""
        since_point = still = 0.0
        before, last = self.place(), time.monotonic()
        while not self._over.wait(self._tick):
            now, place = time.monotonic(), self.place()
            spent = min(now - last, 2 * self._tick)  # a machine may sleep, or a process be stopped
            still, since_point, last = still + spent, since_point + spent, now
            if place.passed > before.passed:
                if place.phase in ("step", "data_wait"):
                    self._seconds.append(since_point / (place.passed - before.passed))
                since_point = 0.0
            if place != before:
                before, still = place, 0.0
            elif still > self.limit(place.phase) or another_is_stuck():
                self._bite(in_words(place, still), place, self._workdir)
                return


def in_words(place: Place, seconds: float) -> str:
    """Returns what a process is at, which has stood still for so many seconds."""
    phase = f"{place.phase.replace('_', ' ')} ({PHASES[place.phase]})"
    words = f"at step {place.step}, phase {phase}, has not moved for {seconds:.0f} s"
    videos = videos_under_way()
    if videos:
        shown = ", ".join(f"{video} for {since:.0f} s" for video, since in videos[:_SHOWN])
        words += f"; reading {shown}{' and more' * (len(videos) > _SHOWN)}"
    return words


def another_is_stuck() -> bool:
    """Returns whether the watchdog of another process has barked."""
    client, _, count = together()
    return count > 1 and bool(told_by(client, _STUCK))


def end_all(words: str, place: Place, workdir: pathlib.Path) -> None:
    """Says what all processes are at, writes the stacks of this one, and ends it with 1.

    Args:
      words: what this process is at.
      place: likewise.
      workdir: of the run.
    """
    client, index, count = together()
    reads = max((seconds for _, seconds in videos_under_way()), default=0.0)
    said = {index: {"words": words, "waits": place.phase == "step", "reads": reads}}
    if count > 1:
        said = _exchange(client, index, count, said[index])
    file = workdir / FOLDER / f"process_{index}.txt"
    faulthandler.dump_traceback(all_threads=True)
    writing = threading.Thread(target=_write_stacks, args=(file, words), daemon=True)
    writing.start()
    writing.join(_DISK)
    # A save, too, waits for those that still read.
    first = sorted(said, key=lambda n: (said[n]["waits"], -said[n]["reads"], n))
    lines = [
        f"{named(client, [number]) if count > 1 else socket.gethostname()}: {said[number]['words']}"
        for number in first
    ]
    away = [number for number in range(count) if number not in said]
    if away:
        lines.insert(0, f"{named(client, away)}: no answer")
    listed = "".join(f"\n  {line}" for line in lines)
    print(f"error: The run is stuck.{listed}\nStacks of all threads: {file}.", file=sys.stderr)
    telling = threading.Thread(target=lambda: print(STOP.standing(), file=sys.stderr), daemon=True)
    telling.start()
    telling.join(_DISK)
    end(1)


def _exchange(client, index: int, count: int, own: dict) -> dict[int, dict]:
    """Returns what the processes say that they are at, by their numbers; tells them our own."""
    with contextlib.suppress(Exception):  # the first process is gone
        client.key_value_set(f"{_STUCK}/{index}", json.dumps(own))
    deadline = time.monotonic() + _ANSWERS
    while len(said := told_by(client, _STUCK)) < count and time.monotonic() < deadline:
        time.sleep(0.1)
    return {index: own} | {number: json.loads(text) for number, text in said.items()}


def _write_stacks(file: pathlib.Path, words: str) -> None:
    """Writes the stacks of all threads to a file."""
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8") as out:
            out.write(f"{socket.gethostname()}, {time.strftime('%F %T')}: {words}\n\n")
            out.flush()
            faulthandler.dump_traceback(out, all_threads=True)
