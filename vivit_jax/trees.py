"""Trees of parameters by path, as "encoder/blocks/block_0/mlp_in/kernel"."""

from collections.abc import Collection, Mapping
from typing import Any

from flax import traverse_util
from jax.tree_util import keystr, tree_leaves_with_path


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
