"""What flax's vision transformers have in common: their names, and what shapes tell of a model.

Google's ViT, big_vision, ViViT and AV-MAE name their parts alike, and lay parameters out as we do.
Sizes are all in the shapes, the number of heads too; what a grid of tokens is must be guessed where
one table holds a whole clip's positions.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from vivit_jax.errors import InputError
from vivit_jax.models.positions import Axes
from vivit_jax.pretrained.rules import Arrays, Rule

PRE_LINEN = (  # before 2021 all parts of a block were counted together, each kind apart since
    (r"\bLayerNorm_2/", "LayerNorm_1/"),
    (r"\bMultiHeadDotProductAttention_1/", "MultiHeadDotProductAttention_0/"),
    (r"\bMlpBlock_3/", "MlpBlock_0/"),
)
BLOCK = {  # their part of a block: ours
    "LayerNorm_0": "attention_norm_0",
    "MultiHeadDotProductAttention_0": "attention_0",
    "LayerNorm_1": "mlp_norm",
    "MlpBlock_0": "mlp",
}
PARTS = ("query", "key", "value", "out")
LIKE = {  # what all of them are
    "gelu": "tanh",
    "norm_eps": 1e-6,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
}
FRAMES, SIDE = 32, 224  # of a clip, as published models have them


def norm(theirs: str, ours: str) -> list[Rule]:
    """Returns the rules of a layer norm."""
    return [Rule(f"{theirs}/{name}", f"{ours}/{name}") for name in ("scale", "bias")]


def dense(theirs: str, ours: str) -> list[Rule]:
    """Returns the rules of a linear layer."""
    return [Rule(f"{theirs}/{name}", f"{ours}/{name}") for name in ("kernel", "bias")]


def block(theirs: str, ours: str, names: Mapping[str, str] = BLOCK) -> list[Rule]:
    """Returns the rules of the blocks of a stack."""
    rules = []
    for part, mine in names.items():
        if mine == "mlp":
            rules += dense(f"{theirs}/{part}/Dense_0", f"{ours}/mlp_in")
            rules += dense(f"{theirs}/{part}/Dense_1", f"{ours}/mlp_out")
        elif "norm" in mine:
            rules += norm(f"{theirs}/{part}", f"{ours}/{mine}")
        else:
            for layer in PARTS:
                rules += dense(f"{theirs}/{part}/{layer}", f"{ours}/{mine}/{layer}")
    return rules


def stack(theirs: str, ours: str, names: Mapping[str, str] = BLOCK) -> list[Rule]:
    """Returns the rules of a stack of blocks and of its closing norm."""
    return [
        *block(f"{theirs}/encoderblock_{{i}}", f"{ours}/block_{{i}}", names),
        *norm(f"{theirs}/encoder_norm", f"{ours}/norm"),
    ]


def sizes(arrays: Arrays, theirs: str, where: str) -> dict[str, int]:
    """Returns the width, depth, heads and mlp_dim of a stack of blocks.

    Raises:
      InputError: there is none.
    """
    prefix = f"{re.escape(theirs)}/encoderblock"
    query = find(arrays, rf"{prefix}(_0)?/\w+/query/kernel", where)
    mlp = find(arrays, rf"{prefix}(_0)?/\w+/Dense_0/kernel", where)
    numbers = {m[1] for name in arrays if (m := re.match(rf"{prefix}_(\d+)/", name))}
    if query.ndim not in (3, 4) or mlp.ndim != query.ndim - 1:
        raise InputError(
            f"{where}: a query's kernel of {query.shape} and an MLP's of {mlp.shape}; expected "
            "(width, heads, width of a head) and (width, hidden width)."
        )
    width, heads, _ = query.shape[-3:]
    depth = len(query) if query.ndim == 4 else len(numbers)  # one array for all blocks, or apart
    return {"width": width, "depth": depth, "heads": heads, "mlp_dim": mlp.shape[-1]}


def joint(arrays: Arrays, where: str) -> dict[str, Any]:
    """Returns the options of a model of joint attention that these shapes tell.

    Raises:
      InputError: as of `sizes` and `tubelet`.
    """
    return {
        **sizes(arrays, "Transformer", where),
        **LIKE,
        "tubelet": tubelet(arrays, where),
        "attention": "joint",
    }


def find(arrays: Arrays, pattern: str, where: str) -> np.ndarray:
    """Returns the array whose whole name a pattern fits.

    Raises:
      InputError: there is none.
    """
    for name, array in arrays.items():
        if re.fullmatch(pattern, name):
            return array
    tops = ", ".join(sorted({name.split("/")[0] for name in arrays})) or "nothing"
    raise InputError(f"{where} has no array like {pattern}; its parts are {tops}.")


def tubelet(arrays: Arrays, where: str) -> Axes:
    """Returns (frames, rows, columns) of a tubelet; of an image model's patch, one frame.

    Raises:
      InputError: the embedding is not one of square patches of pixels.
    """
    shape = find(arrays, "embedding/kernel", where).shape
    if len(shape) not in (4, 5) or shape[-2] != 3 or shape[-3] != shape[-4]:
        raise InputError(
            f"{where}: embedding/kernel is {shape}; expected ([frames,] side, side, 3, width), of "
            "square patches of coloured pixels."
        )
    return (shape[0] if len(shape) == 5 else 1, *shape[-4:-2])


def embedding(arrays: Arrays) -> list[Rule]:
    """Returns the rules of what makes tokens of pixels."""
    image = arrays["embedding/kernel"].ndim == 4
    layout = "r c ch d -> 1 r c ch d" if image else ""
    return [
        Rule("embedding/kernel", "encoder/tubelets/kernel", layout),
        Rule("embedding/bias", "encoder/tubelets/bias"),
    ]


def guess(tokens: int, size: Axes, where: str) -> tuple[Axes, list[str]]:
    """Returns (slots, rows, columns) of so many tokens, and a note of what else they could be.

    Where clips of 32 frames make square pictures of it, they are what it is; else those pictures
    whose sides are nearest to 224 pixels.

    Args:
      tokens: of a clip.
      size: frames, rows and columns of a tubelet.
      where: the file is, for messages.

    Raises:
      InputError: they fill no grid of square pictures.
    """
    sides = [s for s in range(1, math.isqrt(tokens) + 1) if tokens % (s * s) == 0]
    if not sides:
        raise InputError(f"{where}: {tokens} positions; expected one or more.")
    usual = [s for s in sides if tokens // (s * s) * size[0] == FRAMES and s > 1]
    side = (usual or sorted(sides, key=lambda s: abs(s * size[1] - SIDE)))[0]
    others = [f"{tokens // (s * s)} x {s} x {s}" for s in sides if s not in (side, 1)]
    axes = (tokens // (side * side), side, side)
    if not others:
        return axes, []
    found = " x ".join(map(str, axes))
    return axes, [
        f"{tokens} positions are taken for {found} (slots, rows, columns); the file cannot tell "
        f"them from {' or '.join(others)}."
    ]


def clip(axes: Axes, size: Axes) -> dict[str, int]:
    """Returns the options of config.data for clips of a grid of tokens."""
    return {"frames": axes[0] * size[0], "image_size": axes[1] * size[1]}


def without_position(table: np.ndarray) -> np.ndarray:
    """Returns a table of positions [1 N D] with a row of zeros for a class token in front."""
    return np.concatenate([np.zeros_like(table[:, :1]), table], axis=1)
