"""What a step's folder says of itself: which arrays it holds, their digests, and whence they are.

The manifest lies in Orbax's own file about a step, as its custom metadata. Orbax writes that file
when every process has written its arrays, last before the folder gets its name; so a step has a
manifest or is none, and both go together. A manifest has a digest of itself.
"""

import json
import pathlib
import time
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from vivit_jax.errors import Damaged
from vivit_jax.text import letters_of
from vivit_jax.trees import by_path

FILE = "_CHECKPOINT_METADATA"  # Orbax tells its name only in private
ARRAYS = "default"  # Orbax's folder of the arrays
Kind = tuple[tuple[int, ...], str]  # shape and dtype


def make(
    step: int,
    state: Any,
    digests: Mapping[str, str],
    results: Mapping[str, float] | None,
    about: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns the manifest of a step.

    Args:
      step: its number.
      state: the arrays.
      digests: of the arrays, by path.
      results: of an evaluation of it.
      about: whatever else is to be known, as JSON can hold it.
    """
    arrays = {
        path: {"shape": list(shape), "dtype": dtype, "digest": digests[path]}
        for path, (shape, dtype) in kinds(state).items()
    }
    content = {
        "step": step,
        "saved": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "results": {name: float(value) for name, value in (results or {}).items()},
        "arrays": arrays,
        **about,
    }
    return {**content, "digest": letters_of(content, 8)}


def read(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the manifest of a step's folder; None where it was saved before there were any.

    Raises:
      Damaged: it is not what was written, or not there.
    """
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))["custom_metadata"]
        if not found:
            return None
        content = {name: value for name, value in found.items() if name != "digest"}
        whole = found["digest"] == letters_of(content, 8)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Damaged(f"its manifest cannot be read ({error!r})") from error
    if not whole:
        raise Damaged("its manifest is not what was written")
    return content


def look(folder: pathlib.Path) -> dict[str, Any] | None:
    """Returns the manifest of a step's folder, as `read` does, where nothing else is amiss in it.

    Raises:
      Damaged: a look shows that something is.
    """
    try:
        if not any(folder.iterdir()):
            raise Damaged("it is empty")
        if not (folder / ARRAYS).is_dir():
            raise Damaged(f"it has no {ARRAYS}/")
    except OSError as error:
        raise Damaged(str(error)) from error
    return read(folder)


def steps_in(folder: pathlib.Path) -> list[int]:
    """Returns the steps of a folder of checkpoints, rising; whole or not."""
    if not folder.is_dir():
        return []
    return sorted(int(one.name) for one in folder.iterdir() if one.name.isdigit() and one.is_dir())


def kinds(tree: Any) -> dict[str, Kind]:
    """Returns shape and dtype of every array of a tree, or of shapes, by path."""
    return {path: (tuple(x.shape), str(np.dtype(x.dtype))) for path, x in by_path(tree).items()}


def kinds_in(manifest: Mapping[str, Any]) -> dict[str, Kind]:
    """Returns shape and dtype of every array of a manifest, by path."""
    arrays = manifest["arrays"]
    return {path: (tuple(one["shape"]), one["dtype"]) for path, one in arrays.items()}


def differences(
    saved: Mapping[str, Kind], wanted: Mapping[str, Kind], spared: Collection[str] | None
) -> list[str]:
    """Returns a line for each array that is not as it is wanted.

    Args:
      saved: what there is, by path.
      wanted: what there should be.
      spared: ends of paths that may be saved without being wanted; None for any path.
    """
    lines = []
    for path in sorted({*saved, *wanted}):
        if path not in saved:
            lines.append(f"it has no {path}")
        elif path not in wanted:
            if spared is not None and not path.endswith(tuple(spared)):
                lines.append(f"it has {path}, which is not wanted")
        elif saved[path] != wanted[path]:
            (shape, dtype), (new_shape, new_dtype) = saved[path], wanted[path]
            if shape != new_shape:
                lines.append(f"{path} has the shape {shape}, and should have {new_shape}")
            if dtype != new_dtype:
                lines.append(f"{path} is {dtype}, and should be {new_dtype}")
    return lines
