"""Where arrays lie: one table from the path of a parameter to the mesh axes that split it.

The optimiser's state carries the paths of the parameters that it belongs to, so the same rows place
it. Where activations lie is layout.py's.
"""

import functools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from vivit_jax import config
from vivit_jax.errors import InputError
from vivit_jax.layout import BATCH
from vivit_jax.trees import path_of

Tree = TypeVar("Tree")
AXES = ("dcn", "data", "fsdp", "sequence", "tensor")
LARGE = 2**20  # values of an array from which it is told that no axis splits it
Rule = tuple[str, P]
RULES: tuple[Rule, ...] = (  # the first that a path ends in; axes of the array, the last ones
    (r"(query|key|value)/kernel", P("fsdp", "tensor", None)),  # [D heads head_dim]
    (r"(query|key|value)/bias", P("tensor", None)),
    (r"attention/(key|value)_kernel", P("fsdp", "tensor", None)),  # an attentive pooler's
    (r"attention_\d+/out/kernel", P("tensor", None, "fsdp")),  # [heads head_dim D]
    (r"mlp_in/kernel", P("fsdp", "tensor")),  # [D mlp_dim]
    (r"mlp_in/bias", P("tensor")),
    (r"mlp_out/kernel", P("tensor", "fsdp")),  # [mlp_dim D]
    (r"zero_dense/kernel", P("fsdp", None)),  # [D D]
    (r"tubelets/kernel", P("fsdp")),  # [frames rows columns 3 D]
    (r"conv(_\w+)?/kernel", P("fsdp")),  # [rows columns channels D]
    (r"layer_\d+/(input/|hidden_)kernel", P("fsdp", None)),  # [D gates * D], an LSTM's or GRU's
    (r"head/kernel", P("fsdp", None)),  # [D K]
    (r"(embed|(decoder|predictor)/out)/kernel", P("fsdp", None)),  # [D width], [width out]
    (r"position(_space|_time)?", P("fsdp")),  # [1 N D]
)  # everything else is small, and whole on every device


class Rows(NamedTuple):
    """Which videos of every batch this process gives, by their numbers in the batch, rising.

    Attributes:
      given: what its devices hold; where an axis that splits no batch spans processes, several of
        them give the same.
      counted: those of them that no process before it gives: over all processes, each is once.
    """

    given: np.ndarray
    counted: np.ndarray


def make_mesh(sizes: config.Mesh, devices: Sequence[Any] | None = None) -> jax.sharding.Mesh:
    """Returns devices as a mesh; the later an axis, the nearer its devices to each other.

    Args:
      sizes: of its axes.
      devices: None for all that there are.

    Raises:
      InputError: the sizes don't multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    shape = mesh_shape(sizes, len(devices))
    kinds = (AxisType.Auto,) * len(shape)
    if shape["dcn"] > 1 and hasattr(devices[0], "slice_index"):
        inside = (1, *tuple(shape.values())[1:])
        across = (shape["dcn"], *(1 for _ in inside[1:]))
        grid = mesh_utils.create_hybrid_device_mesh(inside, across, devices)
        return jax.sharding.Mesh(grid, tuple(shape), axis_types=kinds)
    return jax.make_mesh(tuple(shape.values()), tuple(shape), kinds, devices=devices)


def mesh_shape(sizes: config.Mesh, devices: int) -> dict[str, int]:
    """Returns how many devices lie along each axis, outermost first.

    Raises:
      InputError: the sizes don't multiply to the number of devices; names the nearest that do.
    """
    given = (sizes.dcn, sizes.data, sizes.fsdp, sizes.sequence, sizes.tensor)
    shape: dict[str, int] = dict(zip(AXES, given, strict=True))
    known = math.prod(n for n in given if n != -1)
    free = given.count(-1)
    if free > 1 or known < 1 or devices % known or (not free and known != devices):
        nearest = ", ".join(f"{axis}={n}" for axis, n in nearest_shape(shape, devices).items())
        raise InputError(
            f"config.mesh = {shape} does not fit {devices} devices: the sizes must multiply to "
            "it, where one of them may be -1, for all that are left. The nearest that do: "
            f"{nearest}."
        )
    return {axis: devices // known if n == -1 else n for axis, n in shape.items()}


def nearest_shape(shape: Mapping[str, int], devices: int) -> dict[str, int]:
    """Returns sizes that multiply to the number of devices, as like the given ones as can be."""

    def far(n: int, wanted: int) -> float:
        distance = abs(math.log(n / wanted)) if wanted > 0 else 0.0
        return 2 * distance if wanted == 1 else distance  # an axis that is not used stays so

    @functools.cache
    def fill(axes: tuple[str, ...], left: int) -> tuple[float, tuple[int, ...]]:
        if not axes:
            return (0.0, ()) if left == 1 else (math.inf, ())
        choices = []
        for n in divisors(left):
            rest, sizes = fill(axes[1:], left // n)
            choices.append((far(n, shape[axes[0]]) + rest, (n, *sizes)))
        return min(choices)

    return dict(zip(shape, fill(tuple(shape), devices)[1], strict=True))


def divisors(n: int) -> list[int]:
    """Returns the numbers that divide n, rising."""
    return [i for i in range(1, n + 1) if n % i == 0]


def check_divides(name: str, parts: int, what: str, whole: int) -> None:
    """Refuses an axis of the mesh that cannot share something equally.

    Args:
      name: of the axis.
      parts: devices along it.
      what: is shared.
      whole: how many of it there are.

    Raises:
      InputError: names both numbers, and the axis sizes that would do.
    """
    if whole % parts:
        choices = ", ".join(map(str, divisors(whole)))
        raise InputError(
            f"config.mesh.{name} = {parts} does not divide the {whole} {what}, which it shares; "
            f"expected one of {choices}."
        )


def given_rules(sizes: config.Mesh, paths: Collection[str]) -> tuple[Rule, ...]:
    """Returns config.mesh.rules and RULES.

    Args:
      sizes: with the rules.
      paths: of the parameters.

    Raises:
      InputError: a rule of the config is none, or no path ends in it.
    """
    rules = []
    for row in sizes.rules:
        pattern, _, axes = row.rpartition("=")
        names = tuple(None if axis == "-" else axis for axis in axes.split())
        if not pattern or {*names} - {None, *AXES}:
            raise InputError(
                f"config.mesh.rules: {row!r}; expected PATTERN=AXES, with axes of "
                f"{', '.join(AXES)}, or -, such as 'mlp_in/kernel=fsdp tensor'."
            )
        try:
            matched = any(re.search(f"(?:{pattern})$", path) for path in paths)
        except re.error as error:
            raise InputError(f"config.mesh.rules: {row!r}: {error}.") from error
        if not matched:
            shown = ", ".join(sorted(paths)[:5])
            raise InputError(
                f"config.mesh.rules: no parameter's path ends in {pattern!r}; some that there are: "
                f"{shown}."
            )
        rules.append((pattern, P(*names)))
    return (*rules, *RULES)


def place(name: str, shape: tuple[int, ...], mesh: jax.sharding.Mesh, rules: Sequence[Rule]) -> P:
    """Returns which mesh axes split an array of this path.

    What "fsdp" splits, "sequence" splits further: its devices would hold the same otherwise.
    """

    def fitting(axis: str | None, n: int) -> Any:
        both, more = ("fsdp", "sequence"), mesh.shape["sequence"] > 1 and "sequence" not in spec
        if axis == "fsdp" and more and n % _size(mesh.shape, both) == 0:
            return both
        # An axis that an array cannot be split by leaves it whole there.
        return axis if axis and n % mesh.shape[axis] == 0 else None

    found = (spec for pattern, spec in rules if re.search(f"(?:{pattern})$", name))
    spec = next(found, P())[-len(shape) :] if shape else ()
    axes = (None,) * (len(shape) - len(spec)) + tuple(spec)
    return P(*(fitting(axis, n) for n, axis in zip(shape, axes, strict=True)))


def _size(sizes: Mapping[str, int], axes: Sequence[str]) -> int:
    return math.prod(sizes[axis] for axis in axes)


def shardings(tree: Tree, mesh: jax.sharding.Mesh, rules: Sequence[Rule] = RULES) -> Tree:
    """Returns where each array of a state lies, by its path; `tree` may be abstract."""
    return jax.tree.map_with_path(
        lambda path, x: NamedSharding(mesh, place(path_of(path), x.shape, mesh, rules)), tree
    )


def left_whole(params: Any) -> dict[str, int]:
    """Returns the large parameters that no axis splits, and how many values each has.

    They are meant to be whole where no axis of the mesh splits parameters.

    Args:
      params: arrays or shapes, with where they lie.
    """

    def meant(place: NamedSharding) -> bool:
        return _size(place.mesh.shape, ("fsdp", "sequence", "tensor")) == 1

    return {
        path_of(path): x.size
        for path, x in jax.tree.leaves_with_path(params)
        if x.size >= LARGE and x.sharding.is_fully_replicated and not meant(x.sharding)
    }


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns where a batch lies: split by examples, whole along the other axes."""
    return NamedSharding(mesh, P(BATCH))


def replicated(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns where what every device has a copy of lies."""
    return NamedSharding(mesh, P())


def check_batch(name: str, batch_size: int, mesh: jax.sharding.Mesh) -> None:
    """Refuses a batch that the devices cannot share equally.

    Raises:
      InputError: names the field.
    """
    parts = batch_parts(mesh)
    if batch_size % parts:
        below = batch_size // parts * parts
        nearest = f"{below} or {below + parts}" if below else f"{parts}"
        raise InputError(
            f"{name} = {batch_size}: expected a multiple of {parts}, the devices that share it "
            f"(config.mesh: {' * '.join(BATCH)}), such as {nearest}."
        )


def batch_parts(mesh: jax.sharding.Mesh) -> int:
    """Returns into how many parts a batch is split."""
    return _size(mesh.shape, BATCH)


@functools.lru_cache
def rows_of(mesh: jax.sharding.Mesh, videos: int, clips: int = 1) -> Rows:
    """Returns the rows of a batch that this process gives, wherever its devices stand in the mesh.

    Args:
      mesh: the devices.
      videos: in the batch.
      clips: of a video, which stand side by side in the batch; one process gives them all.

    Raises:
      InputError: a process would give a part of a video's clips.
    """
    count, held = videos * clips, {}
    for device, (part,) in batch_sharding(mesh).devices_indices_map((count,)).items():
        held.setdefault(device.process_index, set()).add(part.indices(count)[:2])
    given = {}
    for process, runs in sorted(held.items()):
        rows = np.concatenate([np.arange(*run) for run in sorted(runs)])
        given[process] = np.unique(rows // clips)
        if len(given[process]) * clips != len(rows):
            raise InputError(
                f"Process {process} would give {len(rows)} of the {count} clips of a batch, and "
                f"the {clips} clips of a video belong together: expected config.data.batch_size = "
                f"{videos} to be a multiple of {batch_parts(mesh)}, or config.data.repeats = 1."
            )
    own = given[jax.process_index()]
    before = [rows for process, rows in given.items() if process < jax.process_index()]
    return Rows(own, np.setdiff1d(own, np.concatenate([*before, own[:0]])))


def to_devices(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """Returns the global batch, of which every process gives its rows; see `rows_of`."""
    sharding, parts = batch_sharding(mesh), batch_parts(mesh)
    held = rows_of(mesh, parts).given

    def place(value: np.ndarray) -> jax.Array:
        size = len(value) // len(held)

        def part(index: Any) -> np.ndarray:
            first = np.searchsorted(held, (index[0].start or 0) // size) * size
            return value[first : first + size]

        shape = (size * parts, *value.shape[1:])
        return jax.make_array_from_callback(shape, sharding, part)

    return {name: place(value) for name, value in batch.items()}
