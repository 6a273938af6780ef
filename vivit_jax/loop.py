"""The loop of training: step by step, with what is logged, judged, saved, left out and stopped."""

import contextlib
from collections.abc import Callable
from typing import Any

import jax

from vivit_jax import finite, memory, processes, sanity
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.clock import Clock
from vivit_jax.errors import InputError
from vivit_jax.feed import Feed
from vivit_jax.judging import Results, evaluate, judge_at, judged_params
from vivit_jax.meeting import PATIENCE
from vivit_jax.metrics import SKIPPED, Writer, read_lines
from vivit_jax.profiler import FOLDER, Profiler
from vivit_jax.run import Run
from vivit_jax.step_log import StepLog
from vivit_jax.stopping import STOP, Stopped
from vivit_jax.train_step import TrainState

_COMPILING = 10 * PATIENCE  # seconds for which the others may still compile or read


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
    memory.enough(run, step_fn)
    with clock.phase("data_wait"):
        batch = batches.next(busy_with=(), clock=clock)
    processes.barrier(f"step after point {STOP.passed}", _COMPILING)
    STOP.point()
    start = int(state.step)
    before = [line for line in read_lines(run.workdir / SKIPPED) if line["step"] <= start]
    left_out, saved = sanity.LeftOut(options.max_skipped, start, before), start
    lines = StepLog(run, writer, start, int(state.skipped), clock, batches.reading, left_out)
    info: Any = ()
    clock.turn_to("step")
    with Profiler(run.workdir / FOLDER, run.traced, clock) as profiler:
        for step in range(start + 1, run.steps + 1):
            clock.step = step
            with profiler.before(step, busy_with=info):
                state, info = step_fn(state, batch)
            last = step == run.steps
            if not last:
                with contextlib.suppress(Stopped):  # raised anew where the step is accounted for
                    batch = batches.next(busy_with=info, clock=clock)
            lines.add(step, info)
            checkpoints.poll()
            profiler.after(step, busy_with=info)
            judge = (last and bool(run.evaluators)) or judge_at(run, step)
            try:
                if judge or last or step % options.checkpoint_every == 0:
                    jax.block_until_ready(info)  # what the step still computes is no part of a save
                    lines.look(step)
                    # A copy of what was saved would take the place of an older one, perhaps good.
                    if judge or last or left_out.taken > saved:
                        with sanity.going_back(step, "the state"):
                            if judge:
                                finite.check(judged_params(run, state))
                                results = judged(run, state, step, writer, clock, checkpoints)
                            with clock.phase("save"):
                                checkpoints.save(step, state, results if judge else None)
                        saved = step
                if not last:
                    STOP.point()
            except Stopped as stopped:
                lines.look(step)
                with sanity.going_back(step, "the state"), clock.phase("save"):
                    checkpoints.save(step, state)
                    checkpoints.wait()
                raise Stopped(stopped.number, f" at step {step}") from None
    clock.turn_to("end")
    return results


def judged(
    run: Run,
    state: TrainState,
    step: int,
    writer: Writer,
    clock: Clock,
    checkpoints: Checkpoints,
) -> Results:
    """Returns the results of a state, which is saved all the same where it cannot be judged."""
    try:
        with clock.phase("evaluation"):
            return evaluate(run, judged_params(run, state), step, writer)
    except InputError:  # such as a video that eval.strict wants read
        checkpoints.save(step, state)
        checkpoints.wait()
        raise
