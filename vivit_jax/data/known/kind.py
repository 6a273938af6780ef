"""What a known data set is: its files as they are published, and how a row of them is read.

Each data set is one file of this package: a reader that turns its annotation files into Clips, and
a row of what else has to be known. All that is alike lies in survey.py: finding files, holding them
to the published counts, and matching rows with videos.
"""

import dataclasses
import functools
import pathlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

Maps = tuple[tuple[str, ...], ...]
Look = Callable[..., str]  # names of a file -> where the first of them is, or an InputError
LABELS = pathlib.Path(__file__).parent / "labels"


@dataclasses.dataclass(frozen=True)
class Clip:
    """A row of an annotation file.

    Attributes:
      stems: names that its video may have, without extension, the surest first.
      labels: indices into the label maps: one a head, or any number.
      where: file and line.
      id: its own where several rows share a video; else it has its video's path.
      folder: its class, which may be the name of its video's folder.
      span: first and last second in its video, from the start; None for all of it.
      source: stems are of a longer video, of which files named STEM_BEGIN_END may hold a part.
    """

    stems: tuple[str, ...]
    labels: tuple[int, ...]
    where: str
    id: str = ""
    folder: str = ""
    span: tuple[float, float] | None = None
    source: bool = False


class Part(NamedTuple):
    """Training or held-out videos.

    Attributes:
      files: names that its annotation file has below the root, "{split}" being the split's number.
      folders: names of folders that its videos may lie in, where others may be called alike.
    """

    files: tuple[str, ...]
    folders: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Known:
    """A data set.

    Attributes:
      name: row of the catalogue and of published.DATA_SETS.
      title: as its makers call it.
      home: where it is officially to be had.
      terms: under what terms, and what has to be known besides.
      layout: of its files, as a tree.
      judged: what the held-out part is, and how results on it are told.
      labels: data.labels that it has.
      train: where training videos are told of; None for a folder without annotations.
      eval: where held-out ones are.
      read: from an annotation file, "train" or "eval", the split and the label maps to its rows.
      maps: names of the classes, by looking for files where need be.
      official: whether a file is in the published format, by its beginning.
      directional: whether a label can mean a direction, so that a mirror image would be wrong.
      splits: how many it has.
      by_folder: names are the same in several class folders, so that only the right one will do.
      from_folders: folders of the classes' names, in those of the parts, will do for annotations.
    """

    name: str
    title: str
    home: str
    terms: str
    layout: str
    judged: str
    labels: str = "single"
    train: Part | None = None
    eval: Part | None = None
    read: Callable[[str, str, int, Maps], list[Clip]] | None = None
    maps: Callable[[Look], Maps] = lambda look: ((),)
    official: Callable[[str], bool] = lambda path: True
    directional: bool = False
    splits: int = 1
    by_folder: bool = False
    from_folders: bool = False


@functools.lru_cache(maxsize=10_000)
def plain(name: str) -> str:
    """Returns a name as any spelling of it is compared: "Playing_Guitar's" as "playing guitars"."""
    return re.sub(r"[^a-z0-9]+", " ", name.lower().replace("'", "").replace("’", "")).strip()


def index_of(names: Sequence[str]) -> dict[str, int]:
    """Returns the numbers of classes by their plain names."""
    return {plain(name): i for i, name in enumerate(names)}


def shipped(name: str) -> Maps:
    """Returns a label map that comes with the package, in the order of published models."""
    return (tuple((LABELS / f"{name}.txt").read_text(encoding="utf-8").splitlines()),)
