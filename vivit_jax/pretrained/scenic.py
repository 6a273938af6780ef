"""Scenic's checkpoints: ViViT in its four models, and AV-MAE's of video alone (see av_mae.py).

A checkpoint is one file of flax's msgpack with a whole training state, of which the parameters are
read: ["optimizer"]["target"] of those that were published, ["params"] since, and either with a
further ["params"] within. Nothing in it tells the config, so all is read from shapes. Its depth of
the temporal encoder is the file's own: a published one has 12 blocks where its config has 4.

Source: google-research/scenic, projects/vivit and projects/av_mae.
"""

import pathlib
import re
from collections.abc import Mapping
from typing import Any

import flax.serialization
import numpy as np

from vivit_jax.errors import InputError
from vivit_jax.models.positions import Axes
from vivit_jax.pretrained import av_mae, linen
from vivit_jax.pretrained.found import Found, about_rate, numbered, side
from vivit_jax.pretrained.rules import Arrays, Rule, renamed
from vivit_jax.trees import by_path

EPIC_KITCHENS = (300, 97)  # nouns first, of one layer of 397
FACTORISED = {  # their part of a block of factorised self-attention: ours
    "LayerNorm_time": "attention_norm_0",
    "MultiHeadDotProductAttention_time": "attention_0",
    "LayerNorm_space": "attention_norm_1",
    "MultiHeadDotProductAttention_space": "attention_1",
    "LayerNorm_mlp": "mlp_norm",
    "MlpBlock": "mlp",
}
RATE = {"stride": 2}  # on Kinetics
POSITION = "posembed_input/pos_embedding"
ROOTS = ("params/params/", "params/", "optimizer/target/params/", "optimizer/target/")


def read(path: pathlib.Path) -> Found:
    """Returns what a checkpoint holds.

    Raises:
      InputError: it is none of Scenic's, or of a model that is not known here.
    """
    file = checkpoint_file(path)
    state = read_msgpack(file)
    if any(name.startswith("model_state/batch_stats/") for name in state):
        raise InputError(
            f"{file} has model_state.batch_stats, of a head that was trained on frozen features "
            "behind a batch norm; expected a checkpoint of a model without one."
        )
    arrays = parameters(state, file)
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):
            raise InputError(f"{file}: {name} is {type(array).__name__}; expected an array.")
    where = str(file)
    if "mask_token" in arrays:
        return av_mae.pretrained(arrays, where)
    if any(name.endswith(f"Transformer/{POSITION}") for name in arrays):
        return vivit(arrays, where)
    return av_mae.finetuned(arrays, where)


def checkpoint_file(path: pathlib.Path) -> pathlib.Path:
    """Returns the file of a path, or of the newest checkpoint in a folder.

    Raises:
      InputError: the folder has none.
    """
    if path.is_file():
        return path
    names = {file: re.fullmatch(r"checkpoint(?:_(\d+))?", file.name) for file in path.iterdir()}
    steps = {file: int(m[1] or 0) for file, m in names.items() if m and file.is_file()}
    if not steps:
        have = ", ".join(sorted(file.name for file in names)) or "nothing"
        raise InputError(
            f"{path} holds {have}; expected a file checkpoint_STEP or checkpoint of flax's."
        )
    return max(steps, key=steps.__getitem__)


def read_msgpack(file: pathlib.Path) -> dict[str, Any]:
    """Returns the training state in a file by path; nothing but arrays and plain values is made.

    Raises:
      InputError: it is truncated, or no such file.
    """
    try:
        state = flax.serialization.msgpack_restore(file.read_bytes())
        leaves = by_path(state)
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # msgpack's, numpy's and flax's own
        why = str(error).rstrip(".")
        raise InputError(f"{file} is damaged or no flax checkpoint: {why}.") from error
    if not isinstance(state, dict):
        raise InputError(f"{file} holds {type(state).__name__}; expected flax's training state.")
    return leaves


def parameters(state: Mapping[str, Any], file: pathlib.Path) -> dict[str, Any]:
    """Returns the parameters within a training state, by the names of today.

    Raises:
      InputError: there are none.
    """
    for root in ROOTS:
        found = {name.removeprefix(root): x for name, x in state.items() if name.startswith(root)}
        if found:
            return {renamed(name, linen.PRE_LINEN): x for name, x in found.items()}
    have = ", ".join(sorted({name.split("/")[0] for name in state})) or "nothing"
    raise InputError(
        f"{file} holds {have}; expected parameters under params, or under optimizer and there "
        "target."
    )


def vivit(arrays: Arrays, where: str) -> Found:
    """Returns one of ViViT's four models.

    Raises:
      InputError: the shapes are none of theirs.
    """
    factorised = f"SpatialTransformer/{POSITION}" in arrays
    model, rules, axes, notes = (factorised_encoder if factorised else whole)(arrays, where)
    size = linen.tubelet(arrays, where)
    maps, told = label_maps(arrays, where)
    labels = {"labels": "heads"} if len(maps) > 1 else {}
    return Found(
        where=where,
        model={"tubelet": size, "positions": "learned", **linen.LIKE, **model},
        objective={"name": "classify"},
        data={**linen.clip(axes, size), **labels, **RATE},
        arrays=arrays,
        rules=[
            *linen.embedding(arrays),
            *rules,
            *linen.dense("output_projection", "head"),
        ],
        sizes={},
        label_maps=maps,
        notes=[*notes, *told, *([about_rate(RATE)] if axes[0] > 1 else [])],
    )


def factorised_encoder(
    arrays: Arrays, where: str
) -> tuple[dict[str, Any], list[Rule], Axes, list[str]]:
    """Returns the options, rules, grid and notes of ViViT's model 2."""
    classes = int("cls_SpatialTransformer" in arrays)
    cells = arrays[f"SpatialTransformer/{POSITION}"].shape[1] - classes
    rows = side(cells, 1, where)
    model = {
        **linen.sizes(arrays, "SpatialTransformer", where),
        "attention": "factorised_encoder",
        "temporal_depth": 0,
        "pool": "class_token" if classes else "mean",
    }
    rules, slots, notes = [], 0, []
    stacks = {"SpatialTransformer": "space", "TemporalTransformer": "time"}
    for theirs, ours in stacks.items():
        rules += [
            *linen.stack(theirs, f"encoder/{ours}"),
            Rule(f"{theirs}/{POSITION}", f"encoder/{ours}/position"),
            Rule(f"cls_{theirs}", f"encoder/{ours}/class_token"),
        ]
    if f"TemporalTransformer/{POSITION}" in arrays:
        time = linen.sizes(arrays, "TemporalTransformer", where)
        model["temporal_depth"] = time["depth"]
        if differs := [name for name in ("heads", "mlp_dim") if time[name] != model[name]]:
            raise InputError(
                f"{where}: {' and '.join(differs)} of the temporal encoder are not those of the "
                f"spatial one ({time}; {model}); expected both alike, as all published have them."
            )
        slots = arrays[f"TemporalTransformer/{POSITION}"].shape[1] - classes
    else:
        slots = max(1, linen.FRAMES // linen.tubelet(arrays, where)[0])
        notes = [
            f"no temporal encoder: the mean over slots, of which any number will do ({slots})."
        ]
    return model, rules, (slots, rows, rows), notes


def whole(arrays: Arrays, where: str) -> tuple[dict[str, Any], list[Rule], Axes, list[str]]:
    """Returns the options, rules, grid and notes of ViViT's models 1, 3 and 4.

    A file of model 4 has the same names and shapes as one of model 1 without a class token; all
    published configs of model 1 have one, and model 4 cannot. Scenic's image ViTs are of these
    names as well: joint attention within one slot.
    """
    classes = int("cls" in arrays)
    parts, notes, attention = linen.BLOCK, [], "joint"
    model = linen.sizes(arrays, "Transformer", where)
    if "Transformer/encoderblock_0/LayerNorm_time/scale" in arrays:
        parts, attention = FACTORISED, "factorised_self_attention"
        notes.append("attention over time is taken to come before that over space (the default).")
    elif not classes and model["heads"] % 2 == 0 and arrays["embedding/kernel"].ndim == 5:
        attention = "factorised_dot_product"
        notes.append(
            "no class token: taken for factorised dot-product attention. Joint attention with the "
            "mean over tokens has the same parameters; if it is that, import it and set "
            'model.attention to "joint" in the config.json of its workdir.'
        )
    size = linen.tubelet(arrays, where)
    rows = arrays[f"Transformer/{POSITION}"].shape[1]
    axes, told = linen.guess(rows - classes, size, where)
    rules = [
        *linen.stack("Transformer", "encoder/blocks", parts),
        Rule(f"Transformer/{POSITION}", "encoder/blocks/position"),
        Rule("cls", "encoder/blocks/class_token"),
    ]
    model |= {"attention": attention, "pool": "class_token" if classes else "mean"}
    return model, rules, axes, [*notes, *told]


def label_maps(arrays: Arrays, where: str) -> tuple[tuple[tuple[str, ...], ...], list[str]]:
    """Returns numbers for the classes, a map for each head, and notes about them."""
    classes = linen.find(arrays, "output_projection/bias", where).shape[0]
    if classes != sum(EPIC_KITCHENS):
        return (numbered(classes),), []
    note = f"{classes} classes are taken for EPIC-Kitchens-100's two heads: 300 nouns, 97 verbs."
    return tuple(map(numbered, EPIC_KITCHENS)), [note]
