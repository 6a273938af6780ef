"""Whether checkpoints are what was saved: every array is read, and held to its digest."""

import pathlib
from typing import Any

import jax
import numpy as np

from vivit_jax import manifest
from vivit_jax.checkpoint import FOLDER, Checkpoints, locate
from vivit_jax.errors import Damaged, InputError
from vivit_jax.trees import by_path


def verify(folder: pathlib.Path) -> int:
    """Prints a table of steps; returns 0 where all are whole, and 1 where one is not.

    Args:
      folder: a workdir, its folder of checkpoints, or one step's folder in it.

    Raises:
      InputError: there is no checkpoint.
    """
    jax.config.update("jax_platforms", "cpu")  # a run may need the accelerator's memory
    folder = folder.resolve()
    workdir, step = locate(folder.parent if folder.name == FOLDER else folder)
    there = manifest.steps_in(workdir / FOLDER)
    wanted = there if step is None else [step]
    if not wanted or step not in (None, *there):
        raise InputError(
            f"{folder} is no checkpoint; expected a workdir, its {FOLDER}/, or a step's folder."
        )
    row = "{:>10}  {:25}  {:>7}  {:>15}  {}".format
    print(row("step", "saved", "arrays", "bytes", "is"))
    whole = True
    with Checkpoints(workdir, read_only=True) as checkpoints:
        for step in wanted:
            saved, arrays, size, verdict = "", "", "", "whole"
            try:
                told = checkpoints.manifest(step)
                count, total = read_all(checkpoints, step)
                saved, arrays, size = told["saved"] if told else "", str(count), f"{total:,}"
                verdict = "whole" if told else "readable; it has no manifest to be held to"
            except Damaged as error:
                whole, verdict = False, str(error)
            print(row(step, saved, arrays, size, verdict), flush=True)
    return int(not whole)


def read_all(checkpoints: Checkpoints, step: int) -> tuple[int, int]:
    """Returns how many arrays a step holds, and their bytes, having read and checked each.

    Raises:
      Damaged: one is missing, or not what was saved.
    """
    shapes, told = checkpoints.shapes(step), checkpoints.manifest(step)
    count, size = 0, 0
    parts: Any = shapes.items()  # one after another, so that no more than one is in memory
    for name, part in parts:
        arrays = by_path(checkpoints.read(step, {name: part}))
        count, size = count + len(arrays), size + sum(np.asarray(x).nbytes for x in arrays.values())
    if told and (lost := told["arrays"].keys() - by_path(shapes).keys()):
        raise Damaged(f"{checkpoints.folder / str(step)} is damaged: it has no {min(lost)}.")
    return count, size
