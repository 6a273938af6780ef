"""Trees of parameters by path, as "encoder/blocks/block_0/mlp_in/kernel"."""

from collections.abc import Mapping
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
