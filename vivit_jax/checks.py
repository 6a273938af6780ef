"""What of an experiment can be refused before its videos are looked for."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax

from vivit_jax import config, recipe, sharding
from vivit_jax.data.views import eval_views, train_views
from vivit_jax.errors import InputError

_HOW = ("attention_kernel", "remat", "scan")  # how a model is computed, and not which it is


def check_workdir(experiment: config.Experiment, workdir: pathlib.Path) -> None:
    """Refuses a workdir that holds the run of another model.

    Raises:
      InputError: names the options that differ.
    """
    if not (workdir / "config.json").exists():
        return
    before = config.parse(recipe.get_config(str(workdir)).to_dict())  # with options newer than it
    changed = [
        f"config.{section}.{name} was {old.get(name)!r} and is {new.get(name)!r}"
        for section, old, new in (
            ("model", before.model, experiment.model),
            ("objective", before.objective, experiment.objective),
        )
        for name in sorted({*old, *new} - {*_HOW})
        if old.get(name) != new.get(name)
    ]
    if changed:
        raise InputError(
            f"{workdir} holds the run of another model: {'; '.join(changed)}. "
            "Take another --workdir, or give the same options."
        )


def check_experiment(experiment: config.Experiment, mesh: jax.sharding.Mesh) -> None:
    """Refuses what can be refused before the videos are looked for.

    Raises:
      InputError: names the fields.
    """
    data = experiment.data
    train_views(data)
    eval_views(data, experiment.eval.clips, experiment.eval.crops, experiment.eval.resize)
    check_parts(experiment, mesh)
    encoder: Any = recipe.build(recipe.MODELS, experiment.model, "config.model")
    check_mesh(mesh, encoder, encoder.grid(data.frames, data.image_size, data.image_size))


def check_parts(experiment: config.Experiment, mesh: jax.sharding.Mesh) -> None:
    """Refuses a batch that cannot be cut into equal parts for optim.accumulate and the devices.

    Raises:
      InputError: names the fields.
    """
    data, accumulate = experiment.data, experiment.optim.accumulate
    name, clips = "config.data.batch_size", data.batch_size * data.repeats
    if data.repeats > 1:
        name += " * config.data.repeats"
    if clips % accumulate:
        raise InputError(
            f"config.optim.accumulate = {accumulate} does not divide {name} = {clips}."
        )
    sharding.check_batch(f"{name} / config.optim.accumulate", clips // accumulate, mesh)


def check_mesh(mesh: jax.sharding.Mesh, encoder: Any, axes: Sequence[int]) -> None:
    """Refuses a mesh that cannot share what the encoder works on.

    Args:
      mesh: the devices.
      encoder: a model.
      axes: (slots, rows, columns) of a clip's tokens.

    Raises:
      InputError: names the axis.
    """
    sharding.check_divides("tensor", mesh.shape["tensor"], "heads of the model", encoder.dims.heads)
    slots, rows, columns = axes
    what, whole = "time slots of a clip's tokens", slots
    if encoder.attention == "joint":
        what, whole = "tokens of a clip", slots * rows * columns
    sharding.check_divides("sequence", mesh.shape["sequence"], what, whole)
