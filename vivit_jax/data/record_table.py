"""Where in a shard each frame is, so that a clip reads its 16 frames and not its video's 300.

ArrayRecord gives whole records. But what is stored uncompressed lies in the file as it is, but for
a header of 24 bytes at the beginning of every block of 64 KiB (Riegeli's file format). So when a
shard is written it is read back, every frame is looked up in it, and its place, length and checksum
go into a table beside the shard, with what has to be known to choose frames. A table that cannot be
made, or is missing, costs speed only: records are then read whole.
"""

import functools
import mmap
import os
import pathlib
import zlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from vivit_jax.data.container import DecodeError

FOLDER = "frames"  # of the tables, in the dataset's
BLOCK, HEADER = 1 << 16, 24
NUMBERS = ("length", "shown", "nano_fps", "rows", "columns")  # see record_format.features
VIDEO = np.dtype([(name, "<i8") for name in ("first", "count", *NUMBERS)])
FRAME = np.dtype([("nanoseconds", "<i8"), ("offset", "<i8"), ("bytes", "<u4"), ("crc", "<u4")])


class Row(NamedTuple):
    """A record, for the table.

    Attributes:
      record: its bytes.
      numbers: NUMBERS.
      nanoseconds: when each frame is shown.
      pieces: the bytes of each frame.
    """

    record: bytes
    numbers: Sequence[int]
    nanoseconds: Sequence[int]
    pieces: Sequence[bytes]


def files_of(shard: Any) -> tuple[Any, Any]:
    """Returns the two files of a shard's table: of its videos, and of its frames."""
    folder = shard.parent / FOLDER
    return folder / f"{shard.name}.videos.npy", folder / f"{shard.name}.frames.npy"


def make(shard: Any, rows: Iterable[Row]) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the table of a shard (videos, frames), or None where its file is not as expected.

    Args:
      shard: its file, which holds records one after another.
      rows: what each of them is, in order.
    """
    videos: list[tuple[int, ...]] = []
    frames: list[tuple[int, ...]] = []
    place = 0
    with open(shard, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for row in rows:
            place = _find(data, row.record, place)
            if place < 0:
                return None
            videos.append((len(frames), len(row.pieces), *row.numbers))
            inside = 0
            for time, piece in zip(row.nanoseconds, row.pieces, strict=True):
                inside = row.record.index(piece, inside)
                frames.append((time, place + inside, len(piece), zlib.crc32(piece)))
                inside += len(piece)
            place += len(row.record)
    return np.array(videos, VIDEO), np.array(frames, FRAME)


def _find(data: mmap.mmap, record: bytes, start: int) -> int:
    """Returns where a record begins, in bytes that are no block's header; -1 if it is not near."""
    near = _without_headers(data, start, min(BLOCK, _size(data) - start))
    place = near.find(record[: min(64, len(record))])
    while place >= 0:
        if _without_headers(data, start + place, len(record)) == record:
            return start + place
        place = near.find(record[: min(64, len(record))], place + 1)
    return -1


def _size(data: mmap.mmap) -> int:
    """Returns how many bytes of a file are no header."""
    whole, rest = divmod(len(data), BLOCK)
    return whole * (BLOCK - HEADER) + max(0, rest - HEADER)


def _span(place: int, length: int) -> tuple[int, int]:
    """Returns where bytes that are no header begin and end in the file."""
    ends = (divmod(at, BLOCK - HEADER) for at in (place, place + length - 1))
    first, last = (block * BLOCK + HEADER + rest for block, rest in ends)
    return first, last + 1


def _without_headers(data: Any, place: int, length: int) -> bytes:
    """Returns bytes of a mapped file, without the headers among them."""
    if length < 1:
        return b""
    first, last = _span(place, length)
    return strip(bytes(data[first:last]), first)


def strip(piece: bytes, first: int) -> bytes:
    """Returns a piece of a file that begins at `first`, without the headers inside it."""
    cut = BLOCK - first % BLOCK
    if cut >= len(piece):
        return piece
    parts = [piece[:cut]]
    parts += [piece[at + HEADER : at + BLOCK] for at in range(cut, len(piece), BLOCK)]
    return b"".join(parts)


class Table:
    """The tables of a shard, and the bytes that they point to; safe to use from any thread."""

    def __init__(self, shard: pathlib.Path):
        """Opens the files.

        Raises:
          OSError: there is no table.
          ValueError: it is damaged.
        """
        videos, frames = files_of(shard)
        self.videos = np.load(videos, allow_pickle=False)
        mode = "r" if frames.stat().st_size > BLOCK else None
        self.frames = np.load(frames, mode, allow_pickle=False)
        if self.videos.dtype != VIDEO or self.frames.dtype != FRAME:
            raise ValueError("another format")
        self._path = shard
        self._file = os.open(shard, os.O_RDONLY)

    def __del__(self):
        """Closes the shard, once nothing reads from it."""
        if hasattr(self, "_file"):
            os.close(self._file)

    def pieces(self, video: np.void) -> tuple[np.ndarray, "Pieces"]:
        """Returns the times of a video's frames, in nanoseconds, and the frames."""
        rows = np.asarray(self.frames[video["first"] : video["first"] + video["count"]])
        return rows["nanoseconds"], Pieces(self, rows)

    def read(self, offset: int, length: int, crc: int) -> bytes:
        """Returns a frame; the arguments are FRAME's.

        Raises:
          DecodeError: its bytes have changed.
        """
        first, last = _span(offset, length)
        piece = strip(os.pread(self._file, last - first, first), first)
        if zlib.crc32(piece) != crc:
            raise DecodeError("corrupt", f"bytes {first} to {last} of {self._path} have changed")
        return piece


class Pieces(Sequence):
    """The frames of a video, each read when it is asked for."""

    def __init__(self, table: Table, rows: np.ndarray):
        self._table, self._rows = table, rows
        self._read = functools.lru_cache(64)(self._read_one)  # a looped clip asks again

    def _read_one(self, index: int) -> bytes:
        return self._table.read(*self._rows.item(index)[1:])

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self._rows)

    def __getitem__(self, index):
        """Returns one of them."""
        return self._read(int(index))
