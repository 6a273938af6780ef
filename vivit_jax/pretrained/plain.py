"""Our own models as one safetensors file: parameters by our paths, the config as metadata.

Every model has it, and any safetensors library reads it. Nothing but float32 arrays and text is in
the file.
"""

import json
import pathlib

import safetensors.numpy

from vivit_jax import config
from vivit_jax.errors import InputError
from vivit_jax.pretrained.files import read_with_metadata
from vivit_jax.pretrained.found import Found, Pretrained
from vivit_jax.pretrained.rules import Rule

KEY = "vivit_jax"  # of the metadata
WHERE = ("root", "train_list", "eval_list", "label_map")  # of config.data: the trainer's own paths


def read(path: pathlib.Path) -> Found:
    """Returns what a file holds.

    Raises:
      InputError: it is none of these.
    """
    arrays, metadata = read_with_metadata(path)
    if KEY not in metadata:
        raise InputError(
            f"{path} tells no config; expected a file that `python -m vivit_jax.pretrained export "
            "--to safetensors:FILE` wrote."
        )
    about = json.loads(metadata[KEY])
    sections = about["config"]
    return Found(
        where=str(path),
        model=sections["model"],
        objective=sections["objective"],
        data=sections["data"],
        eval=sections["eval"],
        arrays=arrays,
        rules=[Rule(name, name) for name in arrays],
        sizes={},
        label_maps=tuple(map(tuple, about["label_maps"])),
    )


def write(pretrained: Pretrained, file: pathlib.Path) -> None:
    """Writes a model."""
    sections = json.loads(config.to_json(pretrained.experiment))
    sections = {name: sections[name] for name in ("model", "objective", "data", "eval")}
    sections["data"] = {k: v for k, v in sections["data"].items() if k not in WHERE}
    about = json.dumps({"config": sections, "label_maps": pretrained.label_maps})
    safetensors.numpy.save_file(pretrained.params, file, metadata={KEY: about})
