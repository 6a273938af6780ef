"""MAE-ST's files: those of its own code, and PySlowFast's, where the published were trained.

                        mae_st                     PySlowFast
    weights under       "model"                    "model_state"
    queries, keys ...   three layers               one, or three
    decoder's heads     on the command line, 16    64 wide
    its class token     its own                    the encoder's, or its own
    its target          frames spread evenly       every second frame
    head                "head"                     "head.projection"

Each row is read from what is there, as versions differ. Positions are learned and tell the clip.

Source: github.com/facebookresearch/mae_st and SlowFast (Feichtenhofer et al. 2022).
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import yaml

from vivit_jax.errors import InputError
from vivit_jax.pretrained.found import Found, about_rate, depth, numbered, shape, side
from vivit_jax.pretrained.originals import (
    PYSLOWFAST,
    about_heads,
    apart,
    block,
    dims,
    heads_of,
    options,
    weights,
)
from vivit_jax.pretrained.rules import Arrays, Rule, dense, norm, tubelets
from vivit_jax.pretrained.torch_file import read_torch

RATE = {"stride": 4}  # on Kinetics
LIKE = {"attention": "joint", "positions": "separable", "gelu": "erf", **PYSLOWFAST}
OWN, SLOWFAST = "decoder_blocks.", "pred_head.transforms.0."  # prefixes of the decoder's blocks
ENCODER = [
    *tubelets("patch_embed.proj"),
    Rule("cls_token", "encoder/blocks/class_token"),
    Rule("pos_embed_spatial", "encoder/blocks/position_space"),
    Rule("pos_embed_temporal", "encoder/blocks/position_time"),
    *block("blocks.{i}", "encoder/blocks/block_{i}", "h"),
    *apart("blocks.{i}", "encoder/blocks/block_{i}", "h"),
]
CLASSIFY = [
    *ENCODER,
    *norm("norm", "encoder/blocks/summary_norm"),
    *dense("head", "head"),
    *dense("head.projection", "head"),
]


def read(path: pathlib.Path) -> Found:
    """Returns what a file holds.

    Raises:
      InputError: it is no file of MAE-ST's.
    """
    content, where = read_torch(path), str(path)
    arrays = with_class_rows(weights(content, ("model", "model_state"), where))
    width, _, step, patch, _ = shape(arrays, "patch_embed.proj.weight", 5, where)
    slots, rows = (shape(arrays, f"pos_embed_{x}", 3, where)[1] for x in ("temporal", "spatial"))
    args, config = options(content, "args"), slowfast(content, where)
    told = config.get("MVIT", {}).get("NUM_HEADS")
    heads = told if type(told) is int else heads_of(width)
    notes = [] if type(told) is int else [about_heads("the encoder", width, heads)]
    pretrains = "mask_token" in arrays
    model = {
        **dims(arrays, "blocks.", width, heads, where),
        "tubelet": (step, patch, patch),
        "pool": "class_token" if pretrains else "mean_beside_class_token",
        "norm_summary": not pretrains,
        **LIKE,
    }
    objective, rules, label_maps = {"name": "classify"}, CLASSIFY, ((),)
    sizes = {"h": heads}
    if pretrains:
        objective, more = decoder(arrays, args, config, (step, patch), where)
        rules = [*ENCODER, *norm("norm", "encoder/blocks/norm"), *decoder_rules(arrays)]
        sizes["g"] = objective["decoder_heads"]
        notes += more
    else:
        name = "head.bias" if "head.bias" in arrays else "head.projection.bias"
        label_maps = (numbered(shape(arrays, name, 1, where)[0]),)
    return Found(
        where=where,
        model=model,
        objective=objective,
        data={"frames": slots * step, "image_size": side(rows - 1, patch, where), **RATE},
        arrays=arrays,
        rules=rules,
        sizes=sizes,
        label_maps=label_maps,
        notes=[*notes, about_rate(RATE)],
    )


def with_class_rows(arrays: Arrays) -> dict[str, np.ndarray]:
    """Returns the parameters with the class token's position as the first row of those of space."""
    arrays = dict(arrays)
    for prefix in ("", "decoder_", "dec_"):
        names = [f"{prefix}pos_embed_{part}" for part in ("class", "spatial")]
        parts = [arrays[name] for name in names if name in arrays]
        if len(parts) == 2 and all(
            x.ndim == 3 and x.shape[::2] == (1, parts[0].shape[2]) for x in parts
        ):
            arrays[names[1]] = np.concatenate(parts, axis=1)
            del arrays[names[0]]
    return arrays


def slowfast(content: Any, where: str) -> Mapping[str, Any]:
    """Returns the config that a file of PySlowFast's has as text; empty where there is none.

    Raises:
      InputError: it is no config.
    """
    text = content.get("cfg", "") if isinstance(content, dict) else ""
    try:
        sections = yaml.safe_load(text) or {}
        return {name: value for name, value in sections.items() if isinstance(value, dict)}
    except (yaml.YAMLError, AttributeError, RecursionError) as error:
        raise InputError(f"{where}: cfg is no config of PySlowFast's ({error}).") from error


def decoder(
    arrays: Arrays,
    args: Mapping[str, Any],
    config: Mapping[str, Any],
    box: tuple[int, int],
    where: str,
) -> tuple[dict[str, Any], list[str]]:
    """Returns config.objective of a file from pretraining, and notes.

    Args:
      arrays: of the file.
      args: the command line, of MAE-ST's own code.
      config: PySlowFast's.
      box: frames of a tubelet, and rows.
      where: the file is, for messages.

    Raises:
      InputError: it predicts what no objective here does.
    """
    own = any(name.startswith(OWN) for name in arrays)
    width = shape(arrays, "decoder_embed.weight", 2, where)[0]
    heads, notes = args.get("decoder_num_heads"), []
    if type(heads) is not int:
        heads = width // 64 if width % 64 == 0 else heads_of(width)
        notes.append(about_heads("the decoder", width, heads))
        if own:
            notes[-1] += ", as PySlowFast has it; MAE-ST's own code makes 16 unless told otherwise"
    if not args and not config:
        notes.append(
            "the file does not tell how it was trained; taken as 90 % of the tokens hidden at "
            f"random, and the target frames of {'MAE-ST' if own else 'PySlowFast'}'s code"
        )
    raw = (args.get("norm_pix_loss"), config.get("MASK", {}).get("NORM_PRED_PIXEL"))
    if any(value is False for value in raw):
        raise InputError(
            f"{where} was trained on targets that are not normalised (norm_pix_loss); expected "
            "normalised ones, as of all published files."
        )
    inner = dims(arrays, OWN if own else SLOWFAST, width, heads, where)
    mask = config.get("AUG", {})
    objective = {
        "name": "masked_pixels",
        "mask": "tube" if mask.get("MASK_TUBE") is True else "random",
        "mask_ratio": args.get("mask_ratio", mask.get("MASK_RATIO", 0.9)),
        "target_frames": target_frames(arrays, own, box, where),
        "target_normalised": "all",
        **{f"decoder_{name}": size for name, size in inner.items()},
        "decoder_positions": "separable",
        "decoder_class_token": "decoder_cls_token" in arrays,
        "decoder_keeps_class_token": "decoder_cls_token" not in arrays,
        "decoder_embed_bias": True,
    }
    return objective, notes


def target_frames(arrays: Arrays, own: bool, box: tuple[int, int], where: str) -> str:
    """Returns which frames of a tubelet are predicted, by how many values are.

    Raises:
      InputError: they are neither one frame's nor all.
    """
    out = "decoder_pred" if own else "pred_head.projections.0"
    values = shape(arrays, f"{out}.bias", 1, where)[0]
    frame = 3 * box[1] ** 2
    if values not in (frame, box[0] * frame):
        raise InputError(
            f"{where}: {out} predicts {values} values a token; expected one frame's, {frame}, or "
            f"a tubelet's, {box[0] * frame}."
        )
    if values > frame:
        return "all"
    return "linspace" if own else "first"


def decoder_rules(arrays: Arrays) -> list[Rule]:
    """Returns the rules of the decoder, by either code's names."""
    closing = f"{SLOWFAST}{depth(arrays, SLOWFAST)}"  # numbered as if it were a block
    blocks = "decoder/blocks/block_{i}"
    return [
        *dense("decoder_embed", "decoder/embed"),
        Rule("mask_token", "decoder/mask_tokens", "1 m d -> m d"),
        Rule("decoder_cls_token", "decoder/blocks/class_token"),
        *(
            Rule(f"{prefix}pos_embed_{theirs}", f"decoder/blocks/position_{ours}")
            for prefix in ("decoder_", "dec_")
            for theirs, ours in (("spatial", "space"), ("temporal", "time"))
        ),
        *(
            rule
            for prefix in (OWN, SLOWFAST)
            for rules in (block, apart)
            for rule in rules(prefix + "{i}", blocks, "g")
        ),
        *norm("decoder_norm", "decoder/blocks/norm"),
        *norm(closing, "decoder/blocks/norm"),
        *dense("decoder_pred", "decoder/out"),
        *dense("pred_head.projections.0", "decoder/out"),
    ]
