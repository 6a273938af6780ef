"""Image ViTs as .npz: AugReg's and others of vision_transformer, and big_vision's.

A picture is a clip of one frame, its patch a tubelet of one: so an image model is one of ours, and
config.init_from inflates it (fitting.py). Names were three: with parts of a block counted together;
positions within the transformer and over the class token too; and today's, where positions are at
the top, the class token has none, and all blocks may lie in one array.

Sources: google-research/vision_transformer and google-research/big_vision.
"""

import math
import pathlib

import jax.numpy as jnp
import numpy as np

from vivit_jax.errors import InputError
from vivit_jax.pretrained import linen
from vivit_jax.pretrained.files import read_npz
from vivit_jax.pretrained.found import Found, numbered, side
from vivit_jax.pretrained.rules import Left, Rule, renamed

NAMES = (
    *linen.PRE_LINEN,
    (r"^Transformer/(posembed_input/)?pos_embedding$", "pos_embedding"),
)
LEFT = {  # parts of heads that we do not have: why they are left
    "pre_logits": "a layer with a tanh before the head, which has no place here",
    "MAPHead_0": "a head that pools by attention, which has no place here",
}


def read(path: pathlib.Path) -> Found:
    """Returns what a file holds.

    Raises:
      InputError: it is no .npz of an image ViT.
    """
    everything = read_npz(path)
    ends = "embedding/kernel"
    prefixes = [name.removesuffix(ends) for name in everything if name.endswith(ends)]
    if len(prefixes) != 1:
        raise InputError(
            f"{path} holds {len(prefixes)} arrays named {ends}, of {len(everything)}; expected one "
            "image ViT."
        )
    arrays = {
        renamed(name.removeprefix(prefixes[0]), NAMES): numbers(array)
        for name, array in everything.items()
        if name.startswith(prefixes[0])
    }
    notes = []
    if beside := len(everything) - len(arrays):
        notes.append(
            f"{beside} arrays beside {prefixes[0]} are not read (an optimiser's, a text's)."
        )
    return vit(arrays, str(path), notes)


def numbers(array: np.ndarray) -> np.ndarray:
    """Returns an array; bfloat16 is written as pairs of bytes, for NumPy has none."""
    return array.view(jnp.bfloat16) if array.dtype == np.dtype("V2") else array


def vit(arrays: dict[str, np.ndarray], where: str, notes: list[str]) -> Found:
    """Returns an image ViT.

    Args:
      arrays: by the names of today.
      where: the file is, for messages.
      notes: so far.

    Raises:
      InputError: the shapes are none of a ViT's.
    """
    model = linen.joint(arrays, where)
    patch = model["tubelet"][1]
    classes = int("cls" in arrays)
    given = {**arrays, "pos_embedding": table(arrays, patch, model["width"], where)}
    if "pos_embedding" not in arrays:
        notes.append(
            "positions are not in the file: the fixed sinusoids of rows and columns, for "
            f"{linen.SIDE} pixels; here they are a table that is learned on."
        )
    lost = sorted({name.split("/")[0] for name in arrays} & LEFT.keys())
    classifies = "head/kernel" in arrays and not lost
    scanned = "Transformer/encoderblock/LayerNorm_0/scale" in arrays
    stack = "Transformer/encoderblock" if scanned else "Transformer/encoderblock_{i}"
    return Found(
        where=where,
        model={
            **model,
            "positions": "learned",
            "pool": "class_token" if classes else "mean",
        },
        objective={"name": "classify" if classifies else "encode"},
        data={
            "frames": 1,
            "image_size": side(given["pos_embedding"].shape[1] - classes, patch, where),
        },
        arrays=given,
        rules=[
            *linen.embedding(arrays),
            Rule("pos_embedding", "encoder/blocks/position"),
            Rule("cls", "encoder/blocks/class_token"),
            *linen.block(stack, "encoder/blocks/block_{i}"),
            *linen.norm("Transformer/encoder_norm", "encoder/blocks/norm"),
            *(linen.dense("head", "head") if classifies else ()),
        ],
        sizes={},
        label_maps=(numbered(len(arrays["head/bias"])) if classifies else (),),
        left=[
            *(Left(f"{name}/.+", why) for name, why in LEFT.items()),
            *(() if classifies else [Left("head/.+", "a head on what is left before it")]),
        ],
        notes=notes,
    )


def table(arrays: dict[str, np.ndarray], patch: int, width: int, where: str) -> np.ndarray:
    """Returns positions [1 N D], a row for the class token among them where there is one.

    Raises:
      InputError: they fill no square.
    """
    if "pos_embedding" not in arrays:
        if width % 4:
            raise InputError(f"{where} has no pos_embedding, and a width of {width} no sinusoids.")
        found = sincos_2d(linen.SIDE // patch, width)
    else:
        found = arrays["pos_embedding"]
        if found.ndim != 3 or found.shape[1] < 1:
            raise InputError(
                f"{where}: pos_embedding is {found.shape}; expected (1, places, width)."
            )
        rows = found.shape[1]
        if "cls" not in arrays or math.isqrt(rows - 1) ** 2 == rows - 1:
            return found
    return linen.without_position(found) if "cls" in arrays else found


def sincos_2d(cells: int, width: int) -> np.ndarray:
    """Returns big_vision's fixed positions, float32 [1 cells * cells width].

    A quarter of the width each for sine and cosine of the column, then of the row; the last
    frequency is 1 / 10000 (and not the one before it, as elsewhere).
    """
    quarter = width // 4
    frequencies = 10000.0 ** (-np.arange(quarter) / (quarter - 1))
    row, column = np.indices((cells, cells)).reshape(2, -1, 1) * frequencies
    parts = [np.sin(column), np.cos(column), np.sin(row), np.cos(row)]
    return np.concatenate(parts, axis=1)[None].astype(np.float32)
