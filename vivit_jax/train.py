"""A run: from a config to a trained model, with everything written into its workdir.

    workdir/config.json, label_map.txt        what it is; evaluation and prediction read them
    workdir/checkpoints/STEP/                 Orbax: the newest ones and the best
    workdir/metrics.jsonl, results.jsonl      a line a logged step, a line an evaluation
    workdir/evaluation/STEP-SPLIT/            tables, confusion matrix, scores of every video
    workdir/bad_videos.jsonl                  what could not be read
    workdir/curves.png                        loss, learning rate and results by step

A run that is started again in its workdir goes on from its newest checkpoint, and everything that
follows is what it would have been without the stop, bit for bit.
"""

import contextlib
import functools
import logging
import pathlib
import time
from collections.abc import Iterator
from typing import Any

import jax

from vivit_jax import config, report, sharding
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.data.augment import make_augment
from vivit_jax.data.labels import keep_label_maps
from vivit_jax.data.pipeline import train_batches
from vivit_jax.errors import InputError
from vivit_jax.feed import Feed, feed
from vivit_jax.metrics import METRICS, RESULTS, SKIPPED, Writer, duration, read_lines
from vivit_jax.optim import make_average
from vivit_jax.run import Run, check_workdir, prepare
from vivit_jax.train_step import StepInfo, TrainState, train_step

log = logging.getLogger(__name__)
Results = dict[str, float]


def run(experiment: config.Experiment, workdir: pathlib.Path) -> Results:
    """Trains, or with train.steps = 0 only evaluates; returns the last evaluation's results.

    Args:
      experiment: what to do.
      workdir: made where it is missing; a run in it goes on.

    Raises:
      InputError: something that the user gave cannot be used.
    """
    workdir = workdir.resolve()
    check_workdir(experiment, workdir)
    prepared = prepare(experiment, workdir)
    if experiment.train.steps == 0:
        with Checkpoints(workdir, read_only=True) as checkpoints:
            return evaluate_only(prepared, checkpoints)
    if jax.process_index() == 0:
        keep_label_maps(workdir, prepared.sources.label_maps)
    with Checkpoints(workdir, experiment.train.keep, prepared.best) as checkpoints:
        return train(prepared, checkpoints, experiment)


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
    name = run.experiment.optim.weights
    if step is None:
        params = getattr(run.init(), name)
    else:
        params = checkpoints.restore(step, {name: getattr(run.state, name)})[name]
    keep_label_maps(run.workdir, run.sources.label_maps)
    with Writer(run.workdir, active=jax.process_index() == 0) as writer:
        return evaluate(run, params, step or 0, writer)


def train(run: Run, checkpoints: Checkpoints, given: config.Experiment) -> Results:
    """Trains from the newest checkpoint, or from the start; returns the last results.

    Args:
      run: what to do.
      checkpoints: of its workdir.
      given: the config as it was given, which is written down.
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
    state = checkpoints.restore(start, run.state) if start else run.init()
    first_process = jax.process_index() == 0
    if first_process:
        (run.workdir / "config.json").write_text(config.to_json(given), encoding="utf-8")
    with Writer(run.workdir, start, active=first_process) as writer:
        if start < run.steps:
            log.info("Training from step %d to %d.", start, run.steps)
            with batches_from(run, start) as batches:
                results = loop(run, state, start, batches, checkpoints, writer)
        else:
            log.info("The run is at its last step, %d.", start)
            done = [r for r in read_lines(run.workdir / RESULTS) if r["step"] == start]
            results = done[-1] if done else {}
            if run.evaluators and not results:
                results = evaluate(run, judged_params(run, state), start, writer)
        if first_process:
            records = [r for name in (METRICS, RESULTS) for r in read_lines(run.workdir / name)]
            report.write_curves(run.workdir, records)
    return results


@contextlib.contextmanager
def batches_from(run: Run, start: int) -> Iterator[Feed]:
    """Yields the training batches of the steps from `start` on; tells at the end what was bad."""
    with train_batches(
        run.sources.train,
        run.experiment.data,
        seed=run.experiment.seed,
        num_outputs=len(run.sources.label_map),
        start_step=start,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workdir=run.workdir,
    ) as batches:
        with feed(batches, run.mesh) as ahead:
            yield ahead
        if batches.bad.counts:
            causes = ", ".join(f"{n} {cause}" for cause, n in batches.bad.counts.most_common())
            log.warning("Videos that could not be read: %s; see bad_videos.jsonl.", causes)


def loop(
    run: Run,
    state: TrainState,
    start: int,
    batches: Feed,
    checkpoints: Checkpoints,
    writer: Writer,
) -> Results:
    """Takes the steps from `start` to the last; returns the last results."""
    options = run.experiment.train
    results: Results = {}
    batch = batches.next(busy_with=())
    step_fn = compile_step(run, state, batch)
    lines = StepLog(run, writer, start, int(state.skipped), batches.waited)
    for step in range(start + 1, run.steps + 1):
        state, info = step_fn(state, batch)
        last = step == run.steps
        if not last:
            batch = batches.next(busy_with=info)
        lines.add(step, info, batches.waited)
        every = options.evaluate_every
        judge = bool(run.evaluators) and (last or (every > 0 and step % every == 0))
        if judge:
            results = evaluate(run, judged_params(run, state), step, writer)
        if judge or last or step % options.checkpoint_every == 0:
            checkpoints.save(step, state, results if judge else None)
            lines.restart(step, batches.waited)
    return results


def compile_step(run: Run, state: TrainState, batch: Any) -> jax.stages.Compiled:
    """Returns the compiled train step, which takes the state's memory for the next.

    Args:
      run: what to do.
      state: one that it will be given; or shapes, which know where they lie.
      batch: likewise.
    """
    begun = time.perf_counter()
    experiment = run.experiment
    encoder = run.objective.encoder  # type: ignore[attr-defined]
    step = functools.partial(
        train_step,
        objective=run.objective,
        optimizer=run.optimizer,
        augment=make_augment(experiment.augment, encoder.mean, encoder.std),
        seed=experiment.seed,
        accumulate=experiment.optim.accumulate,
        clip_parts=experiment.optim.clip if experiment.optim.clip_per == "part" else 0.0,
        average=make_average(experiment.optim, run.steps),
        frozen=run.frozen,
    )
    places = jax.tree.map(lambda x: x.sharding, run.state)
    outputs = (places, sharding.replicated(run.mesh))
    with jax.set_mesh(run.mesh):
        lowered = jax.jit(step, donate_argnums=0, out_shardings=outputs).lower(state, batch)
    compiled = lowered.compile()
    seconds, memory = time.perf_counter() - begun, compiled.memory_analysis()
    log.info("Compiled the train step in %.1f s.", seconds)
    if memory is not None:  # not every backend tells
        held, used = memory.argument_size_in_bytes, memory.temp_size_in_bytes
        log.info(
            "Memory of a device: %.3g GB of state and batch, and %.3g GB while a step runs.",
            *(held / 1e9, used / 1e9),
        )
    return compiled


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


class StepLog:
    """Writes a line every few steps, and lets no more than two steps be under way."""

    def __init__(self, run: Run, writer: Writer, start: int, skipped: int, waited: float):
        """Starts the clock at a step, before which some updates were skipped, and some waited."""
        self._run, self._writer = run, writer
        self._skipped = skipped
        self._infos: list[StepInfo] = []
        self.restart(start, waited)

    def restart(self, step: int, waited: float) -> None:
        """Starts the clock again, after something that is not training."""
        self._since, self._since_step, self._waited = time.perf_counter(), step, waited

    def add(self, step: int, info: StepInfo, waited: float) -> None:
        """Takes what is known of a step.

        Args:
          step: its number, from 1.
          info: arrays that may still be computed.
          waited: seconds of waiting for data, in all.
        """
        self._infos.append(info)
        jax.block_until_ready(self._infos[-2:-1])
        if step % self._run.experiment.train.log_every == 0 or step == self._run.steps:
            self._write(step, waited)

    def _write(self, step: int, waited: float) -> None:
        """Writes the line of a step, and the names of the examples of those skipped before it."""
        infos = jax.device_get(self._infos)
        self._infos = []
        seconds = time.perf_counter() - self._since
        steps = step - self._since_step
        before = self._skipped + sum(bool(info.skipped) for info in infos[:-1])
        for number, info in enumerate(infos, step - len(infos) + 1):
            if info.skipped:
                self._name(number, info)
        self._skipped = before + bool(infos[-1].skipped)
        rate = steps / seconds
        data = self._run.experiment.data
        record = {
            "step": step,
            **{name: float(value) for name, value in infos[-1].metrics.items()},
            "learning_rate": float(self._run.schedule(step - 1 - before)),
            "clips_per_second": round(rate * data.batch_size * data.repeats, 3),
            "data_wait": round((waited - self._waited) / seconds, 4),
            "skipped": self._skipped,
        }
        self._writer.write(METRICS, record)
        log.info(
            "step %d/%d  loss %.4f  lr %.3g  %.4g clips/s  waiting for data %.0f %%  ETA %s",
            *(step, self._run.steps, record["loss"], record["learning_rate"]),
            *(record["clips_per_second"], 100 * record["data_wait"]),
            duration((self._run.steps - step) / rate),
        )
        self.restart(step, waited)

    def _name(self, step: int, info: StepInfo) -> None:
        """Tells which examples spoilt a step."""
        guilty = info.index[~info.finite]
        what = "their loss is not finite" if len(guilty) else "the gradient of its batch is not"
        ids = [self._run.sources.train.example(int(i)).id for i in dict.fromkeys(guilty)]
        log.warning("Step %d changed nothing: %s. %s", step, what, ", ".join(ids))
        self._writer.write(SKIPPED, {"step": step, "examples": ids})
