"""TimeSformer's own files: divided, joint and space-only attention.

Weights lie under "model_state", and names begin with "model.". Which attention it is shows in the
parameters; positions are learned and tell the clip, but for the frames of space-only attention.

Source: github.com/facebookresearch/TimeSformer (Bertasius et al. 2021).
"""

import pathlib

from vivit_jax.pretrained.found import Found, about_rate, numbered, shape, side
from vivit_jax.pretrained.originals import (
    PYSLOWFAST,
    about_heads,
    block,
    dims,
    heads_of,
    mlp,
    weights,
)
from vivit_jax.pretrained.rules import Rule, dense, from_heads, fused, norm, tubelets
from vivit_jax.pretrained.torch_file import read_torch

STRIDES = {8: 32, 16: 16, 96: 4}  # of the published models, by their frames
FRAMES = 8  # of a clip, in the base recipe
LIKE = {"pool": "class_token", "gelu": "erf", **PYSLOWFAST}
THEIRS, OURS = "model.blocks.{i}", "encoder/blocks/block_{i}"


def step(theirs: str, number: int, theirs_norm: str) -> list[Rule]:
    """Returns the rules of one of the attention steps of a block."""
    return [
        *norm(f"{THEIRS}.{theirs_norm}", f"{OURS}/attention_norm_{number}"),
        *fused(f"{THEIRS}.{theirs}.qkv", f"{OURS}/attention_{number}"),
        *from_heads(f"{THEIRS}.{theirs}.proj", f"{OURS}/attention_{number}/out"),
    ]


def around(positions: str) -> list[Rule]:
    """Returns the rules of all but the blocks, where positions of space go to a path."""
    return [
        *tubelets("model.patch_embed.proj", frames=False),
        Rule("model.cls_token", "encoder/blocks/class_token"),
        Rule("model.pos_embed", f"encoder/blocks/{positions}"),
        Rule("model.time_embed", "encoder/blocks/position_time"),
        *norm("model.norm", "encoder/blocks/norm"),
        *dense("model.head", "head"),
    ]


RULES = {
    "divided": [
        *around("position_space"),
        *step("temporal_attn", 0, "temporal_norm1"),
        *dense(f"{THEIRS}.temporal_fc", f"{OURS}/zero_dense"),
        *step("attn", 1, "norm1"),
        *mlp(THEIRS, OURS),
    ],
    "joint": [*around("position_space"), *block(THEIRS, OURS, "h")],
    "space_only": [*around("position"), *block(THEIRS, OURS, "h")],
}


def read(path: pathlib.Path) -> Found:
    """Returns what a file holds.

    Raises:
      InputError: it is no file of TimeSformer's.
    """
    content, where = read_torch(path), str(path)
    arrays = weights(content, ("model_state",), where)
    width, _, patch, _ = shape(arrays, "model.patch_embed.proj.weight", 4, where)
    heads = heads_of(width)
    notes = [about_heads("the model", width, heads)]
    if any(".temporal_attn." in name for name in arrays):
        attention = "divided"
    else:
        attention = "joint" if "model.time_embed" in arrays else "space_only"
    if attention == "space_only":
        frames = FRAMES
        notes.append(
            f"frames are seen apart and the file does not tell how many; taken as {FRAMES}"
        )
    else:
        frames = shape(arrays, "model.time_embed", 3, where)[1]
    rows = shape(arrays, "model.pos_embed", 3, where)[1]
    rate = {"stride": STRIDES[frames]} if frames in STRIDES else {}
    notes += [about_rate(rate)] if rate else []
    return Found(
        where=where,
        model={
            **dims(arrays, "model.blocks.", width, heads, where),
            "tubelet": (1, patch, patch),
            "attention": attention,
            "positions": "learned" if attention == "space_only" else "separable",
            **LIKE,
        },
        objective={"name": "classify"},
        data={"frames": frames, "image_size": side(rows - 1, patch, where), **rate},
        arrays=arrays,
        rules=RULES[attention],
        sizes={"h": heads},
        label_maps=(numbered(shape(arrays, "model.head.bias", 1, where)[0]),),
        notes=notes,
    )
