"""Seconds from the command to the end of the first step: of a run, and of JAX alone.

Each call is a process of its own. A cold one has a fresh workdir, where nothing is compiled yet; a
warm one starts in the workdir of one that was stopped before its first checkpoint. "JAX alone" is
a program that imports JAX and runs the same step on zeros, exported to a file beforehand: it knows
no config, no videos and no TensorFlow.
"""

import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import jax
import jax.export

from vivit_jax.benchmarks.rounds import Row
from vivit_jax.compiling import step_function
from vivit_jax.errors import InputError
from vivit_jax.metrics import METRICS
from vivit_jax.run import Run, batch_shapes

ALONE = "JAX alone, warm"
_PATIENCE = 1800.0  # seconds for a first step
_LOOK_EVERY = 0.005  # seconds
_ALONE = """
import sys
import jax
jax.config.update("jax_compilation_cache_dir", sys.argv[2])
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
import jax.export
import jax.numpy as jnp
with open(sys.argv[1], "rb") as file:
    step = jax.export.deserialize(bytearray(file.read()))
given = [jnp.zeros(x.shape, x.dtype) for x in step.in_avals]
jax.block_until_ready(jax.jit(step.call)(*given))
"""
Timed = Callable[[pathlib.Path], float]  # in a folder, which holds what earlier calls compiled


def rows(prepared: Run, arguments: Sequence[str], folder: pathlib.Path) -> list[Row]:
    """Returns the run and JAX alone, cold and warm.

    Args:
      prepared: the run, whose step JAX alone is given.
      arguments: of the command: --config and overrides.
      folder: for workdirs; empty.
    """
    exported = folder / "step"
    exported.write_bytes(export(prepared))

    def of_run(workdir: pathlib.Path) -> float:
        (workdir / METRICS).unlink(missing_ok=True)
        own = (f"--workdir={workdir}", "--config.train.log_every=1")
        return first_step([*arguments, *own], workdir)

    def of_jax(cache: pathlib.Path) -> float:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", _ALONE, str(exported), str(cache)], check=True)
        return time.perf_counter() - start

    def cold(timed: Timed) -> float:
        with tempfile.TemporaryDirectory(dir=folder) as fresh:
            return timed(pathlib.Path(fresh))

    def pair(name: str, timed: Timed) -> list[Row]:
        used = folder / name
        used.mkdir()
        return [
            Row(f"{name}, cold", lambda: cold(timed)),
            Row(f"{name}, warm", lambda: timed(used)),
        ]

    return [*pair("JAX alone", of_jax), *pair("vivit_jax", of_run)]


def export(prepared: Run) -> bytes:
    """Returns the training step as a program of arrays, without their places."""

    def bare(shape: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, shape.dtype)

    inputs = jax.tree.map(bare, (prepared.state, batch_shapes(prepared)))
    leaves, form = jax.tree.flatten(inputs)
    step = step_function(prepared)

    def flat(*leaves: jax.Array) -> list[jax.Array]:
        return jax.tree.leaves(step(*jax.tree.unflatten(form, leaves)))

    return bytes(jax.export.export(jax.jit(flat))(*leaves).serialize())


def first_step(arguments: Sequence[str], workdir: pathlib.Path) -> float:
    """Returns the seconds until a run has taken its first step, which is its last.

    Raises:
      InputError: it ended before, or took too long; tells its last words.
    """
    start = time.perf_counter()
    command = [sys.executable, "-m", "vivit_jax.main", *arguments]
    with (workdir / "log.txt").open("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while not (workdir / METRICS).exists() or not (workdir / METRICS).stat().st_size:
                if process.poll() is not None or time.perf_counter() - start > _PATIENCE:
                    log.seek(0)
                    raise InputError(f"No first step of {' '.join(command)}:\n{log.read()[-2000:]}")
                time.sleep(_LOOK_EVERY)
            return time.perf_counter() - start
        finally:
            process.kill()
            process.wait()
