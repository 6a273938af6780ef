"""What the kinds of Hugging Face's models share when one of ours is written as a folder of theirs.

What a model of ours has and config.json cannot tell is refused.
"""

import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from vivit_jax import recipe
from vivit_jax.errors import InputError
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.pretrained.found import Pretrained
from vivit_jax.pretrained.hf_folder import GELUS, SIZES
from vivit_jax.pretrained.rules import Arrays, Rule

FREE = (  # options of a model that config.json tells or training alone reads; see `check_model`
    *("size", "width", "depth", "heads", "mlp_dim", "tubelet", "temporal_depth", "mean", "std"),
    *("gelu", "norm_eps", "closing_norm_eps", "dropout", "attention_dropout", "drop_path"),
    *("drop_path_rescaled", "tubelet_init", "kernel_init", "dtype", "remat", "scan"),
)


class Theirs(NamedTuple):
    """A model as Hugging Face has it.

    Attributes:
      config: for config.json.
      preprocessor: for preprocessor_config.json.
      rules: table of names.
      notes: what it cannot have as it is here.
      idle: parameters that it wants besides, which take no part.
    """

    config: dict[str, Any]
    preprocessor: dict[str, Any]
    rules: Sequence[Rule]
    notes: Sequence[str] = ()
    idle: Arrays = types.MappingProxyType({})


def about_encoder(encoder: Any) -> dict[str, Any]:
    """Returns config.json's account of an encoder: `Folder.encoder` undone."""
    return {
        **{theirs: getattr(encoder.dims, ours) for ours, theirs in SIZES.items()},
        "hidden_act": next(act for act, gelu in GELUS.items() if gelu == encoder.gelu),
        "layer_norm_eps": encoder.norm_eps,
    }


def labels(pretrained: Pretrained) -> dict[str, Any]:
    """Returns config.json's account of the classes.

    Raises:
      InputError: there are several heads.
    """
    names, *others = pretrained.label_maps
    if others:
        raise InputError(f"{1 + len(others)} heads, and it has one")
    return {
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
    }


def preprocessor(pretrained: Pretrained, kind: str) -> dict[str, Any]:
    """Returns preprocessor_config.json: what makes of pixels what the model is trained on."""
    data, model = pretrained.experiment.data, pretrained.experiment.model
    side = data.image_size
    return {
        "image_processor_type": kind,
        "do_resize": True,
        "size": {"shortest_edge": pretrained.experiment.eval.resize or side},
        "do_center_crop": True,
        "crop_size": {"height": side, "width": side},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(model["mean"]),
        "image_std": list(model["std"]),
    }


def check_model(wanted: Mapping[str, Any], model: Mapping[str, Any]) -> None:
    """Refuses a model whose options are not as wanted.

    An option that is neither wanted nor FREE is to be its default, so that one which Hugging Face
    knows nothing of is not lost.

    Raises:
      InputError: names those that differ.
    """
    usual = recipe.defaults(VideoTransformer)
    wanted = {
        "name": "video_transformer",
        **{name: value for name, value in usual.items() if name not in FREE},
        **wanted,
    }
    refuse_others("model", wanted, {**usual, **model})  # a run may be older than an option


def check_objective(wanted: Mapping[str, Mapping[str, Any]], objective: Mapping[str, Any]) -> None:
    """Refuses an objective that is none of some, or whose options are not as wanted.

    Args:
      wanted: options by the objective's name.
      objective: config.objective.

    Raises:
      InputError: names what differs.
    """
    if objective["name"] not in wanted:
        raise InputError(f"config.objective.name = {objective['name']!r}")
    refuse_others("objective", wanted[objective["name"]], objective)


def refuse_others(section: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Refuses options of a section that are not as wanted.

    Raises:
      InputError: names them.
    """
    differing = [name for name, value in wanted.items() if found[name] != value]
    if differing:
        raise InputError(
            "; ".join(
                f"config.{section}.{name} = {found[name]!r}, and it has {wanted[name]!r}"
                for name in differing
            )
        )
