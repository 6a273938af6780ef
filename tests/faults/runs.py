"""Tiny runs as a user starts them: real processes, real videos; and what they leave behind."""

import contextlib
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import jax
import orbax.checkpoint as ocp
from tiny import noise_video, written

from vivit_jax import metrics

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = pathlib.Path(__file__).parent / "tiny_run.py"
RECORD = ROOT / "tests/launch/record.py"  # vivit_jax.main, with the examples of every step
ENVIRONMENT = {
    "JAX_PLATFORMS": "cpu",
    "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache/jax"),
    "PYTHONPATH": str(ROOT),
}
PATIENCE = 300.0  # seconds for whatever a test waits for


def videos(folder: pathlib.Path, train: int = 12, held_out: int = 4) -> pathlib.Path:
    """Returns a folder of two classes of noise, with a part that is held out."""
    for part, count in (("train", train), ("val", held_out)):
        for i in range(count):
            noise_video(folder / part / ("a", "b")[i % 2] / f"{part}_{i}.mp4", i)
    return folder


def command(
    workdir: pathlib.Path,
    root: pathlib.Path,
    *options: str,
    program: Sequence[str] = ("-m", "vivit_jax.main"),
) -> list[str]:
    """Returns the command of a run."""
    given = (f"--workdir={workdir}", f"--config={CONFIG}", f"--config.data.root={root}")
    return [sys.executable, *program, *given, *options]


def free_address() -> str:
    """Returns where processes can meet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def start(
    workdir: pathlib.Path,
    root: pathlib.Path,
    *options: str,
    program: Sequence[str] = ("-m", "vivit_jax.main"),
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Returns a run that has begun, in a process group of its own."""
    return subprocess.Popen(
        command(workdir, root, *options, program=program),
        env={**os.environ, **ENVIRONMENT, **(environment or {})},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def together(
    workdir: pathlib.Path,
    root: pathlib.Path,
    count: int,
    *options: str,
    program: Sequence[str] = ("-m", "vivit_jax.main"),
    environment: Mapping[str, str] | None = None,
) -> list[subprocess.Popen[str]]:
    """Returns the processes of one run, a device each."""
    given = {"JAX_COORDINATOR_ADDRESS": free_address(), "JAX_NUM_PROCESSES": str(count)}
    return [
        start(
            workdir,
            root,
            *options,
            program=program,
            environment={**(environment or {}), **given, "JAX_PROCESS_ID": str(index)},
        )
        for index in range(count)
    ]


def finish(*processes: subprocess.Popen[str], code: int = 0) -> str:
    """Returns what runs said, the first's before the second's; they end by this code."""
    said = [process.communicate(timeout=PATIENCE)[1] for process in processes]
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == code, f"exit code {process.returncode}:\n{text[-3000:]}"
    return "\n".join(said)


def kill(process: subprocess.Popen[str]) -> None:
    """Kills a run and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def until(happened: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Returns when something has happened, while a process runs."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, process.communicate()[1][-3000:]
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def steps_done(workdir: pathlib.Path) -> int:
    """Returns the last step that a run has logged."""
    lines = metrics.read_lines(workdir / metrics.METRICS)
    return lines[-1]["step"] if lines else 0


def curve(workdir: pathlib.Path) -> list[dict]:
    """Returns all that was logged of steps and evaluations, without times."""
    return written(workdir, metrics.METRICS, metrics.RESULTS)


def saved(workdir: pathlib.Path, step: int):
    """Returns the state of a checkpoint, read by Orbax alone."""
    with ocp.PyTreeCheckpointer() as checkpointer:
        return jax.device_get(checkpointer.restore(workdir / "checkpoints" / str(step) / "default"))


def seen(folder: pathlib.Path) -> dict[int, list[str]]:
    """Returns the ids that each step has seen, as record.py wrote them; the last of each step."""
    lines = [
        json.loads(line)
        for file in sorted(folder.glob("*.jsonl"))
        for line in file.read_text().splitlines()
    ]
    return dict(lines)
