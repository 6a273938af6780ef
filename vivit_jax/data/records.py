"""Datasets that data/build.py made: `data.dataset=records`, `data.root` the folder.

Opening one reads what lies beside its shards and looks at every shard's size, so a dataset that is
half written, cut, or of another version is refused before anything is trained; no record is read.
Then any example can be read by its number. What the records hold is in data/record_format.py.
"""

import bisect
import concurrent.futures
import functools
import itertools
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vivit_jax import config
from vivit_jax.data import record_format
from vivit_jax.data.container import DecodeError
from vivit_jax.data.examples import Example, Sources
from vivit_jax.data.frames import Frames
from vivit_jax.data.lists import SHOWN, read_label_map
from vivit_jax.data.record_format import ABOUT, NANO, TRAIN, VALIDATION
from vivit_jax.data.record_table import NUMBERS, Table
from vivit_jax.data.splits import selected
from vivit_jax.errors import InputError
from vivit_jax.host_tensorflow import host_tensorflow

_OPEN_SHARDS = 256  # files; a process may usually have 1024
_REBUILD = "Build it again: python -m vivit_jax.data.build."


def open_records(data: config.Data) -> Sources:
    """Returns the training and held-out videos of a built dataset.

    Raises:
      InputError: there is none, it is not whole, or it holds something other than what is asked.
    """
    for option in ("train_list", "eval_list"):
        if getattr(data, option):
            raise InputError(
                f"data.{option} is set, and data.dataset = 'records' is read as it was built; "
                "leave it empty, or build from that list."
            )
    root = find(data.root)
    about = read_about(root)
    label_maps = _check_labels(about, data, root)
    check_shards(root, about)
    sources = {split: _examples(root, about, split, data.labels) for split in about["splits"]}
    parts = selected(data, sources[TRAIN], sources.get(VALIDATION, []))
    return Sources(*parts, label_maps, about["directional"])


def find(root: str):
    """Returns the folder of the dataset that `root` means: itself, or the only one below it.

    Raises:
      InputError: there is none, or more than one.
    """
    from etils import epath

    if not root:
        raise InputError("data.root is empty; set it to the folder of the records.")
    folder = epath.Path(root)
    if not folder.is_dir():
        raise InputError(f"data.root is {root!r}, which is not a folder; check the path.")
    if (folder / ABOUT).exists():
        return folder
    found = [file.parent for pattern in ("*", "*/*") for file in folder.glob(f"{pattern}/{ABOUT}")]
    found = sorted(path for path in found if not path.name.startswith("."))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(str(path) for path in found[:SHOWN])
        raise InputError(f"{root} holds {len(found)} datasets ({names}); set data.root to one.")
    begun = [str(path) for n in ("", "*/") for path in folder.glob(f"{n}.*.unfinished")]
    if begun:
        raise InputError(
            f"{begun[0]} is half written: the build was ended before it was whole. Run the same "
            "python -m vivit_jax.data.build again; it goes on where it stopped."
        )
    raise InputError(
        f"{root} holds no records: no {ABOUT} in it or in NAME/VERSION below it. Expected what "
        "python -m vivit_jax.data.build writes (other TFDS datasets are not read)."
    )


def read_about(root: Any) -> dict[str, Any]:
    """Returns what was asked for when a dataset was built, and what its shards must be.

    Raises:
      InputError: it is of another version of the format, or damaged.
    """
    try:
        about = json.loads((root / ABOUT).read_text())
        version = about["format"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{root / ABOUT} is damaged ({error}). {_REBUILD}") from error
    if version != record_format.VERSION:
        raise InputError(
            f"{root} holds records of format {version}, and this program reads format "
            f"{record_format.VERSION}. {_REBUILD}"
        )
    return about


def check_shards(root: Any, about: Mapping[str, Any]) -> None:
    """Returns if every shard is there, whole by its size.

    Raises:
      InputError: names those that are not.
    """
    shards = [shard for split in about["splits"].values() for shard in split["shards"]]

    def fault(shard: Mapping[str, Any]) -> str:
        path = root / shard["file"]
        if not path.exists():
            return f"{path}: no such shard"
        size = path.stat().length
        return "" if size == shard["bytes"] else f"{path}: {size} bytes, expected {shard['bytes']}"

    with concurrent.futures.ThreadPoolExecutor(16) as threads:  # a network disk is slow to tell
        faults = list(filter(None, threads.map(fault, shards)))
    if faults:
        more = [f"... and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
        lines = "\n  ".join(faults[:SHOWN] + more)
        raise InputError(
            f"{len(faults)} of {len(shards)} shards are gone or cut:\n  {lines}\n"
            f"Copy the dataset again, or delete {root} and build it again."
        )


def _check_labels(
    about: Mapping[str, Any], data: config.Data, root: Any
) -> tuple[tuple[str, ...], ...]:
    """Returns the label maps, as asked for.

    Raises:
      InputError: the records have other labels.
    """
    if data.labels == "none":
        return ((),)
    if data.labels != about["labels"]:
        raise InputError(
            f"data.labels is {data.labels!r}, and {root} was built with --labels "
            f"{about['labels']}; set data.labels to that or to none."
        )
    maps = tuple(tuple(names) for names in about["label_maps"])
    if data.label_map:
        given = tuple(read_label_map(file.strip())[0] for file in data.label_map.split(","))
        if given != maps:
            raise InputError(
                f"data.label_map = {data.label_map!r} names other classes, or in another order, "
                f"than {root} was built with; leave it empty, or build with --label-map."
            )
    return maps


def _examples(root: Any, about: Mapping[str, Any], split: str, labels: str) -> list[Example]:
    """Returns the examples of a split, of which no record is read.

    Raises:
      InputError: the index is not what the shards were written with.
    """
    file = root / record_format.index_file(split)
    shards = about["splits"][split]["shards"]
    try:
        rows = record_format.read_index(file.read_text())
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged or gone ({error}). {_REBUILD}") from error
    expected = sum(shard["examples"] for shard in shards)
    if len(rows) != expected:
        raise InputError(f"{file} has {len(rows)} lines, expected {expected}. {_REBUILD}")
    reader = Shards([root / shard["file"] for shard in shards], [s["examples"] for s in shards])
    kind = about["form"]["kind"]
    return [
        Example(identity, Record(reader, number, kind), () if labels == "none" else label)
        for number, (identity, label) in enumerate(rows)
    ]


class Shards:
    """The records of a split by number; safe to use from any thread."""

    def __init__(self, paths: Sequence[Any], counts: Sequence[int]):
        """Opens nothing yet.

        Args:
          paths: of the shards.
          counts: records in each.
        """
        self._paths = paths
        self._ends = list(itertools.accumulate(counts))
        self._reader = functools.lru_cache(_OPEN_SHARDS)(self._open)
        self._table = functools.lru_cache(_OPEN_SHARDS)(self._open_table)

    def read(self, number: int) -> bytes:
        """Returns a record.

        Raises:
          DecodeError: it is damaged.
        """
        shard, place = self._place(number)
        try:
            return self._reader(shard).read([place])[0]
        except Exception as error:  # the library has no type of its own for a failed checksum
            path = self._paths[shard]
            raise DecodeError("corrupt", f"record {place} of {path}: {error}") from error

    def row(self, number: int) -> tuple[Table, np.void] | None:
        """Returns the table that a video is in, and its row; None where there is no table."""
        shard, place = self._place(number)
        table = self._table(shard)
        return (table, table.videos[place]) if table else None

    def _place(self, number: int) -> tuple[int, int]:
        """Returns the shard of a record, and its number there."""
        shard = bisect.bisect_right(self._ends, number)
        return shard, number - (self._ends[shard - 1] if shard else 0)

    def _open(self, shard: int) -> Any:
        from array_record.python.array_record_module import ArrayRecordReader

        # Nothing is read ahead: the next record that is wanted is somewhere else.
        return ArrayRecordReader(os.fspath(self._paths[shard]), options="readahead_buffer_size:0")

    def _open_table(self, shard: int) -> Table | None:
        try:
            return Table(pathlib.Path(os.fspath(self._paths[shard])))
        except (OSError, ValueError):
            return None


class Record:
    """A video in a shard; a sources.Stored."""

    __slots__ = ("_number", "_shards", "media")

    def __init__(self, shards: Shards, number: int, media: str):
        self._shards, self._number, self.media = shards, number, media

    def read(self) -> bytes | Frames:
        """Returns a video file's content, or its frames.

        Raises:
          DecodeError: the record is damaged, or its video could not be read when it was built.
        """
        found = self._shards.row(self._number)
        if found and found[1]["count"]:
            table, video = found
            times, pieces = table.pieces(video)
            numbers = [video[name].item() for name in NUMBERS]
        else:
            record = parse(self._shards.read(self._number))
            if record.cause:
                raise DecodeError(record.cause, record.message)
            times, pieces, numbers = np.array(record.nanoseconds), record.pieces, record.numbers
        if self.media == "video":
            return pieces[0]
        length, shown, fps, rows, columns = numbers
        return Frames(
            pieces, times / NANO, length / NANO, shown / NANO, fps / NANO, (rows, columns)
        )


class Parsed(NamedTuple):
    """What a record says; see record_format.features."""

    cause: str
    message: str
    numbers: tuple[int, int, int, int, int]
    nanoseconds: Sequence[int]
    pieces: Sequence[bytes]


def parse(record: bytes) -> Parsed:
    """Returns what a record says.

    Raises:
      DecodeError: it is none.
    """
    from google.protobuf.message import DecodeError as NotParsed

    try:
        found = host_tensorflow().train.Example.FromString(record).features.feature
    except NotParsed as error:
        raise DecodeError("corrupt", f"the record is no tf.train.Example: {error}") from error
    cause, message = (
        found[name].bytes_list.value[0].decode("utf-8", "replace") for name in ("cause", "message")
    )
    if "video" in found:
        pieces = [video for video in found["video"].bytes_list.value if video]
        return Parsed(cause, message, (0, 0, 0, 0, 0), [0] * len(pieces), pieces)
    length, shown, fps = (found[name].int64_list.value[0] for name in NUMBERS[:3])
    rows, columns = found["display"].int64_list.value
    numbers = (length, shown, fps, rows, columns)
    frames = list(found["frames"].bytes_list.value)
    return Parsed(cause, message, numbers, list(found["nanoseconds"].int64_list.value), frames)
