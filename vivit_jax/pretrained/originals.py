"""What the files of the originals share: where the weights lie, how blocks are named, and heads.

Their code tells the number of heads only in the function that builds a model, and not in the file.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vivit_jax.errors import InputError
from vivit_jax.pretrained.found import depth, shape
from vivit_jax.pretrained.rules import Arrays, Rule, dense, from_heads, fused, norm, to_heads
from vivit_jax.pretrained.torch_file import state_dict

IMAGENET: dict[str, Any] = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
PYSLOWFAST: dict[str, Any] = {"mean": (0.45, 0.45, 0.45), "std": (0.225, 0.225, 0.225)}
HEAD = 64  # width of a head, wherever these do not say otherwise
HEADS = {640: 8, 1280: 16, 1408: 16}  # by width: VideoMAE's and MAE-ST's huge and giant models


def weights(content: Any, keys: Sequence[str], where: str) -> dict[str, np.ndarray]:
    """Returns the weights of a file, which lie under one of some keys, or alone.

    Raises:
      InputError: they do not.
    """
    if not isinstance(content, dict):
        raise InputError(f"{where} holds {type(content).__name__}; expected weights by name.")
    for key in keys:
        if key in content:
            return state_dict(content[key], f"{where}: {key}")
    if content and all(isinstance(value, np.ndarray) for value in content.values()):
        return state_dict(content, where)
    have = ", ".join(map(str, content)) or "nothing"
    raise InputError(f"{where} holds {have}; expected weights under {' or '.join(keys)}.")


def options(content: Any, key: str) -> Mapping[str, Any]:
    """Returns the command line that a file was trained with, as far as it is told."""
    found = content.get(key) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def dims(arrays: Arrays, blocks: str, width: int, heads: int, where: str) -> dict[str, int]:
    """Returns the width, depth, heads and mlp_dim of a stack.

    Args:
      arrays: of the file.
      blocks: prefix of the numbers of its blocks.
      width: of its tokens.
      heads: of its attention.
      where: the file is, for messages.

    Raises:
      InputError: there is none.
    """
    return {
        "width": width,
        "depth": depth(arrays, blocks),
        "heads": heads,
        "mlp_dim": shape(arrays, f"{blocks}0.mlp.fc1.weight", 2, where)[0],
    }


def heads_of(width: int) -> int:
    """Returns how many heads the originals give a width.

    A head is 64 wide; where that does not divide the width, as wide as the largest power of two
    that does.
    """
    return HEADS.get(width, width // math.gcd(width, HEAD))


def about_heads(what: str, width: int, heads: int) -> str:
    """Returns a note on a number of heads that a file does not tell."""
    return f"the file does not tell {what}'s heads; taken as {heads}, each {width // heads} wide"


def block(theirs: str, ours: str, heads: str, query_value_biases: bool = False) -> list[Rule]:
    """Returns the rules of the blocks of a stack, by the names of timm's vision transformer.

    Args:
      theirs: prefix of a block.
      ours: path of a block.
      heads: name of the axis of heads.
      query_value_biases: the fused projection has no bias, and two of the three stand beside.
    """
    bias = f"({heads} k) -> {heads} k"
    attend = f"{ours}/attention_0"
    beside = [
        Rule(f"{theirs}.attn.q_bias", f"{attend}/query/bias", bias),
        Rule(f"{theirs}.attn.v_bias", f"{attend}/value/bias", bias),
    ]
    return [
        *norm(f"{theirs}.norm1", f"{ours}/attention_norm_0"),
        *fused(f"{theirs}.attn.qkv", attend, bias=not query_value_biases, heads=heads),
        *(beside if query_value_biases else []),
        *from_heads(f"{theirs}.attn.proj", f"{attend}/out", heads=heads),
        *mlp(theirs, ours),
    ]


def apart(theirs: str, ours: str, heads: str) -> list[Rule]:
    """Returns the rules of queries, keys and values that are layers of their own."""
    names = {"q": "query", "k": "key", "v": "value"}
    return [
        rule
        for short, name in names.items()
        for rule in to_heads(f"{theirs}.attn.{short}", f"{ours}/attention_0/{name}", heads=heads)
    ]


def mlp(theirs: str, ours: str) -> list[Rule]:
    """Returns the rules of the second half of a block."""
    return [
        *norm(f"{theirs}.norm2", f"{ours}/mlp_norm"),
        *dense(f"{theirs}.mlp.fc1", f"{ours}/mlp_in"),
        *dense(f"{theirs}.mlp.fc2", f"{ours}/mlp_out"),
    ]
