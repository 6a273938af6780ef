"""Where arrays lie: one table from the path of a parameter to the mesh axes that split it.

The optimiser's state carries the paths of the parameters that it belongs to, so the same rows place
it. Models name no axis: what happens inside a step is left to the XLA partitioner.
"""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from vivit_jax import config
from vivit_jax.errors import InputError
from vivit_jax.trees import path_of

Tree = TypeVar("Tree")
AXES = tuple(field.name for field in dataclasses.fields(config.Mesh))
BATCH_AXES = ("dcn", "data", "fsdp")  # each splits the examples of a batch
RULES = (  # the first that a path ends in; axes of the array from the last backwards
    (r"(query|key|value)/kernel", P("fsdp", "tensor", None)),  # [D heads head_dim]
    (r"(query|key|value)/bias", P("tensor", None)),
    (r"attention_\d+/out/kernel", P("tensor", None, "fsdp")),  # [heads head_dim D]
    (r"mlp_in/kernel", P("fsdp", "tensor")),  # [D mlp_dim]
    (r"mlp_in/bias", P("tensor")),
    (r"mlp_out/kernel", P("tensor", "fsdp")),  # [mlp_dim D]
    (r"zero_dense/kernel", P("fsdp", None)),  # [D D]
    (r"tubelets/kernel", P("fsdp")),  # [frames rows columns 3 D]
    (r"head/kernel", P("fsdp", None)),  # [D K]
    (r"(decoder|predictor)/(embed|out)/kernel", P("fsdp", None)),  # [D width], [width out]
    (r"", P()),  # everything else is small, and whole on every device
)


def make_mesh(sizes: config.Mesh) -> jax.sharding.Mesh:
    """Returns all devices as a mesh; the later an axis, the nearer its devices to each other.

    Raises:
      InputError: the sizes don't multiply to the number of devices.
    """
    shape = mesh_shape(sizes, jax.device_count())
    kinds = (AxisType.Auto,) * len(shape)
    if shape["dcn"] > 1 and hasattr(jax.devices()[0], "slice_index"):
        inside = (1, *tuple(shape.values())[1:])
        across = (shape["dcn"], *(1 for _ in inside[1:]))
        devices = mesh_utils.create_hybrid_device_mesh(inside, across)
        return jax.sharding.Mesh(devices, tuple(shape), axis_types=kinds)
    return jax.make_mesh(tuple(shape.values()), tuple(shape), axis_types=kinds)


def mesh_shape(sizes: config.Mesh, devices: int) -> dict[str, int]:
    """Returns how many devices lie along each axis, outermost first.

    Raises:
      InputError: the sizes don't multiply to the number of devices; names sizes that do.
    """
    shape = {axis: getattr(sizes, axis) for axis in AXES}
    given = math.prod(n for n in shape.values() if n != -1)
    free = [axis for axis, n in shape.items() if n == -1]
    if len(free) > 1 or given < 1 or devices % given or (not free and given != devices):
        raise InputError(
            f"config.mesh = {shape} does not fit {devices} devices: the sizes must multiply to "
            "it, where one of them may be -1, for all that are left."
        )
    return {axis: devices // given if n == -1 else n for axis, n in shape.items()}


def shardings(tree: Tree, mesh: jax.sharding.Mesh) -> Tree:
    """Returns where each array of a state lies, by its path; `tree` may be abstract."""

    def place(path: tuple, leaf: Any) -> NamedSharding:
        name = path_of(path)
        spec = next(spec for pattern, spec in RULES if re.search(f"{pattern}$", name))
        axes = (None,) * (len(leaf.shape) - len(spec)) + tuple(spec)
        # An axis that an array cannot be split by leaves it whole there.
        sizes = zip(leaf.shape, axes, strict=True)
        return NamedSharding(
            mesh, P(*(a if a and n % mesh.shape[a] == 0 else None for n, a in sizes))
        )

    return jax.tree.map_with_path(place, tree)


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
    """Returns where a batch lies: split by examples, whole along the other axes."""
    return NamedSharding(mesh, P(BATCH_AXES))


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
        raise InputError(f"{name} = {batch_size}: expected a multiple of {parts}, which share it.")


def batch_parts(mesh: jax.sharding.Mesh) -> int:
    """Returns into how many parts a batch is split."""
    return math.prod(mesh.shape[axis] for axis in BATCH_AXES)


def to_devices(batch: Mapping[str, np.ndarray], mesh: jax.sharding.Mesh) -> dict[str, jax.Array]:
    """Returns the global batch of which every host gives its share."""
    sharding = batch_sharding(mesh)
    return {
        name: jax.make_array_from_process_local_data(sharding, value)
        for name, value in batch.items()
    }
