"""What Hugging Face's ViViT and TimeSformer share: an encoder whose summary is the class token.

The classifier is a linear layer on it. Where that is beside, the encoder's names have a prefix.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vivit_jax.errors import InputError
from vivit_jax.pretrained.found import Found, Pretrained
from vivit_jax.pretrained.hf_express import (
    Theirs,
    about_encoder,
    check_model,
    check_objective,
    labels,
)
from vivit_jax.pretrained.hf_folder import CONFIG, Folder
from vivit_jax.pretrained.rules import Left, Rule, dense

Table = Callable[[str], list[Rule]]  # the encoder's rules, by the prefix of its names
CLASSIFIER = dense("classifier", "head")
LIKE = {  # what all of them are
    "pool": "class_token",
    "norm_summary": False,
    "closing_norm_eps": 0.0,
    "key_bias": True,
}


def prefix_of(folder: Folder, base: str) -> str:
    """Returns what the encoder's names begin with: `base` and a dot, or nothing."""
    return f"{base}." if f"{base}.embeddings.cls_token" in folder.arrays else ""


def found(
    folder: Folder,
    table: Table,
    prefix: str,
    *,
    model: Mapping[str, Any],
    data: Mapping[str, Any],
    left: Sequence[Left] = (),
    notes: Sequence[str] = (),
) -> Found:
    """Returns what a folder holds, with a classifier or without.

    Args:
      folder: that is read.
      table: of the encoder.
      prefix: of its names.
      model: options that only this kind can tell.
      data: likewise.
      left: what may be left over.
      notes: what to know.

    Raises:
      InputError: config.json lacks something, or is of a form that nobody published.
    """
    folder.check("qkv_bias", True)
    told = {**folder.encoder(), "mlp_dim": folder.get("intermediate_size")}
    classifies = "classifier.weight" in folder.arrays
    return Found(
        where=folder.where,
        model={**told, **LIKE, **model},
        objective={"name": "classify" if classifies else "encode"},
        data=data,
        arrays=folder.arrays,
        rules=[*table(prefix), *(CLASSIFIER if classifies else ())],
        sizes={"h": told["heads"]},
        label_maps=folder.labels() if classifies else ((),),
        left=left,
        notes=notes,
    )


def side(folder: Folder, name: str) -> int:
    """Returns a length in pixels that config.json tells as one number, or as two alike.

    Raises:
      InputError: it is no such.
    """
    value = folder.config.get(name)
    if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
        value = value[0]
    if type(value) is not int or value < 1:
        raise InputError(
            f"{folder.where}/{CONFIG}: {name} = {value!r}; expected a number of pixels, the same "
            "for height and width."
        )
    return value


def check_rows(folder: Folder, name: str, rows: int, cause: str) -> None:
    """Refuses a table of positions [1 rows D] that is for other clips than config.json tells.

    Args:
      folder: that is read.
      name: of the table.
      rows: that it should have.
      cause: fields of config.json that make it so many.

    Raises:
      InputError: it has others.
    """
    if name not in folder.arrays:
        return  # what is missing is told with all else
    shape = folder.arrays[name].shape
    if len(shape) != 3 or shape[1] != rows:
        raise InputError(
            f"{folder.where}/{CONFIG}: {cause} make {rows} positions, and {name} is {shape}. "
            "Expected what these weights were trained with; config.data of a run that starts from "
            "them may be other."
        )


def notes_on_colours(
    folder: Folder, kind: str, colours: Mapping[str, Any], published: Mapping[str, Any]
) -> list[str]:
    """Returns what should be known of a model's mean and std.

    Args:
      folder: that is read.
      kind: of model.
      colours: that are taken.
      published: those that the published weights were trained with.
    """
    trained = " and ".join(f"{name} = {value}" for name, value in published.items())
    if not folder.preprocessor:
        return [f"there is no preprocessor_config.json: {trained}, as {kind} was trained."]
    if colours != published:
        taken = " and ".join(f"{name} = {value}" for name, value in colours.items())
        return [f"{taken} by preprocessor_config.json; published {kind}s want {trained}."]
    return []


def expressed(
    pretrained: Pretrained,
    table: Table,
    base: str,
    *,
    like: Mapping[str, Any],
    content: Mapping[str, Any],
    preprocessor: Mapping[str, Any],
) -> Theirs:
    """Returns a model as Hugging Face has it.

    Args:
      pretrained: the model.
      table: of the encoder.
      base: "vivit", or "timesformer".
      like: options that a model must have to be of this kind.
      content: what only this kind has in config.json.
      preprocessor: for preprocessor_config.json.

    Raises:
      InputError: it has no such model; names what differs.
    """
    experiment = pretrained.experiment
    check_objective({"classify": {"pooling": "summary"}, "encode": {}}, experiment.objective)
    check_model({**LIKE, **like}, experiment.model)
    objective: Any = pretrained.objective()
    encoder, classifies = objective.encoder, experiment.objective["name"] == "classify"
    rules = [*table(f"{base}."), *CLASSIFIER] if classifies else table("")
    form = "ForVideoClassification" if classifies else "Model"
    content = {
        **about_encoder(encoder),
        "architectures": [f"{base.capitalize()}{form}"],
        "image_size": experiment.data.image_size,
        "num_frames": experiment.data.frames,
        "num_channels": 3,
        "intermediate_size": encoder.dims.mlp_dim,
        "qkv_bias": True,
        **content,
        **(labels(pretrained) if classifies else {}),
    }
    return Theirs(content, dict(preprocessor), rules)
