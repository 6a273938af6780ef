"""A training step of a config, part by part, beside other programs' steps of the same model.

The step is the one that training compiles, on this machine's devices, with clips that lie there
already. Its parts are the same program with less asked of it, and the compiler leaves out what
nothing asks for: "forward" asks for the loss, "gradient" for the gradient's norm too; both see
clips that are only normalised. "step" is all of it, with augmentation, optimiser, average of
weights and the guard against NaN.
"""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import numpy as np

from vivit_jax import checks, config, run, sharding
from vivit_jax.benchmarks.rounds import Row, done
from vivit_jax.compiling import compile_step, step_function
from vivit_jax.data.augment import make_augment
from vivit_jax.planning.videos import counted
from vivit_jax.run import Run

PLAIN = {"flip": 0.0, "randaugment_layers": 0, "colour_jitter": 0.0, "grey": 0.0, "erase": 0.0}
STEP = "step"


def prepare(experiment: config.Experiment, classes: tuple[int, ...], clips: int) -> Run:
    """Returns a run on this machine's devices, of clips that nobody reads.

    Args:
      experiment: the config.
      classes: of each head.
      clips: of a batch; 0 for the config's own.

    Raises:
      InputError: as training would, before it compiles.
    """
    data, quiet = experiment.data, dataclasses.replace(experiment.train, evaluate=False)
    data = dataclasses.replace(data, batch_size=clips or data.batch_size * data.repeats, repeats=1)
    experiment = dataclasses.replace(experiment, data=data, train=quiet, init_from="")
    mesh = sharding.make_mesh(experiment.mesh)
    checks.check_experiment(experiment, mesh)
    sources = counted(data.batch_size, classes if data.labels != "none" else (0,))
    return run.assemble(experiment, pathlib.Path(), sources, mesh)


def title(prepared: Run) -> str:
    """Returns what a table of the run is called: its model, clips, products and devices."""
    experiment, objective = prepared.experiment, prepared.objective
    data, encoder = experiment.data, objective.encoder  # type: ignore[attr-defined]
    costs = objective.costs(data.frames, data.image_size)  # type: ignore[attr-defined]
    return (
        f"{experiment.objective['name']}, {encoder.attention}, width {encoder.dims.width}, "
        f"{encoder.dims.depth} blocks: {data.batch_size} clips of {data.frames}x{data.image_size}x"
        f"{data.image_size}, {encoder.dtype}, {costs.forward / 1e9:.4g} G multiply-accumulates "
        f"a clip forward, on {prepared.mesh.size} x {jax.devices()[0].device_kind}"
    )


def batch_of(prepared: Run) -> dict[str, jax.Array]:
    """Returns a batch of noise on the devices."""
    rng = np.random.default_rng(0)

    def made(name: str, shape: jax.ShapeDtypeStruct) -> np.ndarray:
        if name == "video":
            return rng.integers(0, 256, shape.shape, np.uint8)
        if name == "position":
            return np.arange(*shape.shape, dtype=shape.dtype)
        return (np.ones if name == "valid" else np.zeros)(shape.shape, shape.dtype)

    shapes = run.batch_shapes(prepared)
    return {name: jax.device_put(made(name, x), x.sharding) for name, x in shapes.items()}


def rows(prepared: Run, parts: bool = True) -> list[Row]:
    """Returns the step as a row, and before it its parts.

    Args:
      prepared: see `prepare`.
      parts: False for the step alone.
    """
    experiment, objective = prepared.experiment, prepared.objective
    data, encoder = experiment.data, objective.encoder  # type: ignore[attr-defined]
    costs = objective.costs(  # type: ignore[attr-defined]
        data.frames, data.image_size, run.learnt_paths(prepared.state, prepared.frozen)
    )
    batch, state = batch_of(prepared), prepared.init()
    held = [state]  # the latest, since the step takes the memory of the one that it is given
    augment, plain = (
        make_augment(given, encoder.mean, encoder.std)
        for given in (experiment.augment, dataclasses.replace(experiment.augment, **PLAIN))
    )
    step = step_function(prepared, plain)

    def row(name: str, function: Callable, macs: float, inputs: Callable[[], tuple]) -> Row:
        with jax.set_mesh(prepared.mesh):
            compiled = jax.jit(function).lower(*inputs()).compile()
        return Row(
            name,
            lambda: done(compiled(*inputs())),
            work=data.batch_size,
            needs=macs * data.batch_size,
            about={"temporary_bytes": temporary(compiled)},
        )

    found = []
    if parts:
        pixels = batch["video"], jax.random.split(jax.random.key(0), data.batch_size)

        def latest() -> tuple:
            return held[0], batch

        found = [
            row("augmentation", augment, 0, lambda: pixels),
            row("forward", lambda *x: step(*x)[1].metrics["loss"], costs.forward, latest),
            row("gradient", lambda *x: step(*x)[1].metrics, costs.step, latest),
        ]
    compiled = compile_step(prepared, state, batch)

    def whole() -> None:
        held[0], info = compiled(held[0], batch)
        jax.block_until_ready(info)

    about = {"temporary_bytes": temporary(compiled)}
    work = data.batch_size
    return [*found, Row(STEP, whole, work, costs.step * work, about)]


def temporary(compiled: jax.stages.Compiled) -> int | None:
    """Returns the bytes that a program needs while it runs; None where that is not told."""
    memory = compiled.memory_analysis()
    return None if memory is None else memory.temp_size_in_bytes
