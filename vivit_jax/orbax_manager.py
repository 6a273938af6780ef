"""Orbax's manager of the steps in a folder, each of which is on the disk once it has its name."""

import asyncio
import os
import pathlib

import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers
from orbax.checkpoint.path import atomicity

from vivit_jax.retention import NewestAndBest


def open_manager(
    folder: pathlib.Path, kept: NewestAndBest, read_only: bool
) -> ocp.CheckpointManager:
    """Returns a manager of the steps that there are now.

    Args:
      folder: of the steps.
      kept: which of them stay.
      read_only: neither make the folder nor clear away saves that were not finished.
    """

    def manager(light: bool) -> ocp.CheckpointManager:
        options = ocp.CheckpointManagerOptions(
            preservation_policy=kept,
            cleanup_tmp_directories=not read_only,
            create=not read_only,
            # Which steps are saved is the loop's to say.
            save_decision_policy=checkpoint_managers.FixedIntervalPolicy(1),
            lightweight_initialize=light,
            temporary_path_class=_OnDisk,
        )
        handler = ocp.PyTreeCheckpointHandler()
        return ocp.CheckpointManager(folder, options=options, item_handlers=handler)

    try:
        return manager(light=False)
    except (ValueError, TypeError, KeyError, AttributeError):  # of a step that is damaged
        return manager(light=True)  # looks into none, so it knows no times


class _OnDisk(atomicity.AtomicRenameTemporaryPath):
    """How Orbax ends a save: here, all of it is on the disk before older steps are deleted.

    Orbax flushes arrays, but not the text beside them, without which a power cut leaves nothing.
    """

    async def finalize(self) -> None:
        """Gives the folder its name, and returns when that and all in it is on the disk."""
        await super().finalize()
        folder = pathlib.Path(self.get_final())
        if folder.name.isdigit():  # a step, and not an item of one, which goes with it
            await asyncio.to_thread(_flush, folder, *folder.rglob("*"), folder.parent)


def _flush(*paths: pathlib.Path) -> None:
    """Returns when files and folders are on the disk."""
    for path in paths:
        place = os.open(path, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
