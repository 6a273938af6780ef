"""An index on disk: a row of features for every window of many videos.

DIR/index.json         whose rows they are, how windows are made, labels, counts
DIR/parts/             see parts.py; parts are only added, and of a video that is in several the
                       last one counts
DIR/bad_videos.jsonl   videos of which nothing could be read
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vivit_jax.analysis import nearest, parts
from vivit_jax.errors import InputError

ABOUT, BAD = "index.json", "bad_videos.jsonl"


def describe(folder: pathlib.Path) -> dict[str, Any]:
    """Returns what an index is of: the content of its index.json.

    Raises:
      InputError: there is none, or it is broken.
    """
    file = folder / ABOUT
    if not file.exists():
        raise InputError(
            f"--index={folder} has no {ABOUT}: make it with `python -m vivit_jax.search build`."
        )
    mend = "delete it, and the same `search build` makes it anew, from the parts that are there"
    about = parts.read_json(file, mend)
    if missing := {"fingerprint", "checkpoint", "windows", "labels"} - set(about):
        raise InputError(f"{file} is broken (it lacks {', '.join(sorted(missing))}): {mend}.")
    return about


def check_made(folder: pathlib.Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Refuses a model that did not make an index, or windows that it does not have.

    Args:
      folder: of the index.
      before: "checkpoint", where it is known, "fingerprint" and "windows" of what is there.
      now: those that are given; without "windows", any will do.

    Raises:
      InputError: names both models, or what differs.
    """
    if before["fingerprint"] != now["fingerprint"]:
        raise InputError(
            f"--index={folder} was made by {before.get('checkpoint', 'a model')} (fingerprint "
            f"{before['fingerprint']}), and {now['checkpoint']} is another model, or makes its "
            f"clips otherwise (fingerprint {now['fingerprint']}): features of two models do not "
            "compare. Give the model of the index by --checkpoint, or another --index."
        )
    wanted = now.get("windows", {})
    changed = [
        f"{name} was {before['windows'].get(name)!r} and is {value!r}"
        for name, value in wanted.items()
        if before["windows"].get(name) != value
    ]
    if changed:
        raise InputError(
            f"--index={folder} has other windows: {'; '.join(changed)}. Give another --index."
        )


class Index:
    """All rows of an index, mapped into memory.

    Attributes:
      folder: of it.
      about: the content of index.json.
      entries: the videos, in the order of their rows.
      owner: int32 [N], the number of each row's video.
      spans: float64 [N 2], seconds.
      lengths: float32 [N], what the rows were divided by.
    """

    def __init__(self, folder: pathlib.Path):
        """Reads the tables; rows are read when they are asked for.

        Raises:
          InputError: there is no index, a file of it is broken, or it is empty.
        """
        self.folder, self.about = folder, describe(folder)
        whole = [parts.Part(file) for file in parts.files(folder)]
        for part in whole:
            check_made(folder, part.made, self.about)
        last = {entry.id: part for part in whole for entry in part.entries}
        self.entries: list[parts.Entry] = []
        self._pieces: list[tuple[parts.Part, int, int]] = []  # rows of a part that follow on
        for part in whole:
            first = 0
            for entry in part.entries:
                if last[entry.id] is part and entry.windows:
                    self.entries.append(entry)
                    self._add(part, first, first + entry.windows)
                first += entry.windows
        if not self.entries:
            raise InputError(f"--index={folder} is empty: no window of any video is in it.")
        self._bounds = np.cumsum([0, *(end - begin for _, begin, end in self._pieces)])
        counts = [entry.windows for entry in self.entries]
        self.owner = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        table = np.concatenate([part.table[begin:end] for part, begin, end in self._pieces])
        self.spans, self.lengths = table[:, :2], table[:, 2].astype(np.float32)

    def _add(self, part: parts.Part, begin: int, end: int) -> None:
        if self._pieces and self._pieces[-1][0] is part and self._pieces[-1][2] == begin:
            begin = self._pieces.pop()[1]
        self._pieces.append((part, begin, end))

    def __len__(self) -> int:
        """Returns how many rows there are."""
        return len(self.owner)

    @property
    def features(self) -> int:
        """D."""
        return self._pieces[0][0].rows.shape[1]

    @property
    def labels(self) -> list[str]:
        """The label of each video; "" where none is known."""
        return [self.about["labels"].get(entry.id, "") for entry in self.entries]

    def part(self, first: int, end: int, pictures: bool = False) -> Float[np.ndarray, "n D"]:
        """Returns rows [first, end), or their mean pictures; mapped where they lie together.

        Raises:
          InputError: their file is broken.
        """
        end = min(end, len(self))
        number = int(np.searchsorted(self._bounds, first, side="right")) - 1
        found = []
        while first < end:
            part, begin, _ = self._pieces[number]
            last = min(end, int(self._bounds[number + 1]))
            offset = begin - int(self._bounds[number])
            rows = part.pictures if pictures else part.rows
            found.append(rows[first + offset : last + offset])
            first, number = last, number + 1
        return found[0] if len(found) == 1 else np.concatenate(found)

    def blocks(self, wanted: Bool[np.ndarray, " N"] | None = None) -> Iterator[nearest.Block]:
        """Yields the rows as `nearest.best` takes them, without reading more than a block.

        Args:
          wanted: which rows may be an answer; None for all.
        """
        size = nearest.block_size(self.features)
        for first in range(0, len(self), size):
            span = slice(first, first + size)
            may = None if wanted is None else wanted[span]
            rows = self.part(first, first + size)
            yield from nearest.blocks(rows, self.lengths[span], self.owner[span], may)
