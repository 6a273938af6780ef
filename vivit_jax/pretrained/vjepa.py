"""V-JEPA's own checkpoints (.pth.tar, .pt), of V-JEPA 1 and 2: encoder and predictor.

A file holds the encoder, its slow average "target_encoder" and the predictor, as state_dicts of
wrapped modules, beside the optimiser's state. Neither numbers of heads nor, with rotary positions,
the size of clips is told by any array; fixed positions are, and their values tell the grid.

Sources: Bardes et al. 2024 (V-JEPA 1: fixed positions), Assran et al. 2025 (V-JEPA 2: rotary).
"""

import itertools
import pathlib
import re
from typing import Any

import numpy as np

from vivit_jax.errors import InputError
from vivit_jax.models.positions import Axes, sincos_3d_table
from vivit_jax.pretrained.found import Found, about_rate, shape
from vivit_jax.pretrained.originals import IMAGENET, block, dims
from vivit_jax.pretrained.rules import Arrays, Left, Rule, dense, norm, tubelets
from vivit_jax.pretrained.torch_file import read_torch, state_dict

HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 22}  # of encoders, by width
PREDICTOR_HEADS = 12  # of V-JEPA 2; those of V-JEPA 1 are the encoder's
CLIP = (64, 256)  # frames and side that V-JEPA 2 is loaded for unless told
ENCODERS = ("target_encoder", "encoder")  # the first is taken, as published evaluations do
WRAPPERS = r"^(module\.)?(backbone\.)?"  # of a module for several processes, and of several masks
TABLES = r"encoder\.pos_embed|predictor\.predictor_pos_embed"
LIKE = {
    "attention": "joint",
    "pool": "mean",
    "gelu": "erf",
    "norm_eps": 1e-6,
    **IMAGENET,
}
ENCODE = [
    *tubelets("encoder.patch_embed.proj"),
    *block("encoder.blocks.{i}", "encoder/blocks/block_{i}", "h"),
    *norm("encoder.norm", "encoder/blocks/norm"),
]
PREDICT = [
    *ENCODE,
    *dense("predictor.predictor_embed", "predictor/embed"),
    Rule("predictor.mask_tokens", "predictor/mask_tokens", "m 1 1 d -> m d"),
    *block("predictor.predictor_blocks.{i}", "predictor/blocks/block_{i}", "g"),
    *norm("predictor.predictor_norm", "predictor/blocks/norm"),
    *dense("predictor.predictor_proj", "predictor/out"),
]


def read(path: pathlib.Path) -> Found:
    """Returns what a file holds.

    Raises:
      InputError: it is no checkpoint of V-JEPA's.
    """
    arrays, notes = read_arrays(path)
    width, _, *tubelet = shape(arrays, "encoder.patch_embed.proj.weight", 5, str(path))
    arrays, tokens = with_one_array_of_mask_tokens(arrays, path)
    rotary, axes = positions_of(arrays.get("encoder.pos_embed"), width, tokens, path)
    heads = known_heads(width, path)
    notes.append(f"{heads} heads, as published encoders of width {width} have: no array tells.")
    frames, side = CLIP if axes is None else (axes[0] * tubelet[0], axes[1] * tubelet[1])
    if axes is None:
        notes.append(
            f"rotary positions, and clips of {frames} frames of {side} x {side}, for which V-JEPA "
            "2 is loaded unless told: no array tells. Other sizes need no other weights."
        )
    rate = {"fps": 4.0} if rotary else {"stride": 4}
    model = {
        **dims(arrays, "encoder.blocks.", width, heads, str(path)),
        "tubelet": tuple(tubelet),
        "positions": "rotary_3d_tiled" if rotary else "sincos_3d",
        **LIKE,
    }
    sizes, left = {"h": heads}, [Left(TABLES, "fixed positions, which are made anew or not read")]
    if tokens:
        objective, rules = predictor_of(arrays, heads, tokens, rotary, path), PREDICT
        sizes["g"] = objective["predictor_heads"]
    else:
        objective, rules = {"name": "encode"}, ENCODE
        left.append(Left(r"predictor\..+", "a predictor without mask tokens, as of robots' acts"))
    return Found(
        where=str(path),
        model=model,
        objective=objective,
        data={"frames": frames, "image_size": side, **rate},
        arrays=arrays,
        rules=rules,
        sizes=sizes,
        left=left,
        notes=[*notes, about_rate(rate)],
    )


def read_arrays(path: pathlib.Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns the arrays of encoder and predictor by name, and what is to be noted of them."""
    content = read_torch(path)
    held = list(content) if isinstance(content, dict) else [type(content).__name__]
    taken = next((name for name in ENCODERS if name in held), None)
    if taken is None:
        raise InputError(
            f"{path} holds {', '.join(map(str, held[:9]))}; expected target_encoder or encoder, "
            "and predictor, as V-JEPA's checkpoints of pretraining have."
        )
    notes = [f"the encoder is {taken}."]
    if taken == "target_encoder" and "encoder" in held:
        notes = [
            "the encoder is target_encoder, as in the published evaluations. The file's encoder, "
            "which PyTorch Hub takes and whose tokens the predictor learnt from, is left."
        ]
    parts = {"encoder": content[taken], "predictor": content.get("predictor") or {}}
    arrays = {
        f"{part}.{re.sub(WRAPPERS, '', name)}": array
        for part, values in parts.items()
        for name, array in state_dict(values, f"{path}: {part}").items()
    }
    return arrays, notes


def positions_of(
    table: np.ndarray | None, width: int, tokens: int, path: pathlib.Path
) -> tuple[bool, Axes | None]:
    """Returns whether positions are rotary, and the grid (slots, rows, columns) as far as told.

    Args:
      table: of fixed positions, where there is one.
      width: of the encoder.
      tokens: mask tokens of the predictor; 0 for none.
      path: of the file, for messages.

    Raises:
      InputError: fixed positions are of another kind.
    """
    if table is None:
        return True, None
    # V-JEPA 2 may have such a table beside, unread; only its predictor has more than two tokens.
    rotary, axes = tokens > 2, grid_of(table, width)
    if axes is None and not rotary:
        raise InputError(
            f"{path}: encoder.pos_embed {table.shape} is none of V-JEPA's tables of positions: "
            "sines and cosines of slot, row and column, a third of the width for each."
        )
    return rotary, axes


def grid_of(table: np.ndarray, width: int) -> Axes | None:
    """Returns (slots, rows, columns) of a table of fixed positions; None where it is another."""
    if table.shape[::2] != (1, width):
        return None
    count = table.shape[1]
    for slots in (n for n in range(1, count + 1) if count % n == 0):
        side = round((count / slots) ** 0.5)
        axes = (slots, side, side)
        if slots * side**2 == count and np.allclose(
            sincos_3d_table(axes, width), table[0], rtol=0, atol=1e-3
        ):
            return axes
    return None


def known_heads(width: int, path: pathlib.Path) -> int:
    """Returns how many heads published encoders of a width have.

    Raises:
      InputError: there are none.
    """
    if width not in HEADS:
        raise InputError(
            f"{path}: an encoder of width {width}; the number of its heads is known of published "
            f"ones only, which have {', '.join(map(str, HEADS))}."
        )
    return HEADS[width]


def predictor_of(
    arrays: Arrays, heads: int, tokens: int, rotary: bool, path: pathlib.Path
) -> dict[str, Any]:
    """Returns config.objective."""
    width = arrays["predictor.mask_tokens"].shape[-1]
    own = PREDICTOR_HEADS if rotary else heads
    inner = dims(arrays, "predictor.predictor_blocks.", width, own, str(path))
    return {
        "name": "latent_prediction",
        **{f"predictor_{name}": size for name, size in inner.items()},
        "predictor_positions": "rotary_3d_tiled" if rotary else "sincos_3d",
        "shared_mask_token": rotary,
        "mask_tokens": tokens,
    }


def with_one_array_of_mask_tokens(
    arrays: Arrays, path: pathlib.Path
) -> tuple[dict[str, np.ndarray], int]:
    """Returns arrays in which the mask tokens, each one of its own, are one; and their number.

    Raises:
      InputError: they are not alike.
    """
    every = (f"predictor.mask_tokens.{i}" for i in itertools.count())
    names = list(itertools.takewhile(arrays.__contains__, every))
    found = {name: array for name, array in arrays.items() if name not in names}
    if names:
        tokens = [arrays[name] for name in names]
        shapes = {token.shape for token in tokens}
        if len(shapes) > 1 or tokens[0].ndim != 3:
            raise InputError(
                f"{path}: predictor.mask_tokens are of {', '.join(map(str, sorted(shapes)))}; "
                "expected one shape, (1, 1, width)."
            )
        found["predictor.mask_tokens"] = np.stack(tokens)
    return found, len(names)
