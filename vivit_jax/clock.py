"""Where the time of a run went, over every session that it took.

    python -m vivit_jax.clock WORKDIR        # the table, of a run that goes on, too

A session is the life of a process, or a part of it where the run went back to a checkpoint. Every
moment of it belongs to one phase. WORKDIR/time.jsonl holds, a line now and then, the step and how
many seconds each phase had taken by then, so that little is forgotten when a session is killed. Two
phases belong to no session: what was done after the checkpoint that the next session went on from
is lost, and until that next session the run was down.
"""

import argparse
import contextlib
import itertools
import math
import os
import pathlib
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vivit_jax.errors import InputError
from vivit_jax.metrics import Lines, drop_after, duration, read_lines
from vivit_jax.terminal import run

TIME = "time.jsonl"
PHASES = {
    "start": "imports, opening videos",
    "init": "first parameters",
    "restore": "reading a checkpoint",
    "compile": "the train step",
    "data_wait": "devices idle for want of a batch",
    "step": "training that counts",
    "save": "training stopped by a save",
    "evaluation": "with its compiling",
    "profile": "starting and writing a trace",
    "end": "closing, curves",
    "lost": "done after the checkpoint that was gone on from",
    "down": "from a session's last line to the next session",
}


class Clock:
    """Tells the phases of a session, and of those before it.

    Attributes:
      step: that is under way, or was the last; the loop sets it.
    """

    def __init__(self, age: float = 0.0):
        """Starts in the phase "start".

        Args:
          age: seconds for which the session has been going already.
        """
        self.step = 0
        self._begun = time.time() - age
        self._last = time.perf_counter() - age
        self._phase = "start"
        self._seconds = dict.fromkeys(PHASES, 0.0)
        self._before = dict.fromkeys(PHASES, 0.0)
        self._lines: Lines | None = None

    @property
    def now(self) -> str:
        """The phase that is on."""
        return self._phase

    def begin_again(self) -> None:
        """Begins another session, which goes on from an earlier step in the same process."""
        self._begun, self._last = time.time(), time.perf_counter()
        self._phase, self._seconds = "start", dict.fromkeys(PHASES, 0.0)

    def turn_to(self, phase: str) -> str:
        """Ends the phase that is on, and begins another; returns the one that ended."""
        now = time.perf_counter()
        self._seconds[self._phase] += now - self._last
        before, self._phase, self._last = self._phase, phase, now
        return before

    @contextlib.contextmanager
    def phase(self, phase: str) -> Iterator[None]:
        """Makes what is within a phase of its own, no part of the one around it; writes a line."""
        around = self.turn_to(phase)
        try:
            yield
        finally:
            self.turn_to(around)
            self.write()

    def session(self) -> dict[str, float]:
        """Returns the seconds of each phase until now, of this session."""
        self.turn_to(self._phase)
        return dict(self._seconds)

    def total(self) -> dict[str, float]:
        """Returns the seconds of each phase until now, of all sessions."""
        return {phase: self._before[phase] + here for phase, here in self.session().items()}

    @contextlib.contextmanager
    def kept(self, workdir: pathlib.Path, start: int, active: bool) -> Iterator[None]:
        """Writes lines from here on, one at once and one at the end.

        Args:
          workdir: of the run, whose earlier sessions are counted from here on.
          start: step that this session goes on from.
          active: False for a process that writes nothing.
        """
        self.step = start
        if active:
            file = workdir / TIME
            drop_after(file, sys.maxsize)  # only what a crash left half written
            self._before = add_up(read_lines(file), (start, self._begun))
            self._lines = Lines(file)
        self.write()
        try:
            yield
        except BaseException:
            self.write()
            raise
        else:
            self.write(done=True)
        finally:
            if self._lines is not None:
                self._lines.close()

    def write(self, done: bool = False) -> None:
        """Writes a line.

        Args:
          done: whether the session ended well, and the run waits for no other.
        """
        if self._lines is not None:
            seconds = {phase: round(value, 3) for phase, value in self.session().items() if value}
            about = {"session": self._begun, "step": self.step, "seconds": seconds, "done": done}
            self._lines.add(about)


def add_up(
    lines: Iterable[Mapping[str, Any]], next_session: tuple[int, float] | None = None
) -> dict[str, float]:
    """Returns the seconds of each phase over some sessions.

    Args:
      lines: of time.jsonl.
      next_session: the step that the next one goes on from, and the Unix time of its start.
    """
    sessions = [list(of) for _, of in itertools.groupby(lines, key=lambda line: line["session"])]
    starts = [(of[0]["step"], of[0]["session"]) for of in sessions]
    starts += [next_session] if next_session else []
    total = dict.fromkeys(PHASES, 0.0)
    for i, of in enumerate(sessions):
        later, last = starts[i + 1 :], of[-1]
        kept = [line for line in of if line["step"] <= min((s for s, _ in later), default=math.inf)]
        spent = sum(last["seconds"].values())
        counted = kept[-1]["seconds"] if kept else {}
        for phase, seconds in counted.items():
            total[phase] += seconds
        total["lost"] += spent - sum(counted.values())
        if later and not last["done"]:
            total["down"] += max(0.0, later[0][1] - last["session"] - spent)
    return total


def goodput(total: Mapping[str, float]) -> float:
    """Returns the share of the time in which the run took steps that count, 0 to 1."""
    return total["step"] / sum(total.values())


def table(total: Mapping[str, float]) -> str:
    """Returns what people read: a line a phase, the share of each, and the goodput."""
    wall = sum(total.values())
    lines = [f"The run took {duration(wall)}; goodput {goodput(total):.1%}."]
    for phase, what in PHASES.items():
        if total[phase]:
            name = phase.replace("_", " ")
            lines.append(f"  {name:<11}{total[phase]:10.1f} s {total[phase] / wall:6.1%}  {what}")
    return "\n".join(lines)


def since_process_start() -> float:
    """Returns the age of this process in seconds; 0 where the system has no /proc to tell."""
    ticks = started(os.getpid())
    if not ticks:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")


def started(pid: int) -> int:
    """Returns when a process of this system started, in ticks since it booted; 0 for no process."""
    try:
        status = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return 0
    state, *rest = status.rpartition(")")[2].split()
    return 0 if state == "Z" else int(rest[18])  # "starttime" of proc(5)


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vivit_jax.clock", description=table.__doc__)
    parser.add_argument("workdir", metavar="WORKDIR", type=pathlib.Path, help="of a run")
    file = parser.parse_args().workdir / TIME
    lines = read_lines(file)
    if not lines:
        raise InputError(f"{file} holds no times; expected the workdir of a run.")
    print(table(add_up(lines)))
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
