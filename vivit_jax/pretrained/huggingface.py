"""Hugging Face's folders: config.json, preprocessor_config.json, and the weights beside them.

Each kind of model is a module of its own, by config.json's "model_type". It has

    NAMES                          renames: patterns of transformers 5's names in memory to those of
                                   published files, which the tables are written in
    find(folder) -> Found          what the folder holds
    express(pretrained) -> Theirs  the same model as a folder of theirs, or an InputError; where
                                   there is none, they are only read
"""

import json
import logging
import pathlib
import types
from collections.abc import Iterable, Mapping

import numpy as np
import safetensors.numpy

from vivit_jax.errors import InputError
from vivit_jax.pretrained import (
    hf_gpt2,
    hf_resnet,
    hf_timesformer,
    hf_videomae,
    hf_vivit,
    hf_vjepa2,
)
from vivit_jax.pretrained.files import read_json, read_safetensors
from vivit_jax.pretrained.found import Found, Pretrained
from vivit_jax.pretrained.hf_folder import CONFIG, PREPROCESSOR, Folder
from vivit_jax.pretrained.rules import renamed, to_theirs
from vivit_jax.pretrained.torch_file import read_state_dict

log = logging.getLogger(__name__)
WEIGHTS = "model.safetensors"
OF_VIDEOS = "video_preprocessor_config.json"  # where a processor of videos was saved
TORCH_WEIGHTS = "pytorch_model.bin"  # of older folders
KINDS: Mapping[str, types.ModuleType] = {  # by model_type
    "videomae": hf_videomae,
    "vivit": hf_vivit,
    "timesformer": hf_timesformer,
    "vjepa2": hf_vjepa2,
    "resnet": hf_resnet,
    "gpt2": hf_gpt2,
}


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
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(
            f"{path / CONFIG}: model_type = {kind!r}; expected one of {', '.join(KINDS)}."
        )
    files = [path / name for name in (OF_VIDEOS, PREPROCESSOR)]
    preprocessor = next((read_json(file) for file in files if file.is_file()), {})
    published = ((renamed(k, KINDS[kind].NAMES), v) for k, v in read_weights(path).items())
    return KINDS[kind].find(Folder(str(path), content, preprocessor, each_once(published, path)))


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
    for name, kind in KINDS.items():
        if not hasattr(kind, "express"):
            continue
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
        told = {CONFIG: {"model_type": name, **theirs.config}, PREPROCESSOR: theirs.preprocessor}
        for file, content in told.items():
            (folder / file).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return
    lines = "\n".join(refusals)
    raise InputError(f"Hugging Face has no model like {pretrained.where}:\n{lines}")
