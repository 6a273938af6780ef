"""Trees of parameters by path, as "encoder/blocks/block_0/mlp_in/kernel"."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
from flax import traverse_util
from jax.tree_util import keystr, tree_leaves_with_path

_AT_ONCE = 16  # programs that are under way


def path_of(keys: tuple[Any, ...]) -> str:
    """Returns the path of a leaf."""
    return keystr(keys, simple=True, separator="/")


def by_path(tree: Any) -> dict[str, Any]:
    """Returns the leaves of a tree by path."""
    return {path_of(keys): leaf for keys, leaf in tree_leaves_with_path(tree)}


def as_tree(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested dictionaries: `by_path` undone."""
    return traverse_util.unflatten_dict(leaves, sep="/")


def split(tree: Any, paths: Collection[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns a tree without the leaves at some paths, and those alone."""
    leaves = by_path(tree)
    without = as_tree({path: leaf for path, leaf in leaves.items() if path not in paths})
    return without, as_tree({path: leaf for path, leaf in leaves.items() if path in paths})


def join(one: Any, other: Any) -> dict[str, Any]:
    """Returns the leaves of two trees as one: `split` undone."""
    return as_tree({**by_path(one), **by_path(other)})


def fetched(program: Callable[[Any], Any], arrays: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a program makes of each array, on the host.

    Several are under way at once, but no more than 16: XLA keeps room for 32 on each of a CPU's
    devices, and who waits for room takes the thread that the sum of another over all devices needs.
    """
    found, paths = {}, list(arrays)
    for start in range(0, len(paths), _AT_ONCE):
        begun = {path: program(arrays[path]) for path in paths[start : start + _AT_ONCE]}
        found |= jax.device_get(begun)
    return found
