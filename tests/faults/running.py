"""Tiny runs in processes of their own, which faults are injected into from outside."""

import contextlib
import os
import pathlib
import signal
import subprocess
import time

from faults.runs import ENVIRONMENT, ROOT, command, free_address, steps_done

WORKER = "vivit_jax.data.worker"


class Running:
    """One process of a run: `python -m vivit_jax.main`, whose words go to a file."""

    def __init__(
        self,
        workdir: pathlib.Path,
        root: pathlib.Path,
        *options: str,
        limits=None,
        **environment: str,
    ):
        """Starts it.

        Args:
          workdir: of the run.
          root: of its videos.
          options: of the command.
          limits: is called in the new process before it starts.
          environment: beside that of the tests.
        """
        workdir.mkdir(parents=True, exist_ok=True)
        self.workdir = workdir
        self.log = workdir.parent / f"{workdir.name}_{environment.get('JAX_PROCESS_ID', 0)}.log"
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command(workdir, root, *options),
                env={**os.environ, **ENVIRONMENT, "JAX_NUM_CPU_DEVICES": "1", **environment},
                cwd=ROOT,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=limits,
            )

    def said(self) -> str:
        """Returns all that it said."""
        return self.log.read_text(errors="replace")

    def wait_until(self, ready, seconds: float = 300.0) -> None:
        """Returns when a function of this returns anything."""
        deadline = time.monotonic() + seconds
        while not ready(self):
            assert self.process.poll() is None, self.said()[-3000:]
            assert time.monotonic() < deadline, self.said()[-3000:]
            time.sleep(0.01)

    def tell(self, number: int, group: bool = False) -> None:
        """Sends a signal to the process, or to its group."""
        (os.killpg if group else os.kill)(self.process.pid, number)

    def end(self, seconds: float = 300.0) -> int:
        """Returns the exit code."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """Ends it and its decoders at once."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def workers(self) -> list[int]:
        """Returns its decoding processes."""
        return workers_of(self.process.pid)

    def steps(self) -> int:
        """Returns the last step that it has logged."""
        return steps_done(self.workdir)


def workers_of(pid: int) -> list[int]:
    """Returns the decoding processes of a process."""
    found = []
    with contextlib.suppress(OSError):
        for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            with contextlib.suppress(OSError):
                if WORKER in pathlib.Path(f"/proc/{child}/cmdline").read_text():
                    found.append(int(child))
    return found


@contextlib.contextmanager
def running(*arguments, **named):
    """Yields a Running, and leaves nothing of it."""
    one = Running(*arguments, **named)
    try:
        yield one
    finally:
        one.kill()


@contextlib.contextmanager
def together(
    workdir: pathlib.Path, root: pathlib.Path, *options: str, count: int = 2, **environment: str
):
    """Yields the processes of one run."""
    given = {"JAX_COORDINATOR_ADDRESS": free_address(), "JAX_NUM_PROCESSES": str(count)}
    given |= environment
    with contextlib.ExitStack() as stack:
        yield [
            stack.enter_context(running(workdir, root, *options, JAX_PROCESS_ID=str(i), **given))
            for i in range(count)
        ]
