"""The parameters that a run has saved, for what comes after training.

Only what is asked for is read: the whole objective's parameters, or those of its encoder alone.
They are the average of weights where the run keeps one.
"""

import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from vivit_jax import config, recipe
from vivit_jax.checkpoint import Checkpoints, locate


class Saved(NamedTuple):
    """A checkpoint.

    Attributes:
      workdir: of its run.
      step: its number.
      experiment: what the run was started with.
    """

    workdir: pathlib.Path
    step: int
    experiment: config.Experiment


def find(folder: pathlib.Path) -> Saved:
    """Returns the checkpoint that a path names.

    Args:
      folder: a run's workdir, or WORKDIR/checkpoints/STEP for another step than the newest.

    Raises:
      InputError: there is none.
    """
    workdir, step = locate(folder)
    experiment = recipe.read_config(workdir)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return Saved(workdir, checkpoints.find(step), experiment)


def read_params(saved: Saved, shapes: Any, place: jax.sharding.Sharding) -> Any:
    """Returns parameters.

    Args:
      saved: where they are.
      shapes: of all of them, or of a part of the tree.
      place: where each of them goes.
    """
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
    weights = saved.experiment.optim.weights
    with Checkpoints(saved.workdir, read_only=True) as checkpoints:
        return checkpoints.restore(saved.step, {weights: target})[weights]


def read_encoder(saved: Saved, place: jax.sharding.Sharding) -> tuple[nn.Module, Any]:
    """Returns the encoder, whatever objective trained it, and its parameters.

    Args:
      saved: where they are.
      place: where each parameter goes.
    """
    encoder = recipe.build(recipe.MODELS, saved.experiment.model, "config.model")
    init = jax.eval_shape(encoder.init, jax.random.key(0), clip_of(saved.experiment.data))
    return encoder, read_params(saved, {"encoder": init["params"]}, place)["encoder"]


def clip_of(data: config.Data) -> jax.ShapeDtypeStruct:
    """Returns the shape of one clip, as a batch."""
    shape = (1, data.frames, data.image_size, data.image_size, 3)
    return jax.ShapeDtypeStruct(shape, np.uint8)
