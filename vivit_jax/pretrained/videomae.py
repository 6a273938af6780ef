"""VideoMAE's and VideoMAE v2's own files: pretraining and classification.

Weights lie under "model", or "module" where DeepSpeed wrote the file; the command line, where it
is there, under "args". Keys have no bias. Positions are fixed and not in the file, so nothing but
the command line tells the clip; the model takes any.

Source: github.com/MCG-NJU/VideoMAE, github.com/OpenGVLab/VideoMAEv2 (Tong et al. 2022; Wang et al.
2023).
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from vivit_jax.pretrained.found import Found, about_rate, numbered, shape
from vivit_jax.pretrained.originals import (
    IMAGENET,
    about_heads,
    block,
    dims,
    heads_of,
    options,
    weights,
)
from vivit_jax.pretrained.rules import Arrays, Rule, dense, norm, tubelets
from vivit_jax.pretrained.torch_file import read_torch

STRIDE = 4  # on Kinetics
LIKE = {  # what every VideoMAE is, Hugging Face's too
    "attention": "joint",
    "positions": "sincos_1d",
    "pool": "mean",
    "key_bias": False,
}
CLASSIFY = [
    *tubelets("patch_embed.proj"),
    *block("blocks.{i}", "encoder/blocks/block_{i}", "h", query_value_biases=True),
    *norm("fc_norm", "encoder/blocks/summary_norm"),
    *dense("head", "head"),
]
PRETRAIN = [
    *tubelets("encoder.patch_embed.proj"),
    *block("encoder.blocks.{i}", "encoder/blocks/block_{i}", "h", query_value_biases=True),
    *norm("encoder.norm", "encoder/blocks/norm"),
    *dense("encoder_to_decoder", "decoder/embed", bias=False),
    Rule("mask_token", "decoder/mask_tokens", "1 m d -> m d"),
    *block("decoder.blocks.{i}", "decoder/blocks/block_{i}", "g", query_value_biases=True),
    *norm("decoder.norm", "decoder/blocks/norm"),
    *dense("decoder.head", "decoder/out"),
]


def read(path: pathlib.Path) -> Found:
    """Returns what a file holds.

    Raises:
      InputError: it is no file of VideoMAE's.
    """
    content, where = read_torch(path), str(path)
    arrays, args = weights(content, ("model", "module"), where), options(content, "args")
    pretrains = any(name.startswith("encoder.") for name in arrays)
    prefix = "encoder." if pretrains else ""
    width, _, step, patch, _ = shape(arrays, f"{prefix}patch_embed.proj.weight", 5, where)
    heads = heads_of(width)
    model = {
        **dims(arrays, f"{prefix}blocks.", width, heads, where),
        "tubelet": (step, patch, patch),
        "norm_summary": not pretrains,
        "gelu": "erf",
        **LIKE,
        **IMAGENET,
    }
    data, notes = clip(args, step, patch)
    rate = {"stride": args.get("sampling_rate", STRIDE)}
    notes = [about_heads("the encoder", width, heads), *notes]
    notes += [] if "sampling_rate" in args else [about_rate(rate)]
    sizes, objective, label_maps = {"h": heads}, {"name": "classify"}, ((),)
    if pretrains:
        objective, more = decoder(arrays, args, where)
        sizes["g"] = objective["decoder_heads"]
        notes += more
    else:
        label_maps = (numbered(shape(arrays, "head.bias", 1, where)[0]),)
    return Found(
        where=where,
        model=model,
        objective=objective,
        data={**data, **rate},
        arrays=arrays,
        rules=PRETRAIN if pretrains else CLASSIFY,
        sizes=sizes,
        label_maps=label_maps,
        notes=notes,
    )


def clip(args: Mapping[str, Any], step: int, patch: int) -> tuple[dict[str, int], list[str]]:
    """Returns the clips that a file was trained on, or those of the papers, and notes."""
    told = (args.get("num_frames"), args.get("num_segments", 1), args.get("input_size"))
    known = [value for value in told if type(value) is int]
    if len(known) == 3:
        frames, segments, side = known
        return {"frames": frames * segments, "image_size": side}, []
    frames = 16 if 16 % step == 0 else 8 * step
    side = 224 if 224 % patch == 0 else 14 * patch
    note = (
        f"the file does not tell its clips; taken as {frames} x {side} x {side}. Positions are "
        "fixed, so the same weights take clips of any size."
    )
    return {"frames": frames, "image_size": side}, [note]


def decoder(
    arrays: Arrays, args: Mapping[str, Any], where: str
) -> tuple[dict[str, Any], list[str]]:
    """Returns config.objective of a file from pretraining, and notes."""
    width = shape(arrays, "encoder_to_decoder.weight", 2, where)[0]
    heads = heads_of(width)
    notes = [about_heads("the decoder", width, heads)]
    if not args:
        notes.append(
            "the file does not tell how it was masked; taken as VideoMAE: tubes, 90 % hidden, all "
            "of these decoded, and targets normalised"
        )
    inner = dims(arrays, "decoder.blocks.", width, heads, where)
    objective = {
        "name": "masked_pixels",
        "mask": args.get("mask_type", "tube"),
        "mask_ratio": args.get("mask_ratio", 0.9),
        "decoder_mask_ratio": args.get("decoder_mask_ratio", 0.0),
        "target_normalised": "none" if args.get("normlize_target") is False else "colour",
        **{f"decoder_{name}": size for name, size in inner.items()},
    }
    return objective, notes
