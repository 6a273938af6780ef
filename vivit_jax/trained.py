"""The parameters that there are, for what comes after training: a run's, or a published file's.

Only what is asked for is read: the whole objective's parameters, or those of its encoder alone. A
run's are the average of weights where it keeps one.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from vivit_jax import config, pretrained, recipe
from vivit_jax.checkpoint import Checkpoints, locate
from vivit_jax.data.labels import read_label_maps
from vivit_jax.models.lora import fold
from vivit_jax.pretrained.found import Pretrained
from vivit_jax.trees import as_tree, by_path


class Saved(NamedTuple):
    """Parameters that lie somewhere.

    Attributes:
      where: as it was given, or the run's workdir.
      experiment: what the run was started with, or what is known of a published model.
      workdir: of the run; None for a published file.
      step: of the run's checkpoint.
      published: what a published file holds; None for a run.
    """

    where: str
    experiment: config.Experiment
    workdir: pathlib.Path | None = None
    step: int = 0
    published: Pretrained | None = None

    @property
    def weights(self) -> str:
        """What is used of a run: "average" or "params"."""
        return self.experiment.optim.weights

    def label_maps(self) -> tuple[tuple[str, ...], ...]:
        """Returns the names of the classes, a map for each head.

        Raises:
          InputError: the run has none.
        """
        if self.published is not None:
            return self.published.label_maps
        assert self.workdir is not None
        return read_label_maps(self.workdir)


def find(source: str | pathlib.Path, parts: bool = False) -> Saved:
    """Returns the parameters that a text names.

    Args:
      source: a run's workdir, WORKDIR/checkpoints/STEP for another step than the newest, or a
        published file as FAMILY:PATH.
      parts: whether a part of a model will do.

    Raises:
      InputError: there is none.
    """
    if pretrained.names(str(source)):
        published = pretrained.read(str(source))
        if not parts:
            published.check_whole()
        return Saved(str(source), published.experiment, published=published)
    workdir, step = locate(pathlib.Path(source))
    experiment = recipe.read_config(workdir)
    if "attention_kernel" in experiment.model:  # of the machine that trained it
        model = {**experiment.model, "attention_kernel": "auto"}
        experiment = dataclasses.replace(experiment, model=model)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        return Saved(str(workdir), experiment, workdir, checkpoints.find(step))


def read_params(saved: Saved, shapes: Any, place: jax.sharding.Sharding) -> Any:
    """Returns parameters.

    Args:
      saved: where they are.
      shapes: of all of them, or of a part of the tree.
      place: where each of them goes.
    """
    if saved.published is not None:
        values = saved.published.params
        return as_tree({path: jax.device_put(values[path], place) for path in by_path(shapes)})
    assert saved.workdir is not None
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place), shapes)
    with Checkpoints(saved.workdir, read_only=True) as checkpoints:
        return checkpoints.restore(saved.step, {saved.weights: target})[saved.weights]


def read_arrays(saved: Saved, part: str = "") -> tuple[Mapping[str, np.ndarray], list[str]]:
    """Returns parameters by path, and the paths of those that are left.

    They are those of a model without LoRA: its updates are folded into the kernels.

    Args:
      saved: where they are.
      part: such as "encoder", of which alone they are read; "" for all.
    """
    if saved.published is not None:
        values = saved.published.params
    else:
        assert saved.workdir is not None
        with Checkpoints(saved.workdir, read_only=True) as checkpoints:
            kept = saved.weights
            shapes = checkpoints.shapes(saved.step)[kept]
            wanted = {part: shapes[part]} if part else shapes
            arrays = checkpoints.read(saved.step, {kept: wanted})[kept]
        values = by_path({**shapes, **arrays})
    read = {path: value for path, value in values.items() if path.startswith(part)}
    left = [path for path in values if path not in read]
    return fold(read, saved.experiment.model.get("lora_alpha", 0.0)), left


def to_publish(saved: Saved) -> Pretrained:
    """Returns what a run has saved as a model that can be written in another form."""
    if saved.published is not None:
        return saved.published
    params = dict(read_arrays(saved)[0])
    experiment = without_lora(saved.experiment)
    return Pretrained(saved.where, experiment, saved.label_maps(), params, [])


def without_lora(experiment: config.Experiment) -> config.Experiment:
    """Returns the experiment whose model has the parameters that `read_arrays` returns."""
    if "lora_rank" not in experiment.model:  # of another encoder, or older than the option
        return experiment
    return dataclasses.replace(experiment, model={**experiment.model, "lora_rank": 0})


def read_encoder(saved: Saved, place: jax.sharding.Sharding) -> tuple[nn.Module, Any]:
    """Returns the encoder, whatever objective trained it, and its parameters.

    Args:
      saved: where they are.
      place: where each parameter goes.
    """
    encoder = recipe.build(recipe.MODELS, saved.experiment.model, "config.model")
    clip = recipe.empty_clip(saved.experiment.data)
    init = jax.eval_shape(encoder.init, jax.random.key(0), clip)
    return encoder, read_params(saved, {"encoder": init["params"]}, place)["encoder"]
