"""Which file is the video of a row: by its name, wherever it lies below the root.

Layouts differ: flat, a folder a class (with spaces or underscores), a folder a part, another
extension after somebody re-encoded it. So all videos below the root are listed once, and a row is
looked up by the stem of its file; where several files have it, its part's folder and its class's
decide.
"""

import functools
import os
import posixpath
import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import NamedTuple

from vivit_jax.data.folders import videos_below
from vivit_jax.data.known.kind import Clip, plain
from vivit_jax.errors import InputError

_PIECE = re.compile(r"(.+)_(\d+)_(\d+)")  # of a longer video: its name, first and last second


class Match(NamedTuple):
    """A row and its video.

    Attributes:
      clip: the row.
      path: of its video, below the root; "" where it is not there.
      begin: second of the row's time that is the video's first.
      shared: a file is there that could as well be another row's.
    """

    clip: Clip
    path: str
    begin: float = 0.0
    shared: bool = False


class Files:
    """The videos below a folder, by the stems of their names."""

    def __init__(self, root: str, follow_links: bool = False):
        """Lists them.

        Raises:
          InputError: it is no folder, or a link leaves it.
        """
        if not os.path.isdir(root):
            raise InputError(f"data.root is {root!r}, which is not a folder; check the path.")
        self.root = os.path.realpath(root)
        start = len(os.path.join(self.root, ""))
        found = videos_below(self.root, self.root, follow_links)
        self.paths = [path[start:].replace(os.sep, "/") for path in found]
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        self._pieces: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
        for path in self.paths:
            stem = posixpath.splitext(posixpath.basename(path))[0]
            self._by_stem[stem].append(path)
            if match := _PIECE.fullmatch(stem):
                self._pieces[match[1]].append((float(match[2]), float(match[3]), path))

    def match(
        self, parts: Sequence[tuple[Sequence[Clip], Collection[str]]], by_folder: bool
    ) -> list[list[Match]]:
        """Returns the rows of each part with their videos.

        Args:
          parts: rows, and the folders that they may be in.
          by_folder: only a file in the folder of the row's class will do.

        Raises:
          InputError: two files could be a row's video.
        """
        hints = [{plain(folder) for folder in folders} for _, folders in parts]
        found = [
            [self._find(clip, hints[i], by_folder) for clip in clips]
            for i, (clips, _) in enumerate(parts)
        ]
        claims: dict[str, list[tuple[int, int]]] = defaultdict(list)
        for i, matches in enumerate(found):
            for j, match in enumerate(matches):
                if match.path and match.clip.span is None:
                    claims[match.path].append((i, j))
        for path, rivals in claims.items():
            if len(rivals) > 1:
                owner = _owner(path, {(i, j): found[i][j].clip for i, j in rivals}, hints)
                for i, j in rivals:
                    if (i, j) != owner:
                        found[i][j] = Match(found[i][j].clip, "", shared=True)
        return found

    def _find(self, clip: Clip, hints: set[str], by_folder: bool) -> Match:
        """Returns a row with its video, or without."""
        stem = next((stem for stem in clip.stems if stem in self._by_stem), "")
        options = [(0.0, path) for path in self._by_stem.get(stem, ())]
        if clip.source and clip.span:
            middle = sum(clip.span) / 2
            pieces = [piece for stem in clip.stems for piece in self._pieces.get(stem, ())]
            inside = [(begin, path) for begin, end, path in pieces if begin <= middle <= end]
            options = inside or options
        for wanted, required in ((hints, False), ({plain(clip.folder)} - {""}, by_folder)):
            right = [(begin, path) for begin, path in options if wanted & parents(path)]
            options = right if right or required else options
        if len(options) > 1:
            raise InputError(
                f"{clip.where}: {options[0][1]} and {options[1][1]} below {self.root} could both "
                "be this video; give a data.root that holds one of them."
            )
        return Match(clip, options[0][1], options[0][0]) if options else Match(clip, "")


def parents(path: str) -> frozenset[str]:
    """Returns the plain names of the folders that a path goes through."""
    return _plain_names(posixpath.dirname(path))


@functools.lru_cache(maxsize=10_000)
def _plain_names(folder: str) -> frozenset[str]:
    """Returns the plain names of the parts of a path."""
    return frozenset(plain(part) for part in folder.split("/") if part)


def _owner(
    path: str, rivals: dict[tuple[int, int], Clip], hints: Sequence[set[str]]
) -> tuple[int, int] | None:
    """Returns which of several rows a file is of: by its folders; None where they do not tell.

    Args:
      path: of the file.
      rivals: rows by the number of their part, and in it.
      hints: plain names of the folders of each part.
    """
    folders = parents(path)
    right = {key for key, clip in rivals.items() if plain(clip.folder) in folders} or set(rivals)
    right = {key for key in right if hints[key[0]] & folders} or right
    same = {(key[0], rivals[key].labels) for key in right}  # one row, written twice
    return min(right) if len(same) == 1 else None
