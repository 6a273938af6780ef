"""The train step of a run as a compiled program, made while other things come up."""

import concurrent.futures
import contextlib
import functools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from vivit_jax import sharding
from vivit_jax.data.augment import AugmentFn, make_augment
from vivit_jax.optim import make_average
from vivit_jax.run import Run
from vivit_jax.stopping import STOP
from vivit_jax.train_step import StepInfo, TrainState, train_step

log = logging.getLogger(__name__)
T = TypeVar("T")
_LOOK = 0.2  # seconds between looks at whether to stop


@contextlib.contextmanager
def beside(call: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Yields what waits for the result of a call, which a thread of its own has begun.

    The thread is waited for, unless the run is stopped.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    def result() -> T:
        while not concurrent.futures.wait([future], _LOOK).done:
            STOP.check()
        return future.result()

    threading.Thread(target=run, name="beside", daemon=True).start()
    try:
        yield result
    except Exception:
        future.exception()  # threads that compile do not survive the end of the interpreter
        raise


def compile_step(run: Run, state: TrainState, batch: Any) -> jax.stages.Compiled:
    """Returns the compiled train step, which takes the state's memory for the next.

    Args:
      run: what to do.
      state: one that it will be given; or shapes, which know where they lie.
      batch: likewise.
    """
    begun = time.perf_counter()
    places = jax.tree.map(lambda x: x.sharding, run.state)
    outputs = (places, sharding.replicated(run.mesh))
    step = jax.jit(step_function(run), donate_argnums=0, out_shardings=outputs)
    with jax.set_mesh(run.mesh):
        compiled = step.lower(state, batch).compile(compiler_options())
    seconds, memory = time.perf_counter() - begun, compiled.memory_analysis()
    log.info("Compiled the train step in %.1f s.", seconds)
    if memory is not None:  # not every backend tells
        held, used = memory.argument_size_in_bytes, memory.temp_size_in_bytes
        log.info(
            "Memory of a device: %.3g GB of state and batch, and %.3g GB while a step runs.",
            *(held / 1e9, used / 1e9),
        )
    return compiled


def compiler_options() -> dict[str, bool | str]:
    """Returns what XLA is asked for beyond its defaults.

    Without it, a CPU's program copies the optimiser's state at every step before it is updated.
    """
    cpu = jax.default_backend() == "cpu"
    return {"xla_cpu_copy_insertion_use_region_analysis": True} if cpu else {}


def step_function(
    run: Run, augment: AugmentFn | None = None
) -> Callable[[TrainState, Any], tuple[TrainState, StepInfo]]:
    """Returns the train step of a run, before it is compiled.

    Args:
      run: whose.
      augment: what is done to clips; None for what the config says.
    """
    experiment = run.experiment
    encoder = run.objective.encoder  # type: ignore[attr-defined]
    return functools.partial(
        train_step,
        objective=run.objective,
        optimizer=run.optimizer,
        augment=augment or make_augment(experiment.augment, encoder.mean, encoder.std),
        seed=experiment.seed,
        accumulate=experiment.optim.accumulate,
        clip_parts=experiment.optim.clip if experiment.optim.clip_per == "part" else 0.0,
        average=make_average(experiment.optim, run.steps),
        frozen=run.frozen,
        spike=experiment.optim.spike,
    )
