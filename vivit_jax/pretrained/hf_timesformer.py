"""Hugging Face's TimeSformer: divided, joint or space-only, with a classifier or without.

Its space-only form is not TimeSformer's: it has no mean over frames, so that its classifier gives
logits for every frame. Such weights are read as what they were converted from, and never written.
"""

from typing import Any

from vivit_jax.errors import InputError
from vivit_jax.pretrained.found import Found, Pretrained, about_rate
from vivit_jax.pretrained.hf_class_token import (
    check_rows,
    expressed,
    found,
    notes_on_colours,
    prefix_of,
    side,
)
from vivit_jax.pretrained.hf_express import Theirs, preprocessor
from vivit_jax.pretrained.hf_folder import CONFIG, Folder, mlp
from vivit_jax.pretrained.originals import PYSLOWFAST
from vivit_jax.pretrained.rules import Rule, dense, from_heads, fused, norm, tubelets
from vivit_jax.pretrained.timesformer import STRIDES

NAMES = ()  # the same in memory
KIND = "VideoMAEImageProcessor"  # which the published have
ARRANGEMENTS = {  # by attention_type
    "divided_space_time": "divided",
    "joint_space_time": "joint",
    "space_only": "space_only",
}
TYPES = {ours: theirs for theirs, ours in ARRANGEMENTS.items() if ours != "space_only"}


def table(prefix: str, attention: str) -> list[Rule]:
    """Returns the rules of the encoder in one arrangement."""
    embeddings, layer = f"{prefix}embeddings", f"{prefix}encoder.layer.{{i}}"
    positions, ours = "encoder/blocks/position", "encoder/blocks/block_{i}"
    rules = [
        Rule(f"{embeddings}.cls_token", "encoder/blocks/class_token"),
        *tubelets(f"{embeddings}.patch_embeddings.projection", frames=False),
        *mlp(layer, ours),
        *norm(f"{prefix}layernorm", "encoder/blocks/norm"),
    ]
    if attention == "space_only":
        rules.append(Rule(f"{embeddings}.position_embeddings", positions))
    else:
        rules.append(Rule(f"{embeddings}.position_embeddings", f"{positions}_space"))
        rules.append(Rule(f"{embeddings}.time_embeddings", f"{positions}_time"))
    if attention != "divided":
        return [*rules, *step(layer, "", "layernorm_before", 0)]
    rules += dense(f"{layer}.temporal_dense", f"{ours}/zero_dense")
    rules += step(layer, "temporal_", "temporal_layernorm", 0)
    return [*rules, *step(layer, "", "layernorm_before", 1)]


def step(layer: str, kind: str, before: str, number: int) -> list[Rule]:
    """Returns the rules of one attention of a block, and of the norm before it."""
    ours = "encoder/blocks/block_{i}"
    return [
        *norm(f"{layer}.{before}", f"{ours}/attention_norm_{number}"),
        *fused(f"{layer}.{kind}attention.attention.qkv", f"{ours}/attention_{number}"),
        *from_heads(f"{layer}.{kind}attention.output.dense", f"{ours}/attention_{number}/out"),
    ]


def find(folder: Folder) -> Found:
    """Returns what a folder holds.

    Raises:
      InputError: config.json lacks something, contradicts the weights, or is of a form that nobody
        published.
    """
    kind = folder.get("attention_type", str)
    if kind not in ARRANGEMENTS:
        raise InputError(
            f"{folder.where}/{CONFIG}: attention_type = {kind!r}; expected one of "
            f"{', '.join(ARRANGEMENTS)}."
        )
    attention, prefix = ARRANGEMENTS[kind], prefix_of(folder, "timesformer")
    frames, pixels = folder.get("num_frames"), side(folder, "image_size")
    patch = side(folder, "patch_size")
    check_rows(
        folder,
        f"{prefix}embeddings.position_embeddings",
        1 + (pixels // patch) ** 2,
        f"image_size = {pixels} and patch_size = {patch}",
    )
    check_rows(folder, f"{prefix}embeddings.time_embeddings", frames, f"num_frames = {frames}")
    colours = folder.colours(**PYSLOWFAST)
    notes = notes_on_colours(folder, "TimeSformer", colours, PYSLOWFAST)
    data = {"frames": frames, "image_size": pixels}
    if frames in STRIDES:
        data["stride"] = STRIDES[frames]
        notes.append(about_rate({"stride": STRIDES[frames]}))
    if attention == "space_only":
        notes.append(
            "attention_type = 'space_only': Hugging Face's gives logits for every frame; here "
            "tokens are averaged over frames before the closing norm, as in the original "
            "TimeSformer, which such weights are converted from."
        )
    return found(
        folder,
        lambda prefix: table(prefix, attention),
        prefix,
        model={"tubelet": (1, patch, patch), **arranged(attention), **colours},
        data=data,
        notes=notes,
    )


def arranged(attention: str) -> dict[str, Any]:
    """Returns what a model of an arrangement must be."""
    return {
        "attention": attention,
        "positions": "learned" if attention == "space_only" else "separable",
    }


def express(pretrained: Pretrained) -> Theirs:
    """Returns the same model as Hugging Face has it.

    Raises:
      InputError: it has no such TimeSformer; names what differs.
    """
    model = pretrained.experiment.model
    attention = model.get("attention")
    if attention not in TYPES:
        raise InputError(f"config.model.attention = {attention!r}, and it has {', '.join(TYPES)}")
    frames, rows, columns = model["tubelet"]
    if frames != 1 or rows != columns:
        raise InputError(
            f"config.model.tubelet = {model['tubelet']}, and it has squares of 1 frame"
        )
    return expressed(
        pretrained,
        lambda prefix: table(prefix, attention),
        "timesformer",
        like=arranged(attention),
        content={"patch_size": rows, "attention_type": TYPES[attention]},
        preprocessor=preprocessor(pretrained, KIND),
    )
