"""Fitting the weights of one encoder onto another: what is reused, resized, fresh or dropped.

Nothing passes in silence: a parameter without a counterpart of its shape is explained by a row of
the tables in fitting_rules.py, or is an error. Where the weights come from is transfer.py's.

Learned positions are resized linearly in time, rows and columns, as pictures are: cells have their
centres, the border goes on outside, and what shrinks is averaged; of an image model's, each slot
has a copy. The class token's row stays. Kernels of one frame are inflated (models/inflate.py).
Where differences of frames are appended to the colours (models/filters.py), a kernel of colours
alone starts with zeros for them: the encoder does at first what it did.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from vivit_jax.errors import InputError
from vivit_jax.fitting_rules import (
    DROPPED,
    FRESH,
    RENAMED,
    Paths,
    explanation,
    gains_time,
    held,
    renamed,
)
from vivit_jax.models.inflate import INFLATIONS
from vivit_jax.models.positions import Axes

SHAPING = (  # options of a model that decide which parameters it has
    *("name", "size", "width", "depth", "heads", "mlp_dim", "tubelet", "attention"),
    *("temporal_depth", "positions", "pool", "norm_summary", "key_bias"),
    *("frame", "frame_norm", "patch", "time", "time_width", "time_depth", "time_heads"),
    *("lora_rank", "lora_targets", "adapter", "difference"),
)
SEE_PIXELS = ("/tubelets/kernel", "/stem_conv/kernel")


class Source(NamedTuple):
    """An encoder's weights from somewhere.

    Attributes:
      where: they are from, for messages.
      params: by path, as "encoder/blocks/block_0/mlp_in/kernel".
      axes: (slots, rows, columns) of the tokens that they were made for.
      model: the options of config.model, as far as known.
      left: paths of parameters beside the encoder, which are not read.
    """

    where: str
    params: Mapping[str, np.ndarray]
    axes: Axes
    model: Mapping[str, Any]
    left: Sequence[str] = ()


class Table(NamedTuple):
    """What the rows of a table of positions are: the class token's, then a grid's."""

    classes: int
    axes: Axes

    @property
    def rows(self) -> int:
        """How many there are."""
        return self.classes + int(np.prod(self.axes))


def fit(
    source: Source,
    target: Mapping[str, tuple[int, ...]],
    axes: Axes,
    model: Mapping[str, Any],
    time_from_space: bool = False,
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns values for parameters of the target, by path, and an account of all parameters.

    Args:
      source: where they come from.
      target: shapes by path.
      axes: (slots, rows, columns) of the target's tokens.
      model: the target's config.model; its tubelet_init says how to inflate.
      time_from_space: attention over time starts as that over space, where the source has none.

    Raises:
      InputError: a parameter of either side is not explained; names all such. Or there is no
        attention over time to start so.
    """
    rename, fresh, dropped = (held(r, source.params, target) for r in (RENAMED, FRESH, DROPPED))
    theirs = {renamed(path, rename): path for path in source.params}
    copied = copies(source, theirs, target) if time_from_space else {}
    theirs |= copied
    shapes = {path: array.shape for path, array in source.params.items()}
    reused, changed, account, faults = [], {}, [], []
    for path, shape in target.items():
        if path not in theirs:
            why = explanation(path, fresh)
            (account if why else faults).append(("fresh", path, why or "is not in the source"))
            continue
        before, value = shapes[theirs[path]], source.params[theirs[path]]
        old, new = table_of(theirs[path], shapes, source.axes), table_of(path, target, axes)
        what = f"{before} to {shape}"
        if widens(path, before, shape):
            value = changed[path] = widened(value, source.model)
            before = value.shape
            account.append(("widened", path, f"{what}, zeros for the channels that it lacks"))
        if inflates(path, before, shape) and model["tubelet_init"] in INFLATIONS:
            how = model["tubelet_init"]
            changed[path] = np.asarray(INFLATIONS[how](jnp.asarray(value[0]), shape[0]))
            account.append(("inflated", path, f"{what}, {how}"))
        elif not agree(before, old, shape, new):
            advice = inflation_advice(model) if inflates(path, before, shape) else ""
            faults.append(("", path, f"is {before} in the source, and {shape} here{advice}"))
        elif path in changed:
            continue
        elif path in copied:
            changed[path] = value
            account.append(("copied", path, "of the attention over space"))
        elif old is None or new is None or old == new:
            reused.append(path)
        else:
            changed[path] = resize(value, old, new)
            account.append(("resized", path, f"{what}, {change(old, new)}"))
    for path in [*source.left, *(old for new, old in theirs.items() if new not in target)]:
        why = explanation(path, dropped)
        (account if why else faults).append(("dropped", path, why or "has no place here"))
    if faults:
        raise InputError(refusal(source, faults, differences(source.model, model, SHAPING)))
    values = {path: source.params[theirs[path]] for path in reused}
    count = sum(value.size for value in values.values())
    line = f"  reused   {len(reused)} parameters, {count:,} values"
    return values | changed, [line, *grouped(account)]


def copies(source: Source, theirs: Mapping[str, str], target: Paths) -> dict[str, str]:
    """Returns paths of attention over time, and of its norm, to the source's over space.

    As TimeSformer starts, and ViViT's model 3, whose published code leaves the norm as it was.

    Args:
      source: where weights come from.
      theirs: paths in the source by paths of the target.
      target: the latter.

    Raises:
      InputError: there are none.
    """
    found = {}
    if gains_time(source.params, target):
        over_space = {
            path: re.sub(r"(/attention_(?:norm_)?)0/", r"\g<1>1/", path) for path in target
        }
        found = {t: theirs[s] for t, s in over_space.items() if t != s and s in theirs}
    if not found:
        raise InputError(
            "config.init_time_from_space = True: the blocks of this run have no attention over "
            f"time beside that over space, or those of {source.where} have one too. Set it to "
            "False."
        )
    return found


def inflates(path: str, before: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Returns whether a kernel of one frame's patches is to become one of several frames'."""
    kernel = path.endswith("/tubelets/kernel")
    return kernel and before[0] == 1 < shape[0] and before[1:] == shape[1:]


def widens(path: str, before: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Returns whether a kernel of three channels is to become one of six."""
    return path.endswith(SEE_PIXELS) and (before[-2], shape[-2]) == (3, 6)


def widened(
    kernel: Float[np.ndarray, "*sides 3 D"], model: Mapping[str, Any]
) -> Float[np.ndarray, "*sides 6 D"]:
    """Returns a kernel for colours and differences, which sees what it saw.

    Args:
      kernel: of colours, or of differences alone.
      model: the options of config.model that it was trained with.
    """
    parts = [kernel, np.zeros_like(kernel)]
    return np.concatenate(parts[:: -1 if model.get("difference") == "only" else 1], axis=-2)


def inflation_advice(model: Mapping[str, Any]) -> str:
    """Returns what to do where nothing says how to inflate."""
    return (
        f"; to inflate it, config.model.tubelet_init = {model['tubelet_init']!r} must be one of "
        f"{', '.join(INFLATIONS)}"
    )


def table_of(path: str, shapes: Mapping[str, tuple[int, ...]], axes: Axes) -> Table | None:
    """Returns what the rows of a table of positions are; None for any other parameter.

    Args:
      path: of the parameter.
      shapes: of all parameters of its encoder, by path.
      axes: (slots, rows, columns) of a whole clip.
    """
    stack, name = path.split("/")[-2:]
    if name not in ("position", "position_space", "position_time"):
        return None
    t, h, w = axes
    if name == "position_time":
        return Table(0, (t, 1, 1))
    classes = int(path.replace(f"/{name}", "/class_token") in shapes)
    if stack == "time":
        return Table(classes, (t, 1, 1))
    one_slot = stack == "space" or name == "position_space" or shapes[path][1] == classes + h * w
    return Table(classes, (1, h, w) if one_slot else axes)


def agree(
    old_shape: tuple[int, ...], old: Table | None, shape: tuple[int, ...], new: Table | None
) -> bool:
    """Returns whether a parameter of the source can become one of the target."""
    if old is None or new is None:
        return old_shape == shape
    return (old_shape[1], shape[1]) == (old.rows, new.rows) and old_shape[2] == shape[2]


def change(old: Table, new: Table) -> str:
    """Returns in words what becomes of a table of positions."""
    grid = "the grid stays" if old.axes == new.axes else f"grid {old.axes} to {new.axes}"
    if old.classes == new.classes:
        return grid
    return f"{grid}, the class token's row is {'fresh' if new.classes else 'dropped'}"


def resize(table: Float[np.ndarray, "1 M D"], old: Table, new: Table) -> Float[np.ndarray, "1 N D"]:
    """Returns a table of positions for another grid; without a class row where it had none."""
    grid = table[0, old.classes :].reshape(*old.axes, -1)
    if old.axes != new.axes:
        grid = np.asarray(jax.image.resize(grid, (*new.axes, grid.shape[-1]), "linear"))
    classes = table[:, : min(old.classes, new.classes)]
    return np.concatenate([classes, grid.reshape(1, -1, table.shape[2])], axis=1)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], names: Sequence[str]) -> str:
    """Returns the options of a model, among `names`, that are not the same."""
    changed = [name for name in names if name in old and old[name] != new.get(name)]
    return ", ".join(f"config.model.{n} = {old[n]!r} (here {new.get(n)!r})" for n in changed)


def grouped(rows: Iterable[tuple[str, str, str]]) -> list[str]:
    """Returns a line for each (what, path, why), in which equal blocks share one."""
    counts = Counter((what, re.sub(r"block_\d+", "block_*", path), why) for what, path, why in rows)
    return [
        f"  {what:8} {path}{f' ({count} times)' if count > 1 else ''}: {why}"
        for (what, path, why), count in counts.items()
    ]


def refusal(source: Source, faults: Iterable[tuple[str, str, str]], changed: str) -> str:
    """Returns the message about parameters that nothing explains.

    Args:
      source: where they come from.
      faults: rows for `grouped`.
      changed: options of the model that are not the same.
    """
    lines = "\n".join(f"  {line.strip()}" for line in grouped(faults))
    cause = f"It was trained with {changed}. " if changed else ""
    return (
        f"config.init_from: {source.where} does not fit this encoder:\n{lines}\n{cause}Give this "
        "run the same options of config.model, or another config.init_from."
    )
