"""What a published file holds, and that as a model of ours.

A family's module reads its format and gives a Found: which model it is, by shapes and by the
file's own config, and the table of names. Here that becomes parameters, strictly.
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vivit_jax import config, recipe
from vivit_jax.errors import InputError
from vivit_jax.pretrained.rules import Arrays, Left, Rule, to_ours
from vivit_jax.trees import as_tree, by_path


@dataclasses.dataclass(frozen=True)
class Found:
    """What a file holds.

    Attributes:
      where: it is, for messages.
      model: options of config.model, without "name".
      objective: config.objective.
      data: options of config.data: at least frames and image_size, of a clip.
      eval: options of config.eval, as far as the file tells.
      part: what the paths of all its parameters begin with, where it holds a part of a model.
      arrays: parameters by their names.
      rules: what these are here, by path of the objective's parameters ("encoder/...").
      sizes: lengths of axes in the rules' layouts, such as "h": heads.
      label_maps: names of the classes, a map for each head.
      left: what the file may hold beside.
      notes: what was assumed, or should be known before the numbers are trusted.
    """

    where: str
    model: Mapping[str, Any]
    objective: Mapping[str, Any]
    data: Mapping[str, Any]
    arrays: Arrays
    rules: Sequence[Rule]
    sizes: Mapping[str, int]
    label_maps: tuple[tuple[str, ...], ...] = ((),)
    left: Sequence[Left] = ()
    notes: Sequence[str] = ()
    eval: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    part: str = ""


class Pretrained(NamedTuple):
    """A published model as one of ours.

    Attributes:
      where: it is from.
      experiment: config.model, objective, and data and eval as far as the file tells; the rest is
        default.
      label_maps: names of the classes, a map for each head.
      params: float32 arrays of the objective by path, as "encoder/tubelets/kernel".
      account: lines that tell what was left out and what was assumed.
      part: what the paths of all parameters begin with, where they are a part of a model.
    """

    where: str
    experiment: config.Experiment
    label_maps: tuple[tuple[str, ...], ...]
    params: dict[str, np.ndarray]
    account: list[str]
    part: str = ""

    def check_whole(self) -> None:
        """Refuses a part of a model.

        Raises:
          InputError: it is one.
        """
        if self.part:
            raise InputError(
                f"{self.where} holds {self.part} alone, which is no model: start a run from it, "
                f"beside a model of the rest, by config.init_from=OTHER,{self.where}."
            )

    def objective(self) -> nn.Module:
        """Returns the objective alone."""
        return recipe.build_objective(self.experiment, self.label_maps)

    def build(self) -> tuple[nn.Module, dict[str, Any]]:
        """Returns the objective and its parameters as a tree.

        Raises:
          InputError: they are a part alone.
        """
        self.check_whole()
        return self.objective(), jax.tree.map(jnp.asarray, as_tree(self.params))


def translate(found: Found) -> Pretrained:
    """Returns what was found as one of our models.

    Raises:
      InputError: the file's parameters are not exactly those of the model.
    """
    sections = recipe.experiment(
        model={"name": "video_transformer", **found.model},
        objective=dict(found.objective),
        data=dict(found.data),
        eval=dict(found.eval),
    )
    experiment = config.parse(sections.to_dict())
    objective = recipe.build_objective(experiment, found.label_maps)
    wanted = recipe.param_shapes(objective, experiment.data, found.label_maps)
    leaves = by_path(wanted).items()
    shapes = {path: leaf.shape for path, leaf in leaves if path.startswith(found.part)}
    params, account = to_ours(
        found.rules, found.arrays, shapes, found.sizes, found.left, found.where
    )
    notes = [f"  note     {note}" for note in found.notes]
    account += notes
    return Pretrained(found.where, experiment, found.label_maps, params, account, found.part)


def numbered(classes: int) -> tuple[str, ...]:
    """Returns names for classes that a file does not name: their numbers."""
    return tuple(map(str, range(classes)))


def about_rate(rate: Mapping[str, float]) -> str:
    """Returns a note on how far apart frames are taken, as config.data has it: no file tells."""
    ((name, value),) = rate.items()
    return (
        f"config.data.{name} = {value:g}, as published ones were trained: the file does not tell."
    )


def depth(arrays: Arrays, prefix: str) -> int:
    """Returns how many numbered blocks of parts follow a prefix, such as "encoder.layer."."""
    block = re.compile(rf"{re.escape(prefix)}(\d+)\.\w+\.")
    return len({found[1] for name in arrays if (found := block.match(name))})


def shape(arrays: Arrays, name: str, axes: int, where: str) -> tuple[int, ...]:
    """Returns the shape of a parameter that a model cannot be known without.

    Raises:
      InputError: it is missing, or has another number of axes.
    """
    if name not in arrays:
        raise InputError(
            f"{where} has no {name}; it begins with {', '.join(list(arrays)[:5])}. Is it of "
            "another family?"
        )
    if arrays[name].ndim != axes:
        raise InputError(f"{where}: {name} is {arrays[name].shape}; expected {axes} axes.")
    return arrays[name].shape


def side(cells: int, patch: int, where: str) -> int:
    """Returns the image's height and width, pixels, from the number of its patches.

    Raises:
      InputError: that is no square.
    """
    root = math.isqrt(cells)
    if root * root != cells:
        raise InputError(f"{where}: {cells} positions are no square of patches.")
    return root * patch
