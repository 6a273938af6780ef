"""Bytes of one device: what the compiler says of a step, and which parameters take the most."""

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from vivit_jax import sharding
from vivit_jax.memory import of_tree
from vivit_jax.run import Run
from vivit_jax.trees import by_path

_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
_FULL = re.compile(r"\(?(\d+(?:\.\d+)?)([KMG])\)?(?: of |\) exceeds available HBM \()")


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
            *(path, len(leaves), shape, spec, of_tree(leaves)),
            whole=bool(leaves.keys() & whole.keys()),
        )
        for (path, shape, spec), leaves in kinds.items()
    ]
    return sorted(found, key=lambda group: -group.device_bytes)


def _words(axis: Any, sizes: Mapping[str, int]) -> str:
    """Returns what splits one axis of an array."""
    names = (axis,) if isinstance(axis, str) else axis or ()
    return "+".join(name for name in names if sizes[name] > 1) or "-"
