"""A run: from a config to a trained model, with everything written into its workdir.

    workdir/config.json, label_map.txt        what it is; evaluation and prediction read them
    workdir/checkpoints/STEP/                 Orbax: the newest ones and the best
    workdir/metrics.jsonl, results.jsonl      a line a logged step, a line an evaluation
    workdir/evaluation/STEP-SPLIT/            tables, confusion matrix, scores of every video
    workdir/bad_videos.jsonl                  what could not be read
    workdir/time.jsonl, profile/              where the time went; traces of steps
    workdir/curves.png                        loss, learning rate and results by step

A run that is started again in its workdir goes on from its newest checkpoint, and everything that
follows is what it would have been without the stop, bit for bit.
"""

import concurrent.futures
import contextlib
import dataclasses
import functools
import logging
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from vivit_jax import agreement, checks, config, processes, report, sharding
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.clock import TIME, Clock, add_up, table
from vivit_jax.data.augment import AugmentFn, make_augment
from vivit_jax.data.catalog import settle
from vivit_jax.data.labels import keep_label_maps
from vivit_jax.data.pipeline import train_batches
from vivit_jax.errors import InputError
from vivit_jax.feed import Feed, feed
from vivit_jax.metrics import METRICS, RESULTS, Writer, read_lines
from vivit_jax.optim import make_average
from vivit_jax.profiler import FOLDER, Profiler
from vivit_jax.run import Run, batch_shapes, check_processes, prepare
from vivit_jax.step_log import StepLog
from vivit_jax.train_step import StepInfo, TrainState, train_step

log = logging.getLogger(__name__)
Results = dict[str, float]
T = TypeVar("T")


def run(
    experiment: config.Experiment, workdir: pathlib.Path, clock: Clock | None = None
) -> Results:
    """Trains, or with train.steps = 0 only evaluates; returns the last evaluation's results.

    Args:
      experiment: what to do.
      workdir: made where it is missing; a run in it goes on.
      clock: of the session, which otherwise begins here.

    Raises:
      InputError: something that the user gave cannot be used.
    """
    clock, workdir = clock or Clock(), workdir.resolve()
    experiment = dataclasses.replace(experiment, data=settle(experiment.data))
    checks.check_workdir(experiment, workdir)
    prepared = prepare(experiment, workdir)
    check_processes(prepared)
    if experiment.train.steps == 0:
        with Checkpoints(workdir, read_only=True) as checkpoints:
            results = evaluate_only(prepared, checkpoints)
    else:
        if jax.process_index() == 0:
            keep_label_maps(workdir, prepared.sources.label_maps)
        with Checkpoints(workdir, experiment.train.keep, prepared.best) as checkpoints:
            results = train(prepared, checkpoints, experiment, clock)
    processes.barrier("end")  # the first still wrote
    return results


def evaluate_only(run: Run, checkpoints: Checkpoints) -> Results:
    """Judges the newest checkpoint, or where there is none yet what config.init_from gives."""
    if not run.evaluators:
        raise InputError(
            "config.train.steps = 0 only evaluates, and config.train.evaluate is off, or no videos "
            "are held out."
        )
    step = checkpoints.latest()
    if step is None and not run.experiment.init_from:
        raise InputError(
            f"{checkpoints.folder} has no checkpoint to evaluate; train first, or set "
            "config.init_from to the run that has."
        )
    agreement.agree("the checkpoint", {"step": step})
    name = run.experiment.optim.weights
    if step is None:
        params = getattr(run.init(), name)
    else:
        params = checkpoints.restore(step, {name: getattr(run.state, name)})[name]
    processes.barrier("restored")
    if jax.process_index() == 0:
        keep_label_maps(run.workdir, run.sources.label_maps)
    with Writer(run.workdir, active=jax.process_index() == 0) as writer:
        return evaluate(run, params, step or 0, writer)


def train(run: Run, checkpoints: Checkpoints, given: config.Experiment, clock: Clock) -> Results:
    """Trains from the newest checkpoint, or from the start; returns the last results.

    Args:
      run: what to do.
      checkpoints: of its workdir.
      given: the config as it was given, which is written down.
      clock: of the session.
    """
    newest = checkpoints.latest()
    if newest == 0:
        raise InputError(
            f"{checkpoints.folder} holds imported weights alone, which no run can go on from; "
            f"train in another --workdir, with --config.init_from={run.workdir}."
        )
    start = newest or 0
    if start > run.steps:
        raise InputError(f"{checkpoints.folder} is at step {start}; the run ends at {run.steps}.")
    agreement.agree("the checkpoint", {"step": start})
    first_process, more = jax.process_index() == 0, start < run.steps
    kept = clock.kept(run.workdir, start, active=first_process)
    with kept if more else contextlib.nullcontext():
        with clock.phase("restore" if start else "init"):
            state = checkpoints.restore(start, run.state) if start else run.init()
            processes.barrier("restored")
        if first_process:
            with report.replacing(run.workdir / "config.json") as new:
                new.write_text(config.to_json(given), encoding="utf-8")
        with Writer(run.workdir, start, active=first_process) as writer:
            if more:
                log.info("Training from step %d to %d.", start, run.steps)
                # What reads videos takes as long to come up as the step to be compiled.
                with (
                    beside(lambda: compile_step(run, run.state, batch_shapes(run))) as step_fn,
                    batches_from(run, start) as batches,
                ):
                    results = loop(run, state, batches, step_fn, checkpoints, writer, clock)
                with clock.phase("save"):
                    checkpoints.wait()
            else:
                results = results_at_the_end(run, state, start, writer)
        if first_process:
            records = [r for name in (METRICS, RESULTS) for r in read_lines(run.workdir / name)]
            report.write_curves(run.workdir, records)
    times = read_lines(run.workdir / TIME) if first_process else []
    if times:
        log.info("%s", table(add_up(times)))
    return results


def results_at_the_end(run: Run, state: TrainState, step: int, writer: Writer) -> Results:
    """Returns the results of a run that is at its last step, judged where they are missing."""
    log.info("The run is at its last step, %d.", step)
    done = [r for r in read_lines(run.workdir / RESULTS) if r["step"] == step]
    if done or not run.evaluators:
        return done[-1] if done else {}
    return evaluate(run, judged_params(run, state), step, writer)


@contextlib.contextmanager
def batches_from(run: Run, start: int) -> Iterator[Feed]:
    """Yields the training batches of the steps from `start` on; tells at the end what was bad."""
    data = run.experiment.data
    rows, counted = sharding.rows_of(run.mesh, data.batch_size, data.repeats)
    with train_batches(
        run.sources.train,
        data,
        seed=run.experiment.seed,
        num_outputs=len(run.sources.label_map),
        start_step=start,
        rows=rows,
        counted=counted,
        process_index=jax.process_index(),
        workdir=run.workdir,
    ) as batches:
        with feed(batches, run.mesh, batches.reading) as ahead:
            yield ahead
        if batches.bad.counts:
            causes = ", ".join(f"{n} {cause}" for cause, n in batches.bad.counts.most_common())
            log.warning("Videos that could not be read: %s; see bad_videos.jsonl.", causes)


def loop(
    run: Run,
    state: TrainState,
    batches: Feed,
    compiled: Callable[[], jax.stages.Compiled],
    checkpoints: Checkpoints,
    writer: Writer,
    clock: Clock,
) -> Results:
    """Takes the steps from a state's to the last; returns the last results."""
    options = run.experiment.train
    results: Results = {}
    with clock.phase("compile"):
        step_fn = compiled()
    with clock.phase("data_wait"):
        batch = batches.next(busy_with=())
    start = int(state.step)
    lines = StepLog(run, writer, start, int(state.skipped), clock, batches.reading)
    info: Any = ()
    clock.turn_to("step")
    with Profiler(run.workdir / FOLDER, run.traced, clock) as profiler:
        for step in range(start + 1, run.steps + 1):
            clock.step = step
            with profiler.before(step, busy_with=info):
                state, info = step_fn(state, batch)
            last = step == run.steps
            if not last:
                waited = batches.waited
                batch = batches.next(busy_with=info)
                clock.move(batches.waited - waited, "data_wait")
            lines.add(step, info)
            profiler.after(step, busy_with=info)
            every = options.evaluate_every
            judge = bool(run.evaluators) and (last or (every > 0 and step % every == 0))
            if judge or last or step % options.checkpoint_every == 0:
                jax.block_until_ready(info)  # what the step still computes is no part of a save
                if judge:
                    with clock.phase("evaluation"):
                        results = evaluate(run, judged_params(run, state), step, writer)
                with clock.phase("save"):
                    checkpoints.save(step, state, results if judge else None)
    clock.turn_to("end")
    return results


@contextlib.contextmanager
def beside(call: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """Yields what waits for the result of a call, which a thread of its own has begun.

    The thread is waited for, unless the user stops the run.
    """
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name="beside", daemon=True).start()
    try:
        yield future.result
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
    )


def judged_params(run: Run, state: TrainState) -> Any:
    """Returns the parameters that are judged."""
    return getattr(state, run.experiment.optim.weights)


def evaluate(run: Run, params: Any, step: int, writer: Writer) -> Results:
    """Judges parameters, and writes the results down."""
    options = run.experiment.eval
    record: dict[str, Any] = {"step": step, "split": options.split}
    folder = run.workdir / "evaluation" / f"{step:08d}-{options.split}"
    results: Results = {}
    for evaluator in run.evaluators:
        record |= evaluator.about
        results |= evaluator.run(params, folder, run.workdir)
        writer.write_pictures(step, options.split, evaluator.pictures)
    writer.write(RESULTS, {**record, **results})
    shown = "  ".join(f"{name} {value:.4g}" for name, value in results.items())
    log.info("Evaluation at step %d on %s: %s (%s)", step, options.split, shown, folder)
    return results
