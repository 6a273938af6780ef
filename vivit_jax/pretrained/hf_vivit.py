"""Hugging Face's ViViT, which is the joint model: with a classifier, or the encoder alone.

The published weights were trained on pixels of [-1, 1]. The usual preprocessor rescales to that,
and then normalises once more with 0.5, which makes [-3, 1]; that is not followed here.
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
from vivit_jax.pretrained.hf_folder import CONFIG, Folder, block
from vivit_jax.pretrained.rules import Left, Rule, norm, tubelets

NAMES = (  # transformers 5's, in memory
    (r"(^|\.)layers\.", r"\1encoder.layer."),
    (r"\.attention\.q_proj\.", ".attention.attention.query."),
    (r"\.attention\.k_proj\.", ".attention.attention.key."),
    (r"\.attention\.v_proj\.", ".attention.attention.value."),
    (r"\.attention\.o_proj\.", ".attention.output.dense."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
KIND = "VivitImageProcessor"
RATE = {"stride": 2}  # of the published training
USUAL = {"rescale_factor": 1 / 127.5, "offset": True}  # of the preprocessor
CENTRED = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}  # makes [-1, 1]
TWICE = {"mean": (0.75, 0.75, 0.75), "std": (0.25, 0.25, 0.25)}  # makes [-3, 1]
LIKE = {"attention": "joint", "positions": "learned"}
LEFT = [
    Left(
        r"(vivit\.)?pooler\.dense\.(weight|bias)",
        "a layer on the class token that no published weights were trained with",
    )
]


def table(prefix: str) -> list[Rule]:
    """Returns the rules of the encoder."""
    embeddings = f"{prefix}embeddings"
    return [
        Rule(f"{embeddings}.cls_token", "encoder/blocks/class_token"),
        Rule(f"{embeddings}.position_embeddings", "encoder/blocks/position"),
        *tubelets(f"{embeddings}.patch_embeddings.projection"),
        *block(f"{prefix}encoder.layer.{{i}}", "encoder/blocks/block_{i}"),
        *norm(f"{prefix}layernorm", "encoder/blocks/norm"),
    ]


def find(folder: Folder) -> Found:
    """Returns what a folder holds.

    Raises:
      InputError: config.json lacks something, contradicts the weights, or is of a form that nobody
        published.
    """
    tubelet = folder.get("tubelet_size", list)
    if len(tubelet) != 3 or not all(type(step) is int and step > 0 for step in tubelet):
        raise InputError(
            f"{folder.where}/{CONFIG}: tubelet_size = {tubelet}; expected three numbers of pixels: "
            "frames, rows, columns."
        )
    frames, pixels = folder.get("num_frames"), side(folder, "image_size")
    prefix = prefix_of(folder, "vivit")
    slots, rows, columns = frames // tubelet[0], pixels // tubelet[1], pixels // tubelet[2]
    check_rows(
        folder,
        f"{prefix}embeddings.position_embeddings",
        1 + slots * rows * columns,
        f"num_frames = {frames}, image_size = {pixels} and tubelet_size = {tubelet}",
    )
    colours, notes = colours_of(folder)
    return found(
        folder,
        table,
        prefix,
        model={"tubelet": tuple(tubelet), **LIKE, **colours},
        data={"frames": frames, "image_size": pixels, **RATE},
        left=LEFT,
        notes=[*notes, about_rate(RATE)],
    )


def colours_of(folder: Folder) -> tuple[dict[str, Any], list[str]]:
    """Returns the model's mean and std, and what should be known of them."""
    if not folder.preprocessor:
        return CENTRED, notes_on_colours(folder, "ViViT", CENTRED, CENTRED)
    told = folder._replace(preprocessor={**USUAL, **folder.preprocessor})
    colours = told.colours(**CENTRED)
    if colours != TWICE:
        return colours, notes_on_colours(folder, "ViViT", colours, CENTRED)
    return CENTRED, [
        "preprocessor_config.json rescales pixels to [-1, 1] and then normalises them to [-3, 1]; "
        f"published ViViTs were trained on [-1, 1], so mean = {CENTRED['mean']} and std = "
        f"{CENTRED['std']} are taken. For weights that were trained behind this preprocessor give "
        f"config.model.mean = {TWICE['mean']} and config.model.std = {TWICE['std']}."
    ]


def express(pretrained: Pretrained) -> Theirs:
    """Returns the same model as Hugging Face has it.

    Raises:
      InputError: it has no such ViViT; names what differs.
    """
    content = {"tubelet_size": list(pretrained.experiment.model.get("tubelet", ()))}
    told = pixels(pretrained)
    return expressed(pretrained, table, "vivit", like=LIKE, content=content, preprocessor=told)


def pixels(pretrained: Pretrained) -> dict[str, Any]:
    """Returns preprocessor_config.json: to [-1, 1], and on from there where that is not all.

    Some versions of the preprocessor take 1 from what is rescaled, whatever "offset" says.
    """
    usual = preprocessor(pretrained, KIND)
    mean, std = usual["image_mean"], usual["image_std"]
    return {
        **usual,
        **USUAL,
        "do_normalize": {"mean": tuple(mean), "std": tuple(std)} != CENTRED,
        "image_mean": [2 * value - 1 for value in mean],
        "image_std": [2 * value for value in std],
    }
