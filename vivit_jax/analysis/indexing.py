"""What adds videos to an index: a build that was killed goes on where its last part ends."""

import json
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from vivit_jax.analysis import parts
from vivit_jax.analysis.index import ABOUT, BAD, check_made, describe
from vivit_jax.analysis.mean_pictures import FEATURES, mean_pictures
from vivit_jax.errors import InputError
from vivit_jax.files import replacing, stamp
from vivit_jax.metrics import read_lines
from vivit_jax.observer import Observer
from vivit_jax.watching import Watcher

_ROWS = 4096  # rows of a part, about
_SECONDS = 60.0  # after which what there is becomes one
_PASSING = {"timeout", "crashed", "closed"}  # causes of a loss that need not come again


class Builder:
    """Adds videos to an index; what was added is on the disk after `flush`.

    Attributes:
      entries: the videos that are there, by id.
      bad: what is known of those of which nothing could be read, by id.
    """

    def __init__(self, folder: pathlib.Path, about: Mapping[str, Any]):
        """Makes the folder, or goes on with what is there.

        Args:
          folder: of the index.
          about: "checkpoint"; "fingerprint" and "windows", which decide the rows; and whether a
            video has "several" labels.

        Raises:
          InputError: the index was made by another model or of other windows, is broken, or
            cannot be written.
        """
        self._folder, self._about = folder, {**about, "labels": {}}
        if (folder / ABOUT).exists():
            before = describe(folder)
            check_made(folder, before, about)
            self._about["labels"] = before["labels"]
        self.entries: dict[str, parts.Entry] = {}
        files = parts.files(folder)
        for part in map(parts.Part, files):
            check_made(folder, part.made, about)
            self.entries |= {entry.id: entry for entry in part.entries}
        self._number = 1 + max((int(file.name[:6]) for file in files), default=-1)
        self.bad = {record["id"]: record for record in read_lines(folder / BAD)}
        self._held: list[tuple[parts.Entry, parts.Rows | None]] = []
        self._since = time.monotonic()
        try:
            self._describe()
        except OSError as error:
            raise InputError(f"--index={folder} cannot be written into: {error}.") from error

    def has(self, path: str) -> bool:
        """Returns whether a video is there as it is now, but for what can never be read."""
        entry = self.entries.get(path)
        if entry is None or not entry.windows or parts.state(entry) != "same":
            return False
        return not _PASSING & {one["cause"] for one in entry.lost}

    def label(self, path: str, label: str) -> None:
        """Notes what a video is of; "" leaves what is known."""
        if label:
            self._about["labels"][path] = label

    def add(self, entry: parts.Entry, rows: parts.Rows) -> None:
        """Takes what was made of a video; writes a part where enough has come together."""
        self._held.append((entry, rows))
        self.bad.pop(entry.id, None)
        many = sum(held.windows for held, _ in self._held) >= _ROWS
        if many or time.monotonic() - self._since >= _SECONDS:
            self.flush()

    def refuse(self, path: str, message: str) -> None:
        """Notes a video of which nothing could be read, and lets go of what was made of it."""
        self.bad[path] = {"id": path, "message": message}
        before = self.entries.get(path)
        if before is not None and before.windows:
            self._held.append((before._replace(windows=0), None))

    def flush(self) -> None:
        """Writes what waits as a part, and index.json."""
        if self._held:
            made = {name: self._about[name] for name in ("fingerprint", "windows")}
            parts.write(self._folder, self._number, made, self._held)
            self._number += 1
            self.entries |= {entry.id: entry for entry, _ in self._held}
            self._held = []
        self._since = time.monotonic()
        self._describe()

    @property
    def counts(self) -> dict[str, int]:
        """Videos and windows that are there, and videos that could not be read."""
        there = [entry.windows for entry in self.entries.values() if entry.windows]
        return {"videos": len(there), "windows": sum(there), "bad_videos": len(self.bad)}

    def _describe(self) -> None:
        """Writes index.json and the list of bad videos."""
        parts.write_json(self._folder / ABOUT, {**self._about, "counts": self.counts})
        with replacing(self._folder / BAD) as new:
            lines = (json.dumps(record) + "\n" for record in self.bad.values())
            new.write_text("".join(lines), encoding="utf-8")


def source_of(observer: Observer) -> str:
    """Returns what names a model again: the step, for a run that goes on."""
    saved = observer.saved
    if saved.workdir is None:
        return saved.where
    return str(saved.workdir.absolute() / "checkpoints" / str(saved.step))


def encoded(observer: Observer, watcher: Watcher, path: str) -> tuple[parts.Entry, parts.Rows]:
    """Returns a video's entry and rows.

    Raises:
      InputError: nothing of it can be read.
    """

    def see(clips: np.ndarray) -> np.ndarray:
        return np.concatenate([observer.summaries(clips), mean_pictures(clips)], axis=1)

    size, changed = stamp(path)  # before it is read
    watched = watcher.watch(path, see)
    there = watched.there
    features, pictures = np.split(watched.rows[there], [-FEATURES], axis=1)
    lost = [one._asdict() for one in watched.lost]
    seconds, windows = round(watched.extent.seconds, 3), int(there.sum())
    entry = parts.Entry(path, size, changed, seconds, windows, lost)
    return entry, parts.Rows(features, watched.spans[there], pictures)
