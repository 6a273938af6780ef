"""Checkpoints of a run, by Orbax: saved while training goes on, the newest and the best kept.

    python -m vivit_jax.checkpoint verify DIR    # a workdir, its checkpoints/, or one step

A checkpoint is a step's whole TrainState, and its number is also the place in the data. Orbax
returns flipped bits, other shapes and other types without a word, so each step has a manifest (see
manifest.py), which every restore is held to. A step that is not what was saved is never deleted: it
is moved to WORKDIR/set_aside, and the one before it is used. A save that was not finished when the
process died has another name, and is cleared away at the next start.
"""

import argparse
import contextlib
import itertools
import logging
import pathlib
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from types import TracebackType
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from vivit_jax import manifest, processes
from vivit_jax.digest import digests
from vivit_jax.errors import Damaged, InputError, NotFinite, NotSaved, listed, some
from vivit_jax.orbax_manager import open_manager
from vivit_jax.retention import NewestAndBest
from vivit_jax.terminal import run

log = logging.getLogger(__name__)
FOLDER = "checkpoints"
SET_ASIDE = "set_aside"
_NAMED = 5  # arrays that a message about damage names
_CAUSE = 500  # characters of what a part below says, in a message
_LATE = 60.0  # seconds for which a network disk may show a folder that was moved
_talks = itertools.count()  # names of what processes tell each other


def _cause(error: Exception | str) -> str:
    """Returns what an error says, without the pages that TensorStore adds.

    It tells what it wanted first, with one long path after another, and why it could not last.
    """
    text = str(error).split(" [tensorstore_spec")[0]
    return text if len(text) <= _CAUSE else f"{text[: _CAUSE // 2]} ... {text[-_CAUSE // 2 :]}"


def locate(folder: pathlib.Path) -> tuple[pathlib.Path, int | None]:
    """Returns the workdir, and the step where the path is one of its WORKDIR/checkpoints/STEP."""
    folder = folder.resolve()
    if folder.parent.name == FOLDER and folder.name.isdigit():
        return folder.parents[1], int(folder.name)
    return folder, None


class Checkpoints:
    """The checkpoints in a workdir; a context manager, whose end waits for the last save.

    All processes of a run call its methods together.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        keep: int = 1,
        best: str = "",
        read_only: bool = False,
        about: Callable[[int], Mapping[str, Any]] = lambda step: {},
        check_lock: Callable[[], None] = lambda: None,
    ):
        """Opens the folder; makes it, and clears it of unfinished saves, unless `read_only`.

        Args:
          workdir: of the run.
          keep: newest checkpoints kept.
          best: the result by which one more is kept; the larger the better.
          read_only: leave it as it is, for the run that may be saving into it.
          about: gives what the manifest of a step tells besides the arrays; JSON.
          check_lock: raises where the workdir is no longer this run's; asked before a save.
        """
        self.folder = workdir.resolve() / FOLDER
        self._about, self._check_lock = about, check_lock
        self._saving: tuple[int, int] | None = None  # the step that is being saved, and its bytes
        self._doubted: set[int] = set()  # steps without a manifest, which were warned of
        self._kept = NewestAndBest(self.folder, keep, best)
        self._read_only = read_only
        self._manager = self._open()

    def _open(self) -> ocp.CheckpointManager:
        """Returns Orbax's manager of the steps that there are now."""
        return open_manager(self.folder, self._kept, self._read_only)

    def steps(self) -> list[int]:
        """Returns the steps that are on disk, whole or not."""
        return manifest.steps_in(self.folder)

    def latest(self) -> int | None:
        """Returns the newest step that is on disk and has what a step must have.

        Its arrays are not read: `restore_newest` does.

        Raises:
          NotSaved: the last save came to nothing.
        """
        self.poll()
        for step in reversed(self.steps()):
            with contextlib.suppress(Damaged):
                self.manifest(step)
                return step
        return None

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

    def manifest(self, step: int) -> dict[str, Any] | None:
        """Returns the manifest of a step; None where it was saved before there were any.

        Raises:
          Damaged: there should be one.
        """
        folder = self.folder / str(step)
        try:
            told = manifest.look(folder)
            before = (other for other in self.steps() if other < step)
            if told is None and any(map(self._has_manifest, before)):
                raise Damaged("it has no manifest, and earlier steps have")
        except Damaged as error:
            raise Damaged(f"{folder} is damaged: {error}.") from error
        return told

    def shapes(self, step: int) -> Any:
        """Returns the tree of what a step holds: shapes and types.

        Raises:
          Damaged: it cannot be read.
        """
        with self._reading(step):
            saved: Any = self._manager.metadata(step).item_metadata
            return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), saved.tree)

    def save(self, step: int, state: Any, results: Mapping[str, float] | None = None) -> None:
        """Starts saving a state, unless its step is saved; the state may be donated at once.

        Args:
          step: of the state.
          state: a tree of arrays.
          results: of an evaluation of it.

        Raises:
          NotFinite: the state is not; names the arrays.
          NotSaved: the save before it came to nothing, or this one cannot begin.
        """
        self._settle()
        if step in self._manager.all_steps():  # known to all processes alike, unlike the disk
            return
        self._check_lock()
        # Orbax saves a scalar of numpy or Python, and then cannot read it.
        state = jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.asarray(x), state)
        found, spoilt = digests(state)
        if spoilt:
            lines = listed([f"{path} is not finite" for path in spoilt])
            raise NotFinite(f"The state of step {step} is not saved:\n{lines}")
        told = manifest.make(step, state, found, results, self._about(step))
        self._kept.add(step, told["results"])
        self._saving = step, sum(x.nbytes for x in jax.tree.leaves(state))
        try:
            args = ocp.args.PyTreeSave(state)
            begun = self._manager.save(step, args=args, custom_metadata=told)
        except Exception as error:
            raise self._not_saved(error) from None  # Orbax's pages tell no more
        if not begun:
            raise self._not_saved("there are later steps; go back by Checkpoints.roll_back")

    def poll(self) -> None:
        """Looks whether the save under way has ended; costs nothing.

        Raises:
          NotSaved: it came to nothing.
        """
        if self._saving is not None and not self._manager.is_saving_in_progress():
            self._settle()

    def wait(self) -> None:
        """Returns when what was saved is on disk.

        Raises:
          NotSaved: it is not, and will not be.
        """
        self._settle()

    def read(self, step: int, target: Any) -> Any:
        """Returns a part of a step as numpy arrays, whole on every process.

        Args:
          step: one of `steps`.
          target: a part of `shapes`.

        Raises:
          Damaged: it is not what was saved; names the step and the arrays.
        """
        whole = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), target)
        told = self.manifest(step)
        with self._reading(step):
            arrays = self._restore(step, target, whole)
        self._check(step, arrays, told)
        return arrays

    def restore(self, step: int, target: Any) -> Any:
        """Returns a step's arrays.

        Args:
          step: one of `steps`.
          target: tree of jax.ShapeDtypeStruct, with shardings. Where it is a part of what was
            saved, that part is read.

        Raises:
          Damaged: it is not what was saved; names the step and the arrays.
          InputError: what was saved lacks something, or has another shape or type.
        """
        return self._arrays(step, target, None)

    def restore_newest(self, target: Any, spared: Collection[str] = ()) -> tuple[int, Any]:
        """Returns the newest step that is what was saved, and its arrays.

        Later ones are set aside, so that their steps can be saved again. Where no step is whole,
        all stay where they are.

        Args:
          target: tree of jax.ShapeDtypeStruct, with shardings: all that was saved.
          spared: ends of paths that may have been saved besides.

        Raises:
          Damaged: no step is whole; says why for each.
          InputError: what was saved is something else, in shape or type, or there is nothing.
        """
        self._settle()
        bad: dict[int, str] = {}
        for step in reversed(self.steps()):
            try:
                state = self._arrays(step, target, spared)
            except Damaged as error:
                bad[step] = str(error)
                log.warning("%s", error)
                continue
            for number in bad:
                self._set_aside(number, "damaged")
            if bad:
                log.warning("Goes on from step %d, which is whole.", step)
            return step, state
        if not bad:
            raise InputError(f"{self.folder} holds no checkpoint.")
        raise Damaged(
            f"No checkpoint in {self.folder} is whole; nothing was moved. Bring back a copy of "
            f"one, or take another --workdir.\n{listed(bad.values())}"
        )

    def roll_back(self, step: int) -> None:
        """Sets all later steps aside, so that saving goes on from a step.

        Raises:
          InputError: there is no such step.
        """
        self._settle()
        self.find(step)
        for later in self.steps():
            if later > step:
                self._set_aside(later, "rolled-back")

    def _has_manifest(self, step: int) -> bool:
        """Returns whether a step has one, and a look shows nothing to be wrong."""
        with contextlib.suppress(Damaged):
            return manifest.look(self.folder / str(step)) is not None
        return False

    def _arrays(self, step: int, target: Any, spared: Collection[str] | None) -> Any:
        """Returns a step's arrays after they were compared with the manifest.

        Args:
          step: which.
          target: what is wanted of it.
          spared: see manifest.differences.
        """
        told = self.manifest(step)
        saved = manifest.kinds_in(told) if told else manifest.kinds(self.shapes(step))
        if lines := manifest.differences(saved, manifest.kinds(target), spared):
            raise InputError(
                f"{self.folder / str(step)} is not what this config wants: was it saved with other "
                "options, such as another optimiser, other data.frames or data.image_size, or more "
                f"frozen?\n{listed(lines)}"
            )
        cause = ""
        try:
            with self._reading(step):
                args = ocp.checkpoint_utils.construct_restore_args(target)
                arrays = self._restore(step, target, args)
        except Damaged as error:
            arrays, cause = None, str(error)
        # All must have read, before they add up their digests.
        said = processes.tell_all(f"restored {next(_talks)}", cause)
        if causes := [text for text in said.values() if text]:
            raise Damaged(causes[0])
        self._check(step, arrays, told)
        return arrays

    def _check(self, step: int, arrays: Any, told: Mapping[str, Any] | None) -> None:
        """Refuses arrays that are not what a manifest tells."""
        if told is None:
            if step not in self._doubted:
                log.warning(
                    "%s was saved without a manifest: whether it is what was saved cannot be told.",
                    self.folder / str(step),
                )
            self._doubted.add(step)
            return
        found = digests(arrays)[0]
        other = [path for path in found if told["arrays"][path]["digest"] != found[path]]
        if other:
            raise Damaged(
                f"{self.folder / str(step)} is damaged: {some(other, _NAMED)} "
                f"{'is' if len(other) == 1 else 'are'} not what was saved, by the digest."
            )

    def _restore(self, step: int, target: Any, restore_args: Any) -> Any:
        """Returns the part of a step that `target` is, as `restore_args` want it."""
        restore = ocp.args.PyTreeRestore(target, restore_args, partial_restore=True)
        return self._manager.restore(step, args=restore)

    @contextlib.contextmanager
    def _reading(self, step: int) -> Iterator[None]:
        """Turns what Orbax makes of a damaged step into Damaged.

        That can be an error of any kind, as damaged text is read as something else.
        """
        try:
            yield
        except (MemoryError, jax.errors.JaxRuntimeError):  # of the machine, not of the files
            raise
        except Exception as error:
            raise Damaged(
                f"{self.folder / str(step)} is damaged: {type(error).__name__}: {_cause(error)}"
            ) from error

    def _set_aside(self, step: int, reason: str) -> None:
        """Moves a step out of the way of others."""
        if jax.process_index() == 0:
            place = self.folder.parent / SET_ASIDE
            place.mkdir(exist_ok=True)
            names = [f"{step}-{reason}", *(f"{step}-{reason}-{n}" for n in range(2, 10**6))]
            new = next(place / name for name in names if not (place / name).exists())
            (self.folder / str(step)).rename(new)
            log.warning("Step %d is set aside, %s: it is now %s.", step, reason, new)
        processes.tell_all(f"set aside {next(_talks)}", "")
        deadline = time.monotonic() + _LATE
        while (self.folder / str(step)).exists() and time.monotonic() < deadline:
            time.sleep(1.0)
        self._manager.close()
        self._manager = self._open()

    def _settle(self) -> None:
        """Returns when the save under way is on disk; raises NotSaved where it is not."""
        if self._saving is None:
            return
        try:
            self._manager.wait_until_finished()
            there = jax.process_index() or self._saving[0] in self.steps()
        except Exception as error:
            raise self._not_saved(error) from None  # Orbax's pages tell no more
        if not there:
            raise self._not_saved("its folder is not there")
        self._saving = None

    def _not_saved(self, cause: Exception | str) -> NotSaved:
        """Returns the error of the save under way, which is none any more."""
        assert self._saving is not None
        (step, wanted), self._saving = self._saving, None
        free = shutil.disk_usage(self.folder).free
        text = _cause(cause) or type(cause).__name__
        return NotSaved(
            f"Step {step} could not be saved: it wants up to {wanted:,} bytes, and {free:,} are "
            f"free in {self.folder}. What was saved before stays. ({text})"
        )

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
        try:
            self._settle()
        except NotSaved as failure:
            if error is None:
                raise
            log.error("%s", failure)  # besides what ends the run
        finally:
            self._manager.close()


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vivit_jax.checkpoint")
    commands = parser.add_subparsers(required=True)
    verify = commands.add_parser("verify", help="exit code 0: whole, 1: damaged, 2: no checkpoint")
    verify.add_argument("folder", metavar="DIR", type=pathlib.Path, help="workdir, or one step")
    from vivit_jax.verify import verify as judge  # it imports this module

    return judge(parser.parse_args().folder)


if __name__ == "__main__":
    sys.exit(run(main))
