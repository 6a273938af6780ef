"""SIGTERM and Ctrl-C: what was done is saved, and the process leaves; a second one ends it at once.

The two signals are blocked in every thread, and one thread waits for nothing else. So they are
heard while Python waits within a library; one that comes while a command starts itself again
(huge_pages.py) stays pending and is heard then; and decoding processes, which inherit this, do not
hear what their whole group is told.

Training passes points, one after each step and each batch of an evaluation, the same ones on every
process. Whoever is asked to stop tells the others by the key-value store of JAX's runtime. Then
each process says which point it passed last, and passes none until all have said so: the next
after the last of these is where all leave. Before the first point there is nothing to save, and who
does not leave by itself is ended.

This is no part of JAX's own service for such notices, which takes SIGTERM alone, asks for nothing
but a step, and would leave a process that waits for videos or evaluates to its fate.
"""

import contextlib
import os
import pathlib
import signal
import sys
import threading
import time
from typing import Any, NoReturn

from vivit_jax.processes import end, named, together, told_by

SIGNALS = (signal.SIGTERM, signal.SIGINT)
_SAME = 1.0  # seconds in which a second signal is the first, told to a process and to its group
_NEWS = 0.5  # seconds between looks at whether another process was asked
_PATIENCE = 30.0  # seconds in which all processes say where they are
_OWN_TIME = 4.0  # seconds in which a process that has nothing to save leaves by itself
_ASKED, _AT = "vivit_jax/stop/asked", "vivit_jax/stop/at"


class Stopped(BaseException):
    """This process was asked to stop, and now may.

    No Exception, so that nothing takes it for a fault. Its message is the one line that a user
    sees; `number` is the signal's.
    """

    def __init__(self, number: int, when: str = ""):
        """Makes the message, in which `when` may say how far the run is."""
        super().__init__(f"Stopped by {signal.Signals(number).name}{when}. {STOP.standing()}")
        self.number = number


class Stop:
    """What this process knows of being asked to stop; there is one, as there is one SIGTERM.

    Attributes:
      workdir: of the run; None until it is known.
    """

    def __init__(self):
        """Hears nothing yet."""
        self.workdir: pathlib.Path | None = None
        self._word, self._number = threading.Event(), 0
        self._together = False
        self._lock = threading.Lock()  # held while no point may be passed
        self._passed, self._last = 0, sys.maxsize
        self._told = False

    @property
    def asked(self) -> int:
        """The signal by which this or another process was asked to stop; 0 for none."""
        return self._number

    @property
    def passed(self) -> int:
        """How many points were passed."""
        return self._passed

    def listen(self) -> None:
        """Begins to hear the signals that `block` has blocked; called once, by the main thread."""
        heard = _heard()
        for number in heard:
            signal.signal(number, signal.SIG_DFL)  # which ends the process at the second
        threading.Thread(target=self._hear, args=(heard,), name="signals", daemon=True).start()
        threading.Thread(target=self._follow, name="stop", daemon=True).start()

    def joined(self) -> None:
        """Listens to the other processes too, from now on."""
        self._together = together()[2] > 1

    def point(self) -> None:
        """Returns when the run may go on; every process must pass the same points.

        Raises:
          Stopped: all leave here.
        """
        with self._lock:
            self._passed += 1
            leave = self._passed >= self._last
        if leave:
            raise Stopped(self._number)

    def check(self) -> None:
        """Returns where this process must go on to the next point; called wherever it waits.

        Raises:
          Stopped: it was asked to stop, and no other process would wait for it.
        """
        if self._last == 1 or (self._last < sys.maxsize and not self._together):
            raise Stopped(self._number)

    def standing(self) -> str:
        """Returns what a run goes on from, in words."""
        if self.workdir is None:
            return "Nothing was begun."
        step = newest(self.workdir)
        if step is None:
            return f"{self.workdir} has no checkpoint; the same command begins anew."
        return f"{self.workdir} has step {step}, from which the same command goes on."

    def leave(self, stopped: Stopped) -> NoReturn:
        """Prints why, once, and ends this process together with the others."""
        with self._lock:
            told, self._told = self._told, True
        if not told:
            print(stopped, file=sys.stderr)
        end(128 + stopped.number)

    def _hear(self, heard: set[signal.Signals]) -> None:
        """Waits for signals."""
        first = None
        while True:
            number = signal.sigwait(heard)
            if first is None:
                first = time.monotonic()
                self._ask(number)
            elif time.monotonic() - first > _SAME:
                signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
                signal.raise_signal(number)

    def _ask(self, number: int) -> None:
        """Asks this process to stop; the first signal counts."""
        self._number = self._number or number
        self._word.set()

    def _follow(self) -> None:
        """Waits until this or another process is asked, and settles where all leave."""
        client, index, count = None, 0, 1
        while not self._word.wait(_NEWS):
            if self._together and (asked := told_by(together()[0], _ASKED)):
                self._ask(int(asked[min(asked)]))
        if self._together:
            client, index, count = together()
        if count > 1:
            self._agree(client, index, count)
        else:
            with self._lock:
                self._last = self._passed + 1
        if self._last == 1:
            time.sleep(_OWN_TIME)
            self.leave(Stopped(self._number))

    def _agree(self, client: Any, index: int, count: int) -> None:
        """Settles on the point where all leave; ends the process where the others do not answer."""
        client.key_value_set(f"{_ASKED}/{index}", str(self._number))
        with self._lock:
            client.key_value_set(f"{_AT}/{index}", str(self._passed))
            deadline = time.monotonic() + _PATIENCE
            while len(at := told_by(client, _AT)) < count:
                if time.monotonic() > deadline:
                    away = named(client, [number for number in range(count) if number not in at])
                    name = signal.Signals(self._number).name
                    print(
                        f"error: {name} came, and {away} did not say within {_PATIENCE:.0f} s "
                        f"where to stop; nothing is saved now. {self.standing()}",
                        file=sys.stderr,
                    )
                    end(1)
                time.sleep(0.05)
            self._last = 1 + max(map(int, at.values()))


STOP = Stop()


def block() -> None:
    """Keeps both signals pending from here on, in this thread and in all that it begins."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _heard())


def newest(workdir: pathlib.Path) -> int | None:
    """Returns the newest step that is on disk; None for none. No import that takes long."""
    steps = []
    with contextlib.suppress(OSError):
        for folder in os.scandir(workdir / "checkpoints"):
            # Orbax writes this file last, and renames the folder to its number after that.
            if folder.name.isdigit() and os.path.exists(f"{folder.path}/_CHECKPOINT_METADATA"):
                steps.append(int(folder.name))
    return max(steps, default=None)


def _heard() -> set[signal.Signals]:
    """Returns the signals that are heard: not SIGINT in a background job, which must ignore it."""
    return {number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
