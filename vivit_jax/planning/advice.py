"""What to change where a step does not fit: settings are tried in an order, by compiling them.

The order is that of what they usually cost. Recomputing attention's products (remat=dots) costs
little, and a whole forward pass (full) a third more; running the batch in parts costs no products,
but gradients may be sent once a part; splitting parameters sends them in every step, and is tried
first where the state alone is too large; splitting the tokens sends keys and values in every layer.
"""

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from vivit_jax import config
from vivit_jax.errors import InputError
from vivit_jax.planning.estimate import Plan

log = logging.getLogger(__name__)
KEEPING_LESS = ("none", "dots", "full")  # rows of token_encoder.REMATS
PARTS = (2, 4, 8, 16, 32)
SEQUENCES = (2, 4, 8)


class Change(NamedTuple):
    """Options that differ, as a command line gives them, and the experiment that has them."""

    options: tuple[str, ...]
    experiment: config.Experiment


def candidates(experiment: config.Experiment, before: Plan) -> Iterator[Change]:
    """Yields what could help, in the order in which it is tried.

    Args:
      experiment: what does not fit.
      before: its plan.
    """
    remats = KEEPING_LESS[KEEPING_LESS.index(experiment.model.get("remat", "full")) + 1 :]
    leaner = [changed(experiment, model={"remat": remat}) for remat in remats]
    least = leaner[-1] if leaner else experiment
    parts = [n for n in PARTS if n > experiment.optim.accumulate]
    leaner += [changed(least, optim={"accumulate": n}) for n in parts]
    state = before.held.arguments + before.held.gradients
    if state < before.room:
        yield from (difference(experiment, other) for other in leaner)
    data, fsdp = before.mesh["data"], before.mesh["fsdp"]
    if data > 1:
        split = {"data": 1, "fsdp": data * fsdp}
        every = (changed(other, mesh=split) for other in (experiment, *leaner))
        yield from (difference(experiment, other) for other in every)
    for n in SEQUENCES:
        if before.mesh["sequence"] == 1 and data % n == 0:
            split = {"data": data // n, "sequence": n}
            yield difference(experiment, changed(least, mesh=split))


def first_that_fits(
    experiment: config.Experiment,
    before: Plan,
    planned: Callable[[config.Experiment], Plan],
) -> tuple[Change, Plan] | None:
    """Returns the first change with which the step fits, and its plan; None where none does.

    Args:
      experiment: what does not fit.
      before: its plan.
      planned: makes the plan of an experiment.
    """
    begun, compiled = time.perf_counter(), 0
    changes = list(candidates(experiment, before))
    for number, change in enumerate(changes, 1):
        each = (time.perf_counter() - begun) / compiled if compiled else 0.0
        eta = f", {each:.0f} s each" if compiled else ""
        log.info("Trying %s (%d of %d%s).", " ".join(change.options), number, len(changes), eta)
        try:
            plan = planned(change.experiment)
        except InputError as error:
            log.info("That cannot be: %s", error)
            continue
        compiled += 1
        if plan.fits:
            return change, plan
    return None


def changed(experiment: config.Experiment, **sections: dict[str, Any]) -> config.Experiment:
    """Returns an experiment with some options of some sections."""
    new = {}
    for name, options in sections.items():
        section = getattr(experiment, name)
        if isinstance(section, Mapping):
            new[name] = {**section, **options}
        else:
            new[name] = dataclasses.replace(section, **options)
    return dataclasses.replace(experiment, **new)


def difference(before: config.Experiment, after: config.Experiment) -> Change:
    """Returns how two experiments differ in what is tried here."""
    options = [
        f"--config.{name}.{key}={value}"
        for name in ("model", "optim", "mesh")
        for key, value in _options(getattr(after, name)).items()
        if value != _options(getattr(before, name)).get(key)
    ]
    return Change(tuple(options), after)


def _options(section: Any) -> dict[str, Any]:
    return dict(section) if isinstance(section, Mapping) else dataclasses.asdict(section)
