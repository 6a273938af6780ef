"""Bytes of one device: what a state takes by its shapes, and what the compiler says of a step."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from vivit_jax import sharding
from vivit_jax.run import Run
from vivit_jax.trees import by_path, split

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_FULL = re.compile(r"\(?(\d+(?:\.\d+)?)([KMG])\)?(?: of |\) exceeds available HBM \()")


class Held(NamedTuple):
    """Bytes that a device holds between steps, and gradients, which it holds within one.

    Attributes:
      parameters: learnt and frozen.
      optimiser: what it remembers of gradients.
      average: of weights.
      batch: the device's share.
      gradients: of what is learnt; a compiler may never have all of them at once.
    """

    parameters: int
    optimiser: int
    average: int
    batch: int
    gradients: int

    @property
    def arguments(self) -> int:
        """What a step is given."""
        return self.parameters + self.optimiser + self.average + self.batch


class Used(NamedTuple):
    """Bytes of a device in a step, as its compiler plans them.

    Attributes:
      arguments: state and batch.
      outputs: what does not take the place of an argument.
      temporaries: gradients, activations and all else; inf where only the sum is known.
      program: of the code.
    """

    arguments: float
    outputs: float
    temporaries: float
    program: float

    @property
    def total(self) -> float:
        """All of them."""
        return sum(self)


class Group(NamedTuple):
    """Parameters that differ only in the number of their block.

    Attributes:
      path: with * for the number.
      arrays: how many.
      shape: of each.
      spec: what each axis is split by.
      device_bytes: of all of them, on a device.
      whole: see sharding.left_whole.
    """

    path: str
    arrays: int
    shape: tuple[int, ...]
    spec: str
    device_bytes: int
    whole: bool


def of_device(leaf: Any) -> int:
    """Returns the bytes of one device's part of an array, or of its shape."""
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize


def _sum(tree: Any) -> int:
    return sum(map(of_device, jax.tree.leaves(tree)))


def held(run: Run, batch: Any) -> Held:
    """Returns what a device holds, by shapes and places alone."""
    state = run.state
    learnt, _ = split(state.params, run.frozen)
    sizes = (_sum(part) for part in (state.params, state.opt_state, state.average, batch, learnt))
    return Held(*sizes)


def used(compiled: jax.stages.Compiled) -> Used:
    """Returns what the compiler says."""
    stats = compiled.memory_analysis()
    assert stats is not None
    return Used(
        stats.argument_size_in_bytes,
        stats.output_size_in_bytes - stats.alias_size_in_bytes,
        stats.temp_size_in_bytes,
        stats.generated_code_size_in_bytes,
    )


def refused(message: str, arguments: int) -> Used | None:
    """Returns what a step would use by a compiler's refusal; None where it is none for memory.

    Args:
      message: of the error.
      arguments: bytes of state and batch.
    """
    if "RESOURCE_EXHAUSTED" not in message:
        return None
    found = _FULL.search(message)
    if found is None:
        return Used(arguments, 0, math.inf, 0)
    temporaries = float(found[1]) * _UNITS[found[2]]
    if "temporaries" not in message:  # a sum
        temporaries = max(temporaries - arguments, 0)
    return Used(arguments, 0, temporaries, 0)


def groups(run: Run) -> list[Group]:
    """Returns the parameters by group, the largest on a device first."""
    kinds: dict[tuple, dict[str, Any]] = {}
    whole = sharding.left_whole(run.state.params)
    for path, leaf in by_path(run.state.params).items():
        spec = " ".join(_words(axis, run.mesh.shape) for axis in leaf.sharding.spec)
        key = re.sub(r"block_\d+", "block_*", path), leaf.shape, spec
        kinds.setdefault(key, {})[path] = leaf
    found = [
        Group(
            *(path, len(leaves), shape, spec, _sum(leaves)),
            whole=bool(leaves.keys() & whole.keys()),
        )
        for (path, shape, spec), leaves in kinds.items()
    ]
    return sorted(found, key=lambda group: -group.device_bytes)


def _words(axis: Any, sizes: Mapping[str, int]) -> str:
    """Returns what splits one axis of an array."""
    names = (axis,) if isinstance(axis, str) else axis or ()
    return "+".join(name for name in names if sizes[name] > 1) or "-"
