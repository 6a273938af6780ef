"""Hugging Face's folders: config.json, preprocessor_config.json, and the weights beside them.

Each kind of model is a module of its own, by config.json's "model_type". It has

    NAMES                          renames: patterns of transformers 5's names in memory to those of
                                   published files, which the tables are written in
    find(folder) -> Found          what the folder holds
    express(pretrained) -> Theirs  the same model as a folder of theirs, or an InputError
"""

import json
import logging
import pathlib
import types
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy

from vivit_jax import recipe
from vivit_jax.errors import InputError
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.pretrained.files import read_json, read_safetensors
from vivit_jax.pretrained.found import Found, Pretrained, numbered
from vivit_jax.pretrained.rules import Arrays, Rule, renamed, to_theirs
from vivit_jax.pretrained.torch_file import read_state_dict

log = logging.getLogger(__name__)
CONFIG, PREPROCESSOR, WEIGHTS = "config.json", "preprocessor_config.json", "model.safetensors"
OF_VIDEOS = "video_preprocessor_config.json"  # where a processor of videos was saved
TORCH_WEIGHTS = "pytorch_model.bin"  # of older folders
GELUS = {  # by hidden_act
    "gelu": "erf",
    "gelu_python": "erf",
    "gelu_fast": "tanh",
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
}
FREE = (  # options of a model that config.json tells or training alone reads; see `unlike`
    *("size", "width", "depth", "heads", "mlp_dim", "tubelet", "temporal_depth", "mean", "std"),
    *("norm_eps", "closing_norm_eps", "dropout", "attention_dropout", "drop_path"),
    *("drop_path_rescaled", "tubelet_init", "kernel_init", "dtype", "remat", "scan"),
)


class Folder(NamedTuple):
    """A folder that is read.

    Attributes:
      where: it is.
      config: config.json.
      preprocessor: preprocessor_config.json; empty where there is none.
      arrays: the weights by name.
    """

    where: str
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    arrays: Arrays

    def get(self, name: str, kind: type = int) -> Any:
        """Returns a value of config.json.

        Raises:
          InputError: it is missing or of another type.
        """
        value = self.config.get(name)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise InputError(
                f"{self.where}/{CONFIG}: {name} = {value!r}; expected {kind.__name__}."
            )
        return value

    def gelu(self) -> str:
        """Returns the model's GELU.

        Raises:
          InputError: hidden_act is none.
        """
        activation = self.get("hidden_act", str)
        if activation not in GELUS:
            raise InputError(
                f"{self.where}/{CONFIG}: hidden_act = {activation!r}; expected one of "
                f"{', '.join(GELUS)}."
            )
        return GELUS[activation]

    def labels(self) -> tuple[tuple[str, ...], ...]:
        """Returns the label map, from id2label, or else from the classifier's number of rows."""
        classes = len(self.arrays["classifier.bias"]) if "classifier.bias" in self.arrays else 0
        names = {int(k): str(v) for k, v in (self.config.get("id2label") or {}).items()}
        if sorted(names) != list(range(classes)):
            return (numbered(classes),)
        return (tuple(names[i] for i in range(classes)),)

    def colours(self, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
        """Returns the model's mean and std, by what the preprocessor makes of pixels.

        Args:
          mean: where it does not say.
          std: likewise.

        Raises:
          InputError: what it says is no colour.
        """
        told = {
            "rescale_factor": 1 / 255,
            "image_mean": mean,
            "image_std": std,
            **self.preprocessor,
        }
        try:
            if not told.get("do_normalize", True):
                told |= {"image_mean": 0.0, "image_std": 1.0}
            mean_, std_ = (np.broadcast_to(told[f"image_{k}"], 3) for k in ("mean", "std"))
            scale = 255 * told["rescale_factor"] if told.get("do_rescale", True) else 255
            shift = 1 if told.get("offset") else 0
            # It gives (scale x - shift - mean) / std of x in [0, 1].
            values = {"mean": (mean_ + shift) / scale, "std": std_ / scale}
            return {name: tuple(value.round(9).tolist()) for name, value in values.items()}
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(f"{self.where}/{PREPROCESSOR} tells no colours: {error}.") from error


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


def read(path: pathlib.Path) -> Found:
    """Returns what a folder holds.

    Raises:
      InputError: it is no folder of Hugging Face's, or its kind is not known here.
    """
    if not (path / CONFIG).is_file():
        raise InputError(
            f"{path} holds no {CONFIG}; expected a folder of Hugging Face's, with it and {WEIGHTS}."
        )
    content = read_json(path / CONFIG)
    kind = content.get("model_type")
    kinds = kinds_by_name()
    if kind not in kinds:
        raise InputError(
            f"{path / CONFIG}: model_type = {kind!r}; expected one of {', '.join(kinds)}."
        )
    files = [path / name for name in (OF_VIDEOS, PREPROCESSOR)]
    preprocessor = next((read_json(file) for file in files if file.is_file()), {})
    published = ((renamed(k, kinds[kind].NAMES), v) for k, v in read_weights(path).items())
    return kinds[kind].find(Folder(str(path), content, preprocessor, each_once(published, path)))


def read_weights(path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the weights of a folder, from one file or from several.

    Raises:
      InputError: there are none, or a file is missing or damaged.
    """
    for name, read_file in ((WEIGHTS, read_safetensors), (TORCH_WEIGHTS, read_state_dict)):
        index = path / f"{name}.index.json"
        if (path / name).is_file():
            return read_file(path / name)
        if index.is_file():
            parts = (read_file(path / part) for part in parts_of(index))
            return each_once((item for part in parts for item in part.items()), path)
    have = ", ".join(sorted(file.name for file in path.iterdir())) or "nothing"
    raise InputError(
        f"{path} holds no {WEIGHTS} (nor {WEIGHTS}.index.json, nor {TORCH_WEIGHTS}); "
        f"it holds {have}."
    )


def parts_of(index: pathlib.Path) -> list[str]:
    """Returns the files that an index names.

    Raises:
      InputError: it is none.
    """
    files = read_json(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"{index} has no weight_map from names to files.")
    return sorted(set(files.values()))


def each_once(items: Iterable[tuple[str, np.ndarray]], path: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns arrays by name.

    Raises:
      InputError: a name comes twice.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, array in items:
        if name in arrays:
            raise InputError(f"{path} holds {name} twice, perhaps under names of two versions.")
        arrays[name] = array
    return arrays


def write(pretrained: Pretrained, folder: pathlib.Path) -> None:
    """Writes a model as a folder that `from_pretrained` reads; the folder is there and empty.

    Raises:
      InputError: Hugging Face has no such model; names what differs from each that it has.
    """
    refusals = []
    for name, kind in kinds_by_name().items():
        try:
            theirs = kind.express(pretrained)
        except InputError as error:
            refusals.append(f"  {name}: {error}")
            continue
        for note in theirs.notes:
            log.warning("%s: %s", name, note)
        arrays = to_theirs(theirs.rules, pretrained.params, f"Hugging Face's {name}")
        arrays |= theirs.idle
        safetensors.numpy.save_file(arrays, folder / WEIGHTS, metadata={"format": "pt"})
        for file, content in ((CONFIG, theirs.config), (PREPROCESSOR, theirs.preprocessor)):
            (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return
    lines = "\n".join(refusals)
    raise InputError(f"Hugging Face has no model like {pretrained.where}:\n{lines}")


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


def unlike(wanted: Mapping[str, Any], model: Mapping[str, Any]) -> str:
    """Returns the options of a model that are not as wanted, in words; "" for none.

    An option that is neither wanted nor FREE is to be its default, so that one which Hugging Face
    knows nothing of is not lost.
    """
    usual = recipe.defaults(VideoTransformer)
    wanted = {
        "name": "video_transformer",
        **{name: value for name, value in usual.items() if name not in FREE},
        **wanted,
    }
    return differing("model", wanted, {**usual, **model})  # a run may be older than an option


def differing(section: str, wanted: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """Returns the options of a section that are not as wanted, in words; "" for none."""
    return "; ".join(
        f"config.{section}.{name} = {found[name]!r}, and it has {value!r}"
        for name, value in wanted.items()
        if found[name] != value
    )


def kinds_by_name() -> dict[str, Any]:
    """Returns the modules that know a kind, by its model_type."""
    from vivit_jax.pretrained import hf_timesformer, hf_videomae, hf_vivit, hf_vjepa2

    return {
        "videomae": hf_videomae,
        "vivit": hf_vivit,
        "timesformer": hf_timesformer,
        "vjepa2": hf_vjepa2,
    }
