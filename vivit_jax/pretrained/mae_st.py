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
from vivit_jax.pretrained.found import Found, about_rate, depth, numbered, side
from vivit_jax.pretrained.originals import (
    PYSLOWFAST,
    about_heads,
    apart,
    block,
    heads_of,
    options,
    shape,
    weights,
)
from vivit_jax.pretrained.rules import Arrays, Rule, dense, norm
from vivit_jax.pretrained.torch_file import read_torch

RATE = {"stride": 4}  # on Kinetics
LIKE = {"attention": "joint", "positions": "separable", "gelu": "erf", **PYSLOWFAST}
OWN, SLOWFAST = "decoder_blocks.", "pred_head.transforms.0."  # prefixes of the decoder's blocks
ENCODER = [
    Rule("patch_embed.proj.weight", "encoder/tubelets/kernel", "d c f r w -> f r w c d"),
    Rule("patch_embed.proj.bias", "encoder/tubelets/bias"),
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
    told = slowfast(content, where).get("MVIT", {}).get("NUM_HEADS")
    heads = told if type(told) is int else heads_of(width)
    notes = [] if type(told) is int else [about_heads("the encoder", width, heads)]
    pretrains = "mask_token" in arrays
    model = {
        "width": width,
        "depth": depth(arrays, "blocks."),
        "heads": heads,
        "mlp_dim": shape(arrays, "blocks.0.mlp.fc1.weight", 2, where)[0],
        "tubelet": (step, patch, patch),
        "pool": "class_token" if pretrains else "mean_beside_class_token",
        "norm_summary": not pretrains,
        **LIKE,
    }
    objective, rules, label_maps = {"name": "classify"}, CLASSIFY, ((),)
    sizes = {"h": heads}
    if pretrains:
        objective, more = decoder(arrays, content, (step, patch), where)
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
    arrays: Arrays, content: Any, box: tuple[int, int], where: str
) -> tuple[dict[str, Any], list[str]]:
    """Returns config.objective of a file from pretraining, and notes.

    Args:
      arrays: of the file.
      content: of the file.
      box: frames of a tubelet, and rows.
      where: it is.

    Raises:
      InputError: it predicts what no objective here does.
    """
    args, config = options(content, "args"), slowfast(content, where)
    own = any(name.startswith(OWN) for name in arrays)
    prefix, out = (OWN, "decoder_pred") if own else (SLOWFAST, "pred_head.projections.0")
    width = shape(arrays, "decoder_embed.weight", 2, where)[0]
    values = shape(arrays, f"{out}.bias", 1, where)[0]
    pixels = 3 * box[1] ** 2
    if values not in (pixels, box[0] * pixels):
        raise InputError(
            f"{where}: {out} predicts {values} values a token; expected one frame's, {pixels}, or "
            f"a tubelet's, {box[0] * pixels}."
        )
    raw = (args.get("norm_pix_loss"), config.get("MASK", {}).get("NORM_PRED_PIXEL"))
    if any(value is False for value in raw):
        raise InputError(
            f"{where} was trained on targets that are not normalised (norm_pix_loss); expected "
            "normalised ones, as of all published files."
        )
    heads, notes = args.get("decoder_num_heads"), []
    if type(heads) is not int:
        heads = width // 64 if width % 64 == 0 else heads_of(width)
        notes.append(about_heads("the decoder", width, heads))
        if own:
            notes[-1] += ", as PySlowFast has it; MAE-ST's own code makes 16 unless told otherwise"
    mask = config.get("AUG", {})
    if not args and not config:
        notes.append(
            "the file does not tell how it was trained; taken as 90 % of the tokens hidden at "
            f"random, and the target frames of {'MAE-ST' if own else 'PySlowFast'}'s code"
        )
    objective = {
        "name": "masked_pixels",
        "mask": "tube" if mask.get("MASK_TUBE") is True else "random",
        "mask_ratio": args.get("mask_ratio", mask.get("MASK_RATIO", 0.9)),
        "target_frames": "all" if values > pixels else "linspace" if own else "first",
        "target_normalised": "all",
        "decoder_width": width,
        "decoder_depth": len(decoder_numbers(arrays, prefix)),
        "decoder_heads": heads,
        "decoder_mlp_dim": shape(arrays, f"{prefix}0.mlp.fc1.weight", 2, where)[0],
        "decoder_positions": "separable",
        "decoder_class_token": "decoder_cls_token" in arrays,
        "decoder_keeps_class_token": "decoder_cls_token" not in arrays,
        "decoder_embed_bias": True,
    }
    return objective, notes


def decoder_numbers(arrays: Arrays, prefix: str) -> list[int]:
    """Returns the numbers of the decoder's blocks; PySlowFast numbers its closing norm as well."""
    pattern = "{i}.norm1.weight"
    count = depth(arrays, prefix)
    return [i for i in range(count) if prefix + pattern.format(i=i) in arrays]


def decoder_rules(arrays: Arrays) -> list[Rule]:
    """Returns the rules of the decoder, by either code's names."""
    closing = f"{SLOWFAST}{len(decoder_numbers(arrays, SLOWFAST))}"
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
