"""A run: from a config to a trained model, with everything written into its workdir.

    workdir/config.json, label_map.txt        what it is; evaluation and prediction read them
    workdir/checkpoints/STEP/                 Orbax: the newest ones and the best
    workdir/metrics.jsonl, results.jsonl      a line a logged step, a line an evaluation
    workdir/evaluation/STEP-SPLIT/            tables, confusion matrix, scores of every video
    workdir/bad_videos.jsonl                  what could not be read
    workdir/skipped_updates.jsonl             what was left out of the training, and why
    workdir/rollbacks.jsonl                   when it went back; see sanity.py
    workdir/time.jsonl, profile/              where the time went; traces of steps
    workdir/stacks/                           what a run that was stuck was at
    workdir/curves.png                        loss, learning rate and results by step

A run that is started again in its workdir goes on from its newest checkpoint, and everything that
follows is what it would have been without the stop, bit for bit.
"""

import contextlib
import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Iterator

import jax

from vivit_jax import (
    agreement,
    checks,
    config,
    drawing,
    files,
    memory,
    processes,
    resume,
    sanity,
    sharding,
)
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.clock import TIME, Clock, add_up, table
from vivit_jax.compiling import beside, compile_step
from vivit_jax.data.catalog import settle
from vivit_jax.data.labels import keep_label_maps
from vivit_jax.data.order import Orders
from vivit_jax.data.pipeline import train_batches
from vivit_jax.errors import InputError
from vivit_jax.feed import Feed, feed
from vivit_jax.judging import Results, evaluate, judge_at, judged_params, results_at_the_end
from vivit_jax.loop import loop
from vivit_jax.metrics import METRICS, RESULTS, Writer, held_out, losing, read_lines
from vivit_jax.run import Run, batch_shapes, check_processes, prepare
from vivit_jax.watchdog import Watchdog
from vivit_jax.workdir_lock import check_writable, locked

log = logging.getLogger(__name__)


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
    learning = experiment.train.steps != 0
    if not learning and jax.process_index() == 0:
        check_writable(workdir)
    with locked(workdir) if learning else contextlib.nullcontext() as check_lock:
        prepared = prepare(experiment, workdir)
        check_processes(prepared)
        with Watchdog(clock, experiment.train.patience, workdir), memory.explained(prepared):
            if check_lock is None:
                with Checkpoints(workdir, read_only=True) as checkpoints:
                    results = evaluate_only(prepared, checkpoints, experiment, clock)
            else:
                if jax.process_index() == 0:
                    keep_label_maps(workdir, prepared.sources.label_maps)
                with Checkpoints(
                    workdir,
                    experiment.train.keep,
                    prepared.best,
                    about=resume.about(prepared),
                    check_lock=check_lock,
                ) as checkpoints:
                    results = train(prepared, checkpoints, experiment, clock)
            clock.turn_to("end")
            processes.barrier("end")  # the first still wrote
    return results


def evaluate_only(
    run: Run, checkpoints: Checkpoints, given: config.Experiment, clock: Clock
) -> Results:
    """Judges the newest checkpoint, or where there is none yet what config.init_from gives.

    Args:
      run: what to do.
      checkpoints: of its workdir.
      given: the config as it was given, which is written down where there is none.
      clock: of the session.
    """
    if not run.evaluators:
        raise InputError(
            "config.train.steps = 0 only evaluates, and config.train.evaluate is off, or no videos "
            "are held out."
        )
    step = checkpoints.find(None) if checkpoints.steps() else None
    if step is None and not run.experiment.init_from:
        raise InputError(
            f"{checkpoints.folder} has no checkpoint to evaluate; train first, or set "
            "config.init_from to the run that has."
        )
    agreement.agree("the checkpoint", {"step": step})
    clock.turn_to("restore")
    name = run.experiment.optim.weights
    if step is None:
        params = getattr(run.init(), name)
    else:
        params = checkpoints.restore(step, {name: getattr(run.state, name)})[name]
    processes.barrier("restored")
    if jax.process_index() == 0:
        keep_label_maps(run.workdir, run.sources.label_maps)
        if not (run.workdir / "config.json").exists():  # of the training
            write_config(run.workdir, given)
    clock.turn_to("evaluation")
    with Writer(run.workdir, active=jax.process_index() == 0) as writer:
        return evaluate(run, params, step or 0, writer)


def write_config(workdir: pathlib.Path, given: config.Experiment) -> None:
    """Writes config.json, which says what a run is."""
    with files.replacing(workdir / "config.json") as new:
        new.write_text(config.to_json(given), encoding="utf-8")


def train(run: Run, checkpoints: Checkpoints, given: config.Experiment, clock: Clock) -> Results:
    """Trains to the last step, however often it must go back; returns the last results.

    Args:
      run: what to do.
      checkpoints: of its workdir.
      given: the config as it was given, which is written down.
      clock: of the session.
    """
    rollbacks = sanity.Rollbacks(run.workdir, run.experiment.train.max_rollbacks)
    with contextlib.ExitStack() as stack:

        @functools.cache
        def step_fn() -> Callable[[], jax.stages.Compiled]:
            """Begins to compile the step, once; what reads videos takes as long to come up."""
            compile_ = functools.partial(compile_step, run, run.state, batch_shapes(run))
            return stack.enter_context(beside(compile_))

        while True:
            try:
                return train_on(run, checkpoints, given, clock, rollbacks, step_fn)
            except sanity.GoBack as bad:
                rollbacks.go_back(bad, checkpoints)
                clock.begin_again()


def train_on(
    run: Run,
    checkpoints: Checkpoints,
    given: config.Experiment,
    clock: Clock,
    rollbacks: sanity.Rollbacks,
    step_fn: Callable[[], Callable[[], jax.stages.Compiled]],
) -> Results:
    """Trains from the newest checkpoint, or from the start; returns the last results.

    Args:
      run: what to do.
      checkpoints: of its workdir.
      given: the config as it was given, which is written down.
      clock: of the session.
      rollbacks: those before.
      step_fn: begins to compile the step, and returns what waits for it.

    Raises:
      GoBack: the numbers went bad.
    """
    newest = checkpoints.latest()
    if newest == 0:
        raise InputError(
            f"{checkpoints.folder} holds imported weights alone, which no run can go on from; "
            f"train in another --workdir, with --config.init_from={run.workdir}."
        )
    if (newest or 0) > run.steps:
        raise InputError(f"{checkpoints.folder} is at step {newest}; the run ends at {run.steps}.")
    start, state = resume.first_state(run, checkpoints, clock, rollbacks)
    judged = any(record["step"] == start for record in read_lines(run.workdir / RESULTS))
    unjudged = start > 0 and not judged and judge_at(run, start)  # a stop in the middle of it
    first_process, more = jax.process_index() == 0, start < run.steps
    kept = clock.kept(run.workdir, start, active=first_process)
    with kept if more else contextlib.nullcontext():
        if first_process:
            write_config(run.workdir, given)
        with Writer(run.workdir, start, active=first_process) as writer:
            if more:
                log.info("Training from step %d to %d.", start, run.steps)
                if unjudged:
                    with clock.phase("evaluation"):
                        evaluate(run, judged_params(run, state), start, writer)
                compiled = step_fn()
                with batches_from(run, start, rollbacks.orders) as batches:
                    results = loop(run, state, batches, compiled, checkpoints, writer, clock)
                with clock.phase("save"):
                    checkpoints.wait()
            else:
                results = results_at_the_end(run, state, start, writer)
        if first_process:
            records = read_lines(run.workdir / METRICS)
            records += held_out(read_lines(run.workdir / RESULTS))
            with losing("curves.png"):
                drawing.write_curves(run.workdir, records)
    times = read_lines(run.workdir / TIME) if first_process else []
    if times:
        log.info("%s", table(add_up(times)))
    return results


@contextlib.contextmanager
def batches_from(run: Run, start: int, orders: Orders) -> Iterator[Feed]:
    """Yields the training batches of the steps from `start` on; tells at the end what was bad."""
    data = run.experiment.data
    rows, counted = sharding.rows_of(run.mesh, data.batch_size, data.repeats)
    with train_batches(
        run.sources.train,
        data,
        seed=run.experiment.seed,
        num_outputs=len(run.sources.label_map),
        start_step=start,
        orders=orders,
        rows=rows,
        counted=counted,
        process_index=jax.process_index(),
        workdir=run.workdir,
    ) as batches:
        with feed(batches, run.mesh, batches.reading, batches.close) as ahead:
            yield ahead
        if batches.bad.counts:
            causes = ", ".join(f"{n} {cause}" for cause, n in batches.bad.counts.most_common())
            log.warning("Videos that could not be read: %s; see bad_videos.jsonl.", causes)
