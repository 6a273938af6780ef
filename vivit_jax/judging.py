"""The evaluations of a run: after which steps, of which weights, and where it is written down."""

import logging
from typing import Any

from vivit_jax.metrics import RESULTS, Writer, read_lines
from vivit_jax.run import Run
from vivit_jax.train_step import TrainState

log = logging.getLogger(__name__)
Results = dict[str, float]


def judge_at(run: Run, step: int) -> bool:
    """Returns whether a step before the last is one to be judged after."""
    every = run.experiment.train.evaluate_every
    return bool(run.evaluators) and every > 0 and step % every == 0


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


def results_at_the_end(run: Run, state: TrainState, step: int, writer: Writer) -> Results:
    """Returns the results of a run that is at its last step, judged where they are missing."""
    log.info("The run is at its last step, %d.", step)
    done = [r for r in read_lines(run.workdir / RESULTS) if r["step"] == step]
    if done or not run.evaluators:
        return done[-1] if done else {}
    return evaluate(run, judged_params(run, state), step, writer)
