"""Reading the files that weights are published in, and refusing what is no such file."""

import json
import pathlib
from typing import Any

import ml_dtypes  # noqa: F401  (numpy knows bfloat16 by it)
import numpy as np
import safetensors
import safetensors.numpy

from vivit_jax.errors import InputError


def read_json(file: pathlib.Path) -> dict[str, Any]:
    """Returns an object.

    Raises:
      InputError: the file is missing or is none.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(f"{file} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"{file} holds {type(content).__name__}; expected an object.")
    return content


def read_safetensors(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a .safetensors file.

    Raises:
      InputError: the file is missing, truncated or none such.
    """
    return read_with_metadata(file)[0]


def read_with_metadata(file: pathlib.Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Returns the arrays of a .safetensors file, and the texts beside them.

    Raises:
      InputError: as of `read_safetensors`.
    """
    try:
        with safetensors.safe_open(file, "np") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return arrays, opened.metadata() or {}
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}).") from error
    except (safetensors.SafetensorError, TypeError) as error:
        raise InputError(f"{file} is damaged or no safetensors file: {error}.") from error


def read_npz(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a .npz file.

    Raises:
      InputError: the file is missing, truncated, none such, or holds Python objects.
    """
    try:
        with np.load(file, allow_pickle=False) as opened:
            return {name: opened[name] for name in opened.files}
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # zipfile's, zlib's and numpy's own
        raise InputError(f"{file} is damaged or no .npz file of arrays: {error}.") from error
