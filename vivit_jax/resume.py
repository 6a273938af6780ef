"""From which state a run goes on, and what must be as it was: videos, labels, order, batches.

A step's manifest tells what it was saved with. What decides which video comes next, and what it is
called, is compared; the config and the code as a whole are only written down.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax

from vivit_jax import agreement, finite, processes, sanity, sharding, spikes
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.clock import Clock
from vivit_jax.data.examples import Source
from vivit_jax.errors import Damaged, InputError, NotFinite
from vivit_jax.metrics import ROLLBACKS
from vivit_jax.run import Run
from vivit_jax.train_step import TrainState

log = logging.getLogger(__name__)
_WORDS = {  # what manifests call it, and people
    "seed": "config.seed",
    "batch_size": "config.data.batch_size",
    "repeats": "config.data.repeats",
    "videos": "the number of training videos",
    "ids": "the list of training videos, whatever its order,",
    "labels": "the labels of the training videos",
    "rows": "the order of the rows of the list",
    "label_maps": "the label map",
    "order": f"the number of the order by {ROLLBACKS}",
}


def first_state(
    run: Run, checkpoints: Checkpoints, clock: Clock, rollbacks: sanity.Rollbacks
) -> tuple[int, TrainState]:
    """Returns the step that a run goes on from, and its state; a fresh one where it begins.

    Raises:
      GoBack: the checkpoint is not finite.
      InputError: no checkpoint is whole, the newest that is was saved with other data, or what
        training would begin with is not finite.
    """
    there = checkpoints.steps()
    again = f" after rollback {len(rollbacks.lines)}" if rollbacks.lines else ""
    agreement.agree(f"the checkpoint{again}", {"steps": there, "orders": rollbacks.orders})
    with clock.phase("restore" if there else "init"):
        if there:
            start, state = restored(run, checkpoints)
            check(run, start, checkpoints.manifest(start))
            with sanity.going_back(start, "the checkpoint"):
                finite.check(state)
        else:
            start, state = 0, run.init()
            try:
                finite.check(state)
            except NotFinite as error:
                given = run.experiment.init_from
                raise InputError(
                    f"Training would begin with what is {error}; init_from = {given!r}."
                ) from error
        processes.barrier(f"restored{again}")
    return start, state


def restored(run: Run, checkpoints: Checkpoints) -> tuple[int, TrainState]:
    """Returns the newest step that is whole, and its state.

    What spikes are told by begins anew where config.optim.spike has changed.
    """
    optim, place = run.experiment.optim, sharding.replicated(run.mesh)
    window, saved = optim.spike_window if optim.spike else 0, {}
    newest = checkpoints.latest()
    if newest is not None:
        with contextlib.suppress(Damaged):  # it will be set aside
            saved = checkpoints.shapes(newest).get("history") or {}
    if window == (len(saved["norms"]) if saved else 0):
        return checkpoints.restore_newest(run.state, run.frozen)
    log.info("config.optim.spike was off, or over another window, before step %d.", newest)
    there = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), saved)
    step, state = checkpoints.restore_newest(run.state.replace(history=there), run.frozen)
    fresh = jax.device_put(spikes.fresh(window), place) if window else {}
    return step, state.replace(history=fresh)


def about(run: Run) -> Callable[[int], dict[str, Any]]:
    """Returns what gives, by step, what the manifests of a run tell besides the arrays."""
    told = {
        "data": fingerprints(run),
        "config": _digest(json.dumps(dataclasses.asdict(run.experiment), sort_keys=True)),
        "code": _digest(json.dumps(agreement.code(), sort_keys=True)),
        "libraries": agreement.libraries(),
    }

    def at(step: int) -> dict[str, Any]:
        data = {**told["data"], "order": order_at(run.workdir, step)}
        return {**told, "data": data}

    return at


def fingerprints(run: Run) -> dict[str, Any]:
    """Returns what decides which video comes next in a run, and what it is called."""
    experiment, data = run.experiment, run.experiment.data
    return {
        "seed": experiment.seed,
        "batch_size": data.batch_size,
        "repeats": data.repeats,
        **_of_videos(run.sources.train),
        "label_maps": _digest(json.dumps(run.sources.label_maps)),
    }


def check(run: Run, step: int, told: Mapping[str, Any] | None) -> None:
    """Refuses to go on from a step with other data, unless config.train.changed_data lets it.

    Args:
      run: that goes on.
      step: from which.
      told: its manifest; None where it has none.

    Raises:
      InputError: names what changed, as it was and as it is.
    """
    before, now = (told or {}).get("data", {}), about(run)(step)["data"]
    changed = [name for name in _WORDS if name in before and before[name] != now[name]]
    if "ids" in changed:  # which the others follow from
        changed = [name for name in changed if name not in ("labels", "rows")]
    if not changed:
        return
    lines = "; ".join(f"{_WORDS[name]} was {before[name]} and is {now[name]}" for name in changed)
    if run.experiment.train.changed_data == "go_on":
        log.warning("Goes on from step %d with other data: %s.", step, lines)
        return
    raise InputError(
        f"Step {step} in {run.workdir} was saved with other data: {lines}. Nothing would follow in "
        "the order in which the run began. Give what it began with, or take another --workdir; or "
        "--config.train.changed_data=go_on goes on with this data from the same step."
    )


def order_at(workdir: pathlib.Path, step: int) -> int:
    """Returns the number of the order of videos in which a step was done; 0 before any rollback."""
    orders = sanity.Rollbacks(workdir, 0).orders
    return max((number for first, number in orders if first < step), default=0)


def _of_videos(source: Source) -> dict[str, int | str]:
    """Returns how many videos there are, and digests of their ids, their labels and their order."""
    ids = labels = 0
    rows = hashlib.blake2b(digest_size=8)
    for example in map(source.example, range(len(source))):
        identity = example.id.encode("utf-8", "surrogateescape")
        one = hashlib.blake2b(identity, digest_size=8).digest()
        rows.update(one)
        ids += int.from_bytes(one)  # a sum, which knows no order
        named = b"%s %r %r" % (one, example.label, example.span)
        labels += int.from_bytes(hashlib.blake2b(named, digest_size=8).digest())
    return {
        "videos": len(source),
        "ids": f"{ids % 2**64:016x}",
        "labels": f"{labels % 2**64:016x}",
        "rows": rows.hexdigest(),
    }


def _digest(text: str) -> str:
    """Returns a few letters that tell texts apart."""
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()
