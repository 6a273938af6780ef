"""Starting from the weights of another run: reading them, and putting them in their places.

`read_run` gives a Source, which is all that fitting.py knows of where weights come from.
"""

import logging
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_leaves_with_path, tree_map_with_path

from vivit_jax import recipe, restore
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.errors import InputError
from vivit_jax.fitting import Source, differences, fit
from vivit_jax.models.positions import Axes
from vivit_jax.optim import path_of

log = logging.getLogger(__name__)
MEANING = ("positions", "gelu", "norm_eps", "mean", "std")  # of a model: what its weights mean


def load(init_from: str, params: Any, axes: Axes, model: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Returns the parameters to start from by path, where each is to lie, for `merge`.

    Args:
      init_from: config.init_from.
      params: of the run that starts: shapes with shardings.
      axes: (slots, rows, columns) of its tokens.
      model: its config.model.

    Raises:
      InputError: there is nothing to read, or it does not fit.
    """
    source = read_run(init_from)
    places = {path_of(keys): leaf for keys, leaf in tree_leaves_with_path(params)}
    values, lines = fit(source, {path: x.shape for path, x in places.items()}, axes, model)
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


def read_run(folder: str) -> Source:
    """Returns the encoder of a run: its average of weights, where it keeps one.

    Args:
      folder: a workdir, for its newest checkpoint, or WORKDIR/checkpoints/STEP.

    Raises:
      InputError: there is no such run or checkpoint.
    """
    try:
        saved = restore.find(pathlib.Path(folder))
        experiment = saved.experiment
        kept = experiment.optim.weights
        with Checkpoints(saved.workdir, read_only=True) as checkpoints:
            shapes = checkpoints.shapes(saved.step)[kept]
            arrays = checkpoints.read(saved.step, {kept: {"encoder": shapes["encoder"]}})[kept]
    except InputError as error:
        raise InputError(f"config.init_from = {folder!r}: {error}") from error
    encoder: Any = recipe.build(recipe.MODELS, experiment.model, "config.model")
    data = experiment.data
    paths = [path_of(keys) for keys, _ in tree_leaves_with_path(shapes)]
    which = "the average of weights" if kept == "average" else "the weights"
    return Source(
        where=f"{which} of {saved.workdir}, step {saved.step}",
        params={path_of(keys): x for keys, x in tree_leaves_with_path(arrays)},
        axes=encoder.grid(data.frames, data.image_size, data.image_size),
        model=experiment.model,
        left=[path for path in paths if not path.startswith("encoder/")],
    )
