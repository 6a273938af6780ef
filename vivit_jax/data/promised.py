"""How many bytes a video file says that it has, so that one that was cut is known at once.

AVI and Matroska name the size of the whole in their first bytes, and an MP4's index the place of
every picture. What is read of a file that was cut is right, but its header may promise moments
that are not there, and whether a clip falls on one is chance: so a cut file is refused for all.
"""

import os
import struct
from typing import Any, BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HEAD = 256  # bytes: Matroska's own header is about 40
_ALLOWED = 0.01  # of the promised bytes that may be missing: some writers miscount


def lost_bytes(file: BinaryIO, index: Any) -> tuple[int, int]:
    """Returns how many bytes of a file are not there, and how many it says that it has; (0, 0).

    Args:
      file: open; its position stays.
      index: a sequence of its pictures, each with `pos` and `size`; empty where the file has none.
    """
    place = file.tell()
    try:
        file.seek(0)
        promised = _promised(file.read(_HEAD))
        there = file.seek(0, os.SEEK_END)
    finally:
        file.seek(place)
    if len(index):
        promised = max(promised, index[-1].pos + index[-1].size)
    lost = promised - there
    return (lost, promised) if lost > _ALLOWED * promised else (0, 0)


def _promised(head: bytes) -> int:
    """Returns the bytes of a file by its first ones; 0 where they do not say."""
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        (size,) = struct.unpack("<I", head[4:8])
        return size + 8 if size else 0
    if head[:4] == _EBML:
        size, start = _number(head, 4)
        place = start + (size or 0)
        if head[place : place + 4] == _SEGMENT:
            size, start = _number(head, place + 4)
            return start + size if size is not None else 0
    return 0


def _number(head: bytes, place: int) -> tuple[int | None, int]:
    """Returns a number of Matroska's at a place, None for "unknown", and the place behind it."""
    first = head[place] if place < len(head) else 0
    if not first:
        return None, place
    length = 9 - first.bit_length()
    most = (1 << 7 * length) - 1
    value = int.from_bytes(head[place : place + length]) & most
    return (None if value == most else value), place + length
