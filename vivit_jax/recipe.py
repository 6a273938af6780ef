"""From names and options to modules: what a config file calls, and what the commands build.

`experiment` completes a config file's few lines with every default, so that the command line can
override any option, and refuses a misspelt one at once. As a config file itself, this module gives
back the config of a workdir: --config vivit_jax/recipe.py:WORKDIR.
"""

import dataclasses
import functools
import json
import pathlib
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt8
from ml_collections import config_dict

from vivit_jax import config
from vivit_jax.errors import InputError
from vivit_jax.models import MODELS
from vivit_jax.objectives import OBJECTIVES
from vivit_jax.options import choose, unknown
from vivit_jax.options import convert as to_type

Row = TypeVar("Row")
Table = Mapping[str, type[nn.Module]]
GIVEN = ("encoder", "class_splits", "multi_label")  # fields that no config sets
TABLES: dict[str, Table] = {"model": MODELS, "objective": OBJECTIVES}


def experiment(**sections: Any) -> config_dict.ConfigDict:
    """Returns a whole config: the given options, and the defaults of all others.

    Args:
      sections: config.Experiment's fields; model and objective have a "name", a row of
        MODELS or OBJECTIVES, and options of it.

    Raises:
      InputError: an option is unknown or has the wrong type; names it and the valid ones.
    """
    names = [field.name for field in dataclasses.fields(config.Experiment)]
    for name in sections:
        if name not in names:
            raise InputError(unknown("config", name, names))
    modules = {}
    for name, table in TABLES.items():
        given = sections.get(name, {})
        cls = find(table, given, f"config.{name}")
        options = convert(cls, given, f"config.{name}")
        modules[name] = {"name": given["name"], **defaults(cls), **options}
    return config_dict.ConfigDict(dataclasses.asdict(config.parse({**sections, **modules})))


def choose_row(argument: str, rows: Mapping[str, Row]) -> tuple[Row, bool]:
    """Returns the row that a config file's argument names, and whether `,smoke` follows.

    Raises:
      InputError: names the rows.
    """
    name, *rest = argument.split(",")
    choose("The config's argument", name, rows)
    if rest not in ([], ["smoke"]):
        raise InputError(f"The config's argument = {argument!r}; expected {name} or {name},smoke.")
    return rows[name], bool(rest)


def smoke(whole: config_dict.ConfigDict) -> config_dict.ConfigDict:
    """Returns a config with everything made small: a look at the whole path within a minute.

    A model of two narrow blocks learns the videos of "motions" for a few steps; which methods,
    arrangements, positions and augmentations there are stays as it is.
    """
    sections: dict[str, Any] = whole.to_dict()
    patch = sections["model"]["tubelet"][1]
    narrow = {"width": 24, "heads": 2, "depth": 1}
    less = {
        "data": {"dataset": "motions", "batch_size": 8, "stride": 1, "fps": 0.0}
        | {"image_size": 6 * patch, "labels": "single"},
        "model": {"width": 48, "depth": 2, "heads": 2, "mlp_dim": 96, "temporal_depth": 2},
        "objective": {
            f"{part}_{name}": size
            for part in ("decoder", "predictor")
            for name, size in narrow.items()
            if f"{part}_{name}" in sections["objective"]
        },
        "optim": {"unit": "steps", "warmup": 1.0},
        "train": {"steps": 4, "log_every": 1, "checkpoint_every": 2},
        "eval": {"clips": 1, "crops": 1},
    }
    for name, options in less.items():
        sections[name].update(options)
    return experiment(**sections)


def get_config(workdir: str) -> config_dict.ConfigDict:
    """Returns the config of a run, from its workdir."""
    return experiment(**json.loads(config.to_json(read_config(pathlib.Path(workdir)))))


def read_config(workdir: pathlib.Path) -> config.Experiment:
    """Returns what a run was started with, from its workdir.

    Raises:
      InputError: there is no config.json, or it is broken.
    """
    file = workdir / "config.json"
    if not file.is_file():
        raise InputError(f"{file} does not exist; expected the workdir of a run.")
    return config.from_json(file)


def build_objective(
    experiment: config.Experiment, label_maps: Sequence[Sequence[str]]
) -> nn.Module:
    """Returns the objective around its encoder.

    Args:
      experiment: what to build.
      label_maps: names of the classes, a map for each head.

    Raises:
      InputError: an option is unknown, has the wrong type, or cannot be.
    """
    given = {
        "encoder": build(MODELS, experiment.model, "config.model"),
        "class_splits": tuple(len(names) for names in label_maps),
        "multi_label": experiment.data.labels == "multi",
    }
    return build(OBJECTIVES, experiment.objective, "config.objective", given)


def fresh_params(
    objective: nn.Module, data: config.Data, label_maps: Sequence[Sequence[str]], key: jax.Array
) -> Any:
    """Returns the parameters that an objective begins with.

    Args:
      objective: as `build_objective` returns it.
      data: which clips and labels it sees.
      label_maps: names of the classes, a map for each head.
      key: of all that is drawn.
    """
    batch = {
        "video": empty_clip(data),
        "label": jnp.zeros((1, *label_shape(data, label_maps)), jnp.int32),
        "valid": jnp.ones(1, bool),
    }
    return objective.init({"params": key, "mask": key}, batch)["params"]


def param_shapes(
    objective: nn.Module, data: config.Data, label_maps: Sequence[Sequence[str]]
) -> Any:
    """Returns the shapes of `fresh_params`; nothing is computed."""
    fresh = functools.partial(fresh_params, objective, data, label_maps)
    return jax.eval_shape(fresh, jax.random.key(0))


def label_shape(data: config.Data, label_maps: Sequence[Sequence[str]]) -> tuple[int, ...]:
    """Returns the shape of one video's label; see data/pipeline.py."""
    heads, classes = len(label_maps), sum(map(len, label_maps))
    return {"single": (), "heads": (heads,), "multi": (classes,), "none": (0,)}[data.labels]


def empty_clip(data: config.Data) -> UInt8[Array, "1 T H W 3"]:
    """Returns a batch of one empty clip, from which parameters take their shapes."""
    return jnp.zeros((1, data.frames, data.image_size, data.image_size, 3), jnp.uint8)


def build(
    table: Table, section: Mapping[str, Any], path: str, given: Mapping[str, Any] | None = None
) -> nn.Module:
    """Returns the module that a section names, with its options and what it needs of `given`."""
    cls = find(table, section, path)
    fields = {field.name for field in dataclasses.fields(cls)}
    needed = {name: value for name, value in (given or {}).items() if name in fields}
    return cls(**convert(cls, section, path), **needed)


def find(table: Table, section: Mapping[str, Any], path: str) -> type[nn.Module]:
    """Returns the class that a section's "name" is a row of."""
    if "name" not in section:
        raise InputError(f"{path} has no name; expected one of {', '.join(table)}.")
    choose(f"{path}.name", section["name"], table)
    return table[section["name"]]


def defaults(cls: type[nn.Module]) -> dict[str, Any]:
    """Returns the options that a config can set of a module, with their defaults."""
    inner = {"parent", "name", *GIVEN}
    return {f.name: f.default for f in dataclasses.fields(cls) if f.name not in inner}


def convert(cls: type[nn.Module], section: Mapping[str, Any], path: str) -> dict[str, Any]:
    """Returns a section's options as the types of the module's fields."""
    kinds, known = typing.get_type_hints(cls), defaults(cls)
    options = {}
    for name, value in section.items():
        if name == "name":
            continue
        if name not in known:
            raise InputError(unknown(path, name, known))
        options[name] = to_type(value, kinds[name], f"{path}.{name}")
    return options
