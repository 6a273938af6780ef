"""Videos that must be what they were: the SHA-256 of each, compared whenever it is read.

No decoder notices all damage; docs/data.md says how much of it each does. A list that was made
while the files were whole tells of every bit, whatever the codec:

    cd videos && find . -type f -exec sha256sum {} + > SHA256SUMS

In such a list a name that holds a line break or a backslash is escaped, and its line begins with a
backslash.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from typing import Any

from vivit_jax.data.container import DecodeError, open_file
from vivit_jax.data.lists import read_lines, refuse
from vivit_jax.errors import InputError

_LINE = re.compile(r"(\\?)([0-9a-fA-F]{64}) [ *](.+)")
_ESCAPED = {r"\\": "\\", r"\n": "\n", r"\r": "\r"}


def digests_of(videos: Sequence[Any], file: str, root: str) -> list[str]:
    """Returns the SHA-256 of each video.

    Args:
      videos: absolute paths.
      file: as `sha256sum` writes it.
      root: what its paths start from; "" for its own folder.

    Raises:
      InputError: a line does not parse, or a video is not in it, or is no file.
    """
    base, digests = root or os.path.dirname(file), read_digests(file)
    bases = {os.path.join(path, "") for path in (os.path.abspath(base), os.path.realpath(base))}
    found, faults = [], []
    for video in videos:
        if not isinstance(video, str):
            raise InputError("data.digests is set, and these are no video files; leave it empty.")
        names = [video, *(video[len(base) :] for base in bases if video.startswith(base))]
        found.append(next((digests[name] for name in names if name in digests), ""))
        faults += [] if found[-1] else [f"{video}: no line in {file}"]
    refuse(faults, len(videos), "Add them by `sha256sum`, or leave data.digests empty.")
    return found


def read_digests(file: str) -> dict[str, str]:
    """Returns SHA-256 by path.

    Raises:
      InputError: the file is missing, or names the lines that do not parse.
    """
    digests, faults, lines = {}, [], read_lines(file)
    for number, line in lines:
        match = _LINE.fullmatch(line)
        if match is None:
            faults.append(f"{file}, line {number}: {line[:80]!r}")
            continue
        escaped, digest, path = match.groups()
        if escaped:
            path = re.sub(r"\\[\\nr]", lambda pair: _ESCAPED[pair[0]], path)
        digests[os.path.normpath(path)] = digest.lower()
    refuse(faults, len(lines), "Expected a SHA-256 and a path a line, as `sha256sum` writes them.")
    return digests


def verified(video: str | bytes, digest: str) -> str | bytes:
    """Returns the content of a video that is what it was; a path as it is where nobody knows.

    Raises:
      DecodeError: it is not what it was, or cannot be read.
    """
    if not digest:
        return video
    with open_file(video) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != digest:
        raise DecodeError("corrupt", "its SHA-256 is another than in data.digests")
    return content
