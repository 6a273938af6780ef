"""Checkpoints of a run, by Orbax: saved while training goes on, the newest and the best kept.

A checkpoint is a step's whole TrainState, and its number is also the place in the data. One that
was not finished when the process died has another name, and is cleared away at the next start.
"""

import pathlib
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from vivit_jax.errors import InputError
from vivit_jax.trees import path_of

FOLDER = "checkpoints"


def locate(folder: pathlib.Path) -> tuple[pathlib.Path, int | None]:
    """Returns the workdir, and the step where the path is one of its WORKDIR/checkpoints/STEP."""
    folder = folder.resolve()
    if folder.parent.name == FOLDER and folder.name.isdigit():
        return folder.parents[1], int(folder.name)
    return folder, None


class Checkpoints:
    """The checkpoints in a workdir; a context manager, whose end waits for the last save."""

    def __init__(
        self, workdir: pathlib.Path, keep: int = 1, best: str = "", read_only: bool = False
    ):
        """Opens the folder; makes it, and clears it of unfinished saves, unless `read_only`.

        Args:
          workdir: of the run.
          keep: newest checkpoints kept.
          best: the result by which one more is kept; the larger the better.
          read_only: leave it as it is, for the run that may be saving into it.
        """
        self.folder = workdir.resolve() / FOLDER
        kept: list[Any] = [checkpoint_managers.LatestN(keep)]
        if best:
            kept.append(
                checkpoint_managers.BestN(
                    get_metric_fn=lambda results: results[best],
                    n=1,
                    keep_checkpoints_without_metrics=False,
                )
            )
        options = ocp.CheckpointManagerOptions(
            preservation_policy=checkpoint_managers.AnyPreservationPolicy(kept),
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            # Which steps are saved is the loop's to say.
            save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
        )
        self._manager = ocp.CheckpointManager(
            self.folder, options=options, item_handlers=ocp.PyTreeCheckpointHandler()
        )

    def steps(self) -> list[int]:
        """Returns the steps that there are."""
        return sorted(self._manager.all_steps())

    def latest(self) -> int | None:
        """Returns the newest step; None where there is no checkpoint."""
        return self._manager.latest_step()

    def find(self, step: int | None) -> int:
        """Returns a step that there is; the newest for None.

        Raises:
          InputError: there is no such checkpoint.
        """
        found = self.latest() if step is None else step
        if found is None or found not in self.steps():
            have = ", ".join(map(str, self.steps())) or "none"
            where = self.folder if step is None else self.folder / str(step)
            raise InputError(f"{where} holds no such checkpoint; steps that it has: {have}.")
        return found

    def shapes(self, step: int) -> Any:
        """Returns the tree of what a step holds: shapes and types."""
        saved: Any = self._manager.metadata(step).item_metadata
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), saved.tree)

    def read(self, step: int, target: Any) -> Any:
        """Returns a part of a step as numpy arrays, whole on every process.

        Args:
          step: one of `steps`.
          target: a part of `shapes`.

        Raises:
          InputError: the checkpoint is damaged.
        """
        whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        return self._restore(step, target, whole)

    def save(self, step: int, state: Any, results: dict[str, float] | None = None) -> None:
        """Starts saving a state, unless its step is saved; the state may be donated at once.

        Args:
          step: of the state.
          state: a tree of arrays.
          results: of an evaluation of it.
        """
        if step not in self._manager.all_steps():
            self._manager.save(step, args=ocp.args.PyTreeSave(state), metrics=results)

    def wait(self) -> None:
        """Returns when what was saved is on disk."""
        self._manager.wait_until_finished()

    def restore(self, step: int, target: Any) -> Any:
        """Returns a step's arrays.

        Args:
          step: one of `steps`.
          target: tree of jax.ShapeDtypeStruct, with shardings. Where it is a part of what was
            saved, that part is read.

        Raises:
          InputError: the checkpoint lacks something, or has it in another shape.
        """
        args = ocp.checkpoint_utils.construct_restore_args(target)
        state = self._restore(step, target, args)
        for (path, array), wanted in zip(
            jax.tree.leaves_with_path(state), jax.tree.leaves(target), strict=True
        ):
            name = path_of(path)
            if isinstance(array, jax.ShapeDtypeStruct):  # what Orbax leaves where there is nothing
                raise InputError(
                    f"{self.folder / str(step)} has no {name}, which this config wants: was it "
                    "saved with other options, such as another optimiser, or more frozen?"
                )
            if array.shape != wanted.shape:
                raise InputError(
                    f"{self.folder / str(step)}: {name} has the shape {array.shape}; "
                    f"this config makes it {wanted.shape}."
                )
        return state

    def _restore(self, step: int, target: Any, restore_args: Any) -> Any:
        """Returns the part of a step that `target` is, as `restore_args` want it."""
        restore = ocp.args.PyTreeRestore(target, restore_args, partial_restore=True)
        try:
            return self._manager.restore(step, args=restore)
        except (ValueError, KeyError, TypeError) as error:
            cause = str(error).split(" [tensorstore_spec")[0]  # of which pages follow
            raise InputError(
                f"{self.folder / str(step)} is damaged, or was saved with other options (those of "
                f"the model, the optimiser, data.frames or data.image_size): {cause}"
            ) from error

    def __enter__(self) -> "Checkpoints":
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for the save that is under way; without this it would be lost."""
        self._manager.close()
