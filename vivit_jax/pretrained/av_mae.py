"""AV-MAE's models of video alone, in Scenic's checkpoints: pretrained, and fine-tuned.

They differ from ViViT in where positions are: added before the class token joins, which has none,
and at the top of the tree where they are learned; published configs fix them (sinusoids of the flat
index), and a file then says nothing of its clips. The decoder predicts pixels of [-1, 1].

Source: google-research/scenic, projects/av_mae; Georgescu et al. 2023.
"""

from typing import Any

import numpy as np
from einops import rearrange

from vivit_jax.errors import InputError
from vivit_jax.models.positions import Axes
from vivit_jax.pretrained import linen
from vivit_jax.pretrained.found import Found, numbered, side
from vivit_jax.pretrained.rules import Arrays, Rule

PRETRAINED, FINETUNED = 16, 32  # frames of a clip
FIXED = "its positions are not in the file: sinusoids of the flat index, as published configs say."
TABLES = ("pos_embedding", "pos_embedding_space", "pos_embedding_time")


def positions(arrays: Arrays, layer: str) -> str:
    """Returns the kind of positions of a stack, by what a layer has in the file."""
    if f"{layer}/pos_embedding_space" in arrays:
        return "separable"
    return "learned" if f"{layer}/pos_embedding" in arrays else "sincos_1d"


def table_rules(layer: str, ours: str) -> list[Rule]:
    """Returns the rules of positions, of whichever kind."""
    names = ("position", "position_space", "position_time")
    return [
        Rule(f"{layer}/{theirs}", f"{ours}/{mine}")
        for theirs, mine in zip(TABLES, names, strict=True)
    ]


def flat(arrays: Arrays) -> dict[str, np.ndarray]:
    """Returns the arrays with tables of positions as [1 N D], the class token's row among them.

    AV-MAE's class token has no position, so that its row is of zeros.
    """
    given = dict(arrays)
    for name, array in arrays.items():
        kind = name.split("/")[-1]
        if kind not in TABLES:
            continue
        table = array if array.ndim == 3 else rearrange(array, "a t s d -> a (t s) d")
        classes = "cls" in arrays and kind != "pos_embedding_time"
        given[name] = linen.without_position(table) if classes else table
    return given


def grid(arrays: Arrays, frames: int, where: str) -> tuple[Axes, list[str]]:
    """Returns (slots, rows, columns) of the tokens, and notes about them.

    Args:
      arrays: as the file has them.
      frames: of clips, where the file does not tell.
      where: the file is, for messages.
    """
    size = linen.tubelet(arrays, where)
    slots, rows = max(1, frames // size[0]), linen.SIDE // size[1]
    for layer in ("posembed_input", "posembed_decoder"):
        kind = positions(arrays, layer)
        if kind == "separable":
            space, time = (arrays[f"{layer}/{name}"].shape for name in TABLES[1:])
            rows = side(space[2], 1, where)
            return (time[1], rows, rows), []
        if kind == "learned":
            return linen.guess(arrays[f"{layer}/pos_embedding"].shape[1], size, where)
    return (slots, rows, rows), [f"{FIXED} Clips of any number of frames and size will do."]


def pretrained(arrays: Arrays, where: str) -> Found:
    """Returns a masked autoencoder.

    Raises:
      InputError: the shapes are none of theirs, or it has a class token.
    """
    if "cls" in arrays:
        raise InputError(
            f"{where} is a masked autoencoder with a class token, which its decoder sees as well; "
            "expected one without (classifier = 'none')."
        )
    size = linen.tubelet(arrays, where)
    axes, notes = grid(arrays, PRETRAINED, where)
    decoder = linen.sizes(arrays, "Decoder", where)
    shown = linen.find(arrays, "output_projection/bias", where).shape[0]
    wanted = {"all": int(np.prod(size)) * 3, "central": size[1] * size[2] * 3}
    frames = next((kind for kind, out in wanted.items() if out == shown), None)
    if frames is None:
        raise InputError(
            f"{where} predicts {shown} values of a token; expected {wanted['all']}, of all its "
            f"pixels, or {wanted['central']}, of one frame."
        )
    notes.append(
        "which tokens were masked, and whether targets were standardised, is not in the file: as "
        "in the published configs 90% at random, and pixels as they are."
    )
    objective: dict[str, Any] = {
        "name": "masked_pixels",
        "mask": "random",
        "mask_ratio": 0.9,
        "target_frames": frames,
        "target_normalised": "input",
        **{f"decoder_{name}": value for name, value in decoder.items()},
        "decoder_positions": positions(arrays, "posembed_decoder"),
        "decoder_embed_bias": "decoder_projection/bias" in arrays,
    }
    return Found(
        where=where,
        model={
            **linen.joint(arrays, where),
            "positions": positions(arrays, "posembed_input"),
            "pool": "mean",
        },
        objective=objective,
        data=linen.clip(axes, size),
        arrays=flat(arrays),
        rules=[
            *linen.embedding(arrays),
            *table_rules("posembed_input", "encoder/blocks"),
            *linen.stack("Transformer", "encoder/blocks"),
            *linen.dense("decoder_projection", "decoder/embed"),
            Rule("mask_token", "decoder/mask_tokens", "1 m d -> m d"),
            *table_rules("posembed_decoder", "decoder/blocks"),
            *linen.stack("Decoder", "decoder/blocks"),
            *linen.dense("output_projection", "decoder/out"),
        ],
        sizes={},
        notes=notes,
    )


def finetuned(arrays: Arrays, where: str) -> Found:
    """Returns a classifier, whose summary is the class token or the mean over tokens.

    Raises:
      InputError: the shapes are none of theirs.
    """
    size = linen.tubelet(arrays, where)
    axes, notes = grid(arrays, FINETUNED, where)
    mean = "encoder_norm/scale" in arrays
    classes = linen.find(arrays, "output_projection/bias", where).shape[0]
    return Found(
        where=where,
        model={
            **linen.joint(arrays, where),
            "positions": positions(arrays, "posembed_input"),
            "pool": "mean" if mean else "class_token",
            "norm_summary": mean,
        },
        objective={"name": "classify"},
        data=linen.clip(axes, size),
        arrays=flat(arrays),
        rules=[
            *linen.embedding(arrays),
            *table_rules("posembed_input", "encoder/blocks"),
            Rule("cls", "encoder/blocks/class_token"),
            *linen.stack("Transformer", "encoder/blocks"),
            *linen.norm("encoder_norm", "encoder/blocks/summary_norm"),
            *linen.dense("output_projection", "head"),
        ],
        sizes={},
        label_maps=(numbered(classes),),
        notes=notes,
    )
