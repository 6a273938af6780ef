"""Starting from other weights, a run's or a published file's, and putting them in their places.

`read_source` gives a Source, which is all that fitting.py knows of where weights come from. Of
several, each gives what the others lack: frames from one file, time from another.

What is in GPT-2's form sees the frames before it alone, so its first positions and blocks do not
depend on the others: a model with fewer takes the first of them.
"""

import logging
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map_with_path

from vivit_jax import pretrained, recipe, trained
from vivit_jax.errors import InputError
from vivit_jax.fitting import Source, differences, fit
from vivit_jax.fitting_rules import has
from vivit_jax.models.positions import Axes
from vivit_jax.trees import by_path, path_of

log = logging.getLogger(__name__)
MEANING = (  # options of a model that tell what its weights mean
    *("positions", "gelu", "norm_eps", "norm_offset", "logit_cap", "mean", "std"),
    *("filter", "filter_size", "filter_sigma", "difference"),
)
BLOCK_OVER_TIME = r"encoder/time/block_\d+/"
POSITION_OVER_TIME = "encoder/time/position"


def load(
    init_from: str,
    params: Any,
    axes: Axes,
    model: Mapping[str, Any],
    time_from_space: bool = False,
) -> dict[str, jax.Array]:
    """Returns the parameters to start from by path, where each is to lie, for `merge`.

    Args:
      init_from: config.init_from.
      params: of the run that starts: shapes with shardings.
      axes: (slots, rows, columns) of its tokens.
      model: its config.model.
      time_from_space: config.init_time_from_space.

    Raises:
      InputError: there is nothing to read, or it does not fit.
    """
    source = read_source(init_from)
    offsets = [given.get("norm_offset", 0.0) for given in (source.model, model)]
    if offsets[0] != offsets[1]:
        raise InputError(
            f"config.init_from = {init_from!r}: its layer norms store their scale less "
            f"{offsets[0]:g}, and here less {offsets[1]:g}; set config.model.norm_offset = "
            f"{offsets[0]:g}."
        )
    places = by_path(params)
    shapes = {path: x.shape for path, x in places.items()}
    if source.model.get("time") == model.get("time") == "gpt2":
        source = first_over_time(source, shapes, axes[0])
    values, lines = fit(source, shapes, axes, model, time_from_space)
    log.info("Starts from %s:\n%s", source.where, "\n".join(lines))
    if other := differences(source.model, model, MEANING):
        log.warning("What these weights were trained with is not what they go on with: %s.", other)

    def place(path: str, value: np.ndarray) -> jax.Array:
        value = value.astype(places[path].dtype)
        return jax.make_array_from_callback(value.shape, places[path].sharding, value.__getitem__)

    return {path: place(path, value) for path, value in values.items()}


def merge(fresh: Any, given: Mapping[str, jax.Array]) -> Any:
    """Returns parameters with what is given, by path, in the place of fresh ones.

    A table of positions may be given without the class token's row, which then is the fresh one.
    """

    def choose(keys: tuple[Any, ...], mine: jax.Array) -> jax.Array:
        value = given.get(path_of(keys), mine)
        return value if value.shape == mine.shape else jnp.concatenate([mine[:, :1], value], axis=1)

    return tree_map_with_path(choose, fresh)


def read_source(given: str) -> Source:
    """Returns the encoder of a run, or of a published file, or of several that go together.

    Args:
      given: config.init_from; see pretrained.apart.

    Raises:
      InputError: there is no such run, checkpoint or file, or two hold the same.
    """
    first, *others = map(read_one, pretrained.apart(given))
    for other in others:
        first = beside(first, other)
    return first


def beside(one: Source, other: Source) -> Source:
    """Returns two sources as one.

    Raises:
      InputError: both hold a parameter.
    """
    if both := sorted(one.params.keys() & other.params.keys()):
        raise InputError(
            f"config.init_from: {one.where} and {other.where} both hold {both[0]}, and "
            f"{len(both) - 1} others; expected that each has what the other lacks."
        )
    time, frames = (one, other) if has(one.params, "time") else (other, one)
    over_time = {k: v for k, v in time.model.items() if k.startswith("time")}
    return Source(
        where=f"{one.where} and {other.where}",
        params={**one.params, **other.params},
        axes=(time.axes[0], *frames.axes[1:]),
        model={**frames.model, **over_time},
        left=[*one.left, *other.left],
    )


def first_over_time(source: Source, target: Mapping[str, Any], frames: int) -> Source:
    """Returns a source in GPT-2's form, with no more blocks and positions than are wanted."""
    wanted = {m[0] for path in target if (m := re.match(BLOCK_OVER_TIME, path))}
    params, slots = {}, min(frames, source.axes[0])
    for path, value in source.params.items():
        block = re.match(BLOCK_OVER_TIME, path)
        if block is None or block[0] in wanted:
            params[path] = value[:, :slots] if path == POSITION_OVER_TIME else value
    what = (source.where, slots, source.axes[0], len(wanted))
    log.info("Of %s: the first %d of %d positions, and the first %d blocks over time.", *what)
    return source._replace(params=params, axes=(slots, *source.axes[1:]))


def read_one(given: str) -> Source:
    """Returns the encoder of a run, or of a published file.

    Args:
      given: see trained.find.

    Raises:
      InputError: there is no such run, checkpoint or file.
    """
    try:
        saved = trained.find(given, parts=True)
        arrays, left = trained.read_arrays(saved, "encoder")
    except InputError as error:
        raise InputError(f"config.init_from = {given!r}: {error}") from error
    experiment = trained.without_lora(saved.experiment)
    encoder: Any = recipe.build(recipe.MODELS, experiment.model, "config.model")
    data = experiment.data
    where = saved.where
    if saved.workdir is not None:
        which = "the average of weights" if saved.weights == "average" else "the weights"
        where = f"{which} of {saved.workdir}, step {saved.step}"
    model = experiment.model
    if saved.published is not None and saved.published.part:  # the rest stands in for any
        model = {name: value for name, value in model.items() if name.startswith("time")}
    return Source(
        where=where,
        params=arrays,
        axes=encoder.grid(data.frames, data.image_size, data.image_size),
        model=model,
        left=left,
    )
