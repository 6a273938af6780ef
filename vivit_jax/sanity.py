"""Numbers that went bad: when a run goes back to a checkpoint, to which, and how often.

A run whose updates are left out one after another, or whose state is not finite, does not mend by
itself. It goes back to the newest checkpoint before the trouble and sees the videos in another
order from there. Where that has not helped a few times, it ends. Everything is decided from what
all processes know alike, so they go back together without a word.

    WORKDIR/rollbacks.jsonl     a line each time: {"step": found at, "to", "reason", "order",
                                "skipped": lines of skipped_updates.jsonl that were undone}

The file is the run's memory of its orders: whoever starts the run again sees the same videos.
"""

import contextlib
import logging
import pathlib
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import jax

from vivit_jax.agreement import agree
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.errors import Fault, NotFinite
from vivit_jax.metrics import ROLLBACKS, SKIPPED, append, drop_after, read_lines

log = logging.getLogger(__name__)
NO_VIDEO, SPIKE, NOT_FINITE = "no video could be read", "spike", "not finite"  # why one is left out


class GoBack(Exception):
    """A run that cannot go on from where it is.

    Attributes:
      step: at which that was found.
      taken: the last whose update was taken.
    """

    def __init__(self, step: int, taken: int, reason: str):
        """Tells why."""
        super().__init__(reason)
        self.step, self.taken = step, taken


@contextlib.contextmanager
def going_back(step: int, what: str) -> Iterator[None]:
    """Turns a NotFinite within, of `what` at this step, into a GoBack."""
    try:
        yield
    except NotFinite as error:
        raise GoBack(step, step - 1, f"{what} is {error}") from error


class LeftOut:
    """Counts the updates that were left out one after another.

    Attributes:
      taken: the last step whose update was not.
      row: how many were since; a batch of which nothing could be read says nothing.
    """

    def __init__(self, most: int, step: int = 0, before: Iterable[Mapping[str, Any]] = ()):
        """Begins after a step.

        Args:
          most: as many are too many; 0 for no limit.
          step: from which the run goes on.
          before: lines of skipped_updates.jsonl, up to that step at least.
        """
        whys = {line["step"]: line.get("why", NOT_FINITE) for line in before}
        self._most, self.taken = most, step
        while self.taken in whys:
            self.taken -= 1
        self.row = sum(whys[at] != NO_VIDEO for at in range(self.taken + 1, step + 1))

    def see(self, step: int, why: str) -> None:
        """Takes what became of the update of the next step.

        Args:
          step: its number.
          why: it was left out; empty where it was not.

        Raises:
          GoBack: too many were.
        """
        if not why:
            self.taken, self.row = step, 0
        elif why != NO_VIDEO:
            self.row += 1
            if self._most and self.row >= self._most:
                raise GoBack(step, self.taken, f"{self.row} updates in a row left out, last: {why}")


class Rollbacks:
    """The times that a run went back.

    Attributes:
      lines: one each.
    """

    def __init__(self, workdir: pathlib.Path, most: int):
        """Reads what the run did before.

        Args:
          workdir: of the run.
          most: times that it may go back.
        """
        self._file, self._most = workdir / ROLLBACKS, most
        self.lines = read_lines(self._file)

    @property
    def orders(self) -> tuple[tuple[int, int], ...]:
        """Which order of the videos there is, from which step on; the steps rise."""
        orders: list[tuple[int, int]] = []
        for line in self.lines:
            orders = [one for one in orders if one[0] < line["to"]]
            orders.append((line["to"], line["order"]))
        return tuple(orders)

    def go_back(self, bad: GoBack, checkpoints: Checkpoints) -> None:
        """Sets aside what is later than the step to go on from, in another order.

        Raises:
          Fault: it went back as often as it may, or there is nowhere to go back to.
        """
        checkpoints.wait()  # the newest may be on its way to the disk
        steps, tried = checkpoints.steps(), {line["to"] for line in self.lines}
        to = target(bad, steps, tried)
        told = f"At step {bad.step} the numbers of the run had gone bad: {bad}."
        if to is None:
            raise Fault(f"{told} {checkpoints.folder} has no good checkpoint to go back to.")
        order = 1 + len(self.lines)
        if order > self._most:
            last = target(bad, steps)
            where = checkpoints.folder / str(last) if last else "none"
            raise Fault(
                f"{told} It went back {len(self.lines)} times before, and config.train."
                f"max_rollbacks = {self._most} allows no more. Last good checkpoint: {where}. "
                "skipped_updates.jsonl names the videos; a lower config.optim.learning_rate, or "
                "config.optim.clip, may help. With a higher max_rollbacks the run goes on."
            )
        line = {"step": bad.step, "to": to, "reason": str(bad), "order": order}
        agree(f"rollback {order}", line)
        # A run that is killed in between is where it would have gone back once more.
        if to:  # else there are none
            checkpoints.roll_back(to)
        if jax.process_index() == 0:
            undone = [x for x in read_lines(self._file.with_name(SKIPPED)) if x["step"] > to]
            drop_after(self._file, sys.maxsize)  # only what a crash left half written
            append(self._file, {**line, "skipped": undone})
        self.lines.append(line)
        log.warning("%s Back to step %d, with another order of the videos.", told, to)


def target(bad: GoBack, steps: Collection[int], tried: Collection[int] = ()) -> int | None:
    """Returns the step to go back to: 0 for the start, None for nowhere.

    Args:
      bad: what is wrong, and since when.
      steps: that there are checkpoints of.
      tried: those that were gone back to before, and it did not help.
    """
    have = sorted(step for step in steps if step < bad.step)
    if not have:
        return None if steps else 0
    good = [step for step in have if step <= bad.taken] or have[:1]
    return ([step for step in good if step not in tried] or good)[-1]
