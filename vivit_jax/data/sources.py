"""Which videos there are, with their labels: random access to a folder or to list files.

A source knows its length and gives example i for any i; everything about order, clips and pixels
is decided elsewhere. An example's id is its path below the root: it is what splits are drawn by,
what refused videos are reported by, and two files of one name in two folders have two.
"""

import concurrent.futures
import dataclasses
import hashlib
import logging
import os
import pathlib
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from typing import Any, Protocol, TypeVar

import numpy as np

from vivit_jax import config
from vivit_jax.data.digests import digests_of
from vivit_jax.data.folders import (
    FOLLOW,
    MISSING,
    entries,
    is_below,
    refuse_none,
    videos_below,
    why_not,
)
from vivit_jax.data.labels import index_labels
from vivit_jax.data.lists import Row, apart, part, read_excluded, read_list, refuse
from vivit_jax.errors import InputError
from vivit_jax.options import choose

log = logging.getLogger(__name__)
EVAL_FOLDERS = ("val", "valid", "validation", "eval", "test")  # the first that exists is used


class Stored(Protocol):
    """A video in a data set's own files, read when it is asked for.

    Attributes:
      media: what `read` gives: "video" for a video file's content, "jpeg" for frames.Frames.
    """

    media: str

    def read(self) -> Any:
        """Returns it.

        Raises:
          DecodeError: it cannot be read.
        """
        ...


@dataclasses.dataclass(frozen=True)
class Example:
    """A labelled video.

    Attributes:
      id: path below the root, with forward slashes; unique.
      video: path, a file's content, or where in a data set's own files it is.
      label: index into the label map; several for data.labels "multi" and "heads", and () for
        "none".
      span: the first and last second that it is of the video, from its first frame; None for all.
      digest: SHA-256 that its file must have; "" for any.
    """

    id: str
    video: str | bytes | Stored
    label: int | tuple[int, ...]
    span: tuple[float, float] | None = None
    digest: str = ""


class Source(Protocol):
    """Examples by number."""

    def __len__(self) -> int:
        """Returns how many there are."""
        ...

    def example(self, index: int, /) -> Example:
        """Returns one of them."""
        ...


@dataclasses.dataclass(frozen=True)
class Listed:
    """A source whose examples are known from the start."""

    examples: Sequence[Example]

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.examples)

    def example(self, index: int, /) -> Example:
        """Returns one of them."""
        return self.examples[index]


@dataclasses.dataclass(frozen=True)
class Picked:
    """Some examples of a source, in another order.

    Attributes:
      source: whose.
      numbers: of the examples in it.
    """

    source: Source
    numbers: Sequence[int]

    def __len__(self) -> int:
        """Returns how many there are."""
        return len(self.numbers)

    def example(self, index: int, /) -> Example:
        """Returns one of them."""
        return self.source.example(int(self.numbers[index]))


@dataclasses.dataclass(frozen=True)
class Sources:
    """The videos of an experiment.

    Attributes:
      train: to learn from.
      eval: held out; empty where none were.
      label_maps: the names of the labels; one map a head for data.labels "heads", else one,
        which is empty for "none".
      directional: whether a label can mean a direction, where the videos' own files say so.
    """

    train: Source
    eval: Source
    label_maps: tuple[tuple[str, ...], ...]
    directional: bool = False

    @property
    def label_map(self) -> tuple[str, ...]:
        """The names of the labels (of the first head)."""
        return self.label_maps[0]


class Identified(Protocol):
    """Something with an id."""

    @property
    def id(self) -> str:
        """Unique."""
        ...


T = TypeVar("T", bound=Identified)


@dataclasses.dataclass(frozen=True)
class _Found:
    """A video whose label is still a name or a number in words."""

    id: str
    path: str
    labels: tuple[str, ...]
    where: str  # for messages
    base: str = ""  # what links may not leave; of listed videos
    span: tuple[float, float] | None = None


def open_sources(data: config.Data, doubtful: bool = False) -> Sources:
    """Returns the training and held-out videos of a folder or of lists.

    Args:
      data: which, without those of data.exclude.
      doubtful: for whoever looks for what is wrong with them: files that are not there, and classes
        that are only held out, are among them instead of refused.

    Raises:
      InputError: there is no video to train on, or a path, label or line cannot be used.
    """
    check_options(data)
    if data.eval_list and not data.train_list:
        raise InputError("data.eval_list is set and data.train_list is not; give both, or only it.")
    excluded = read_excluded(data.exclude) if data.exclude else frozenset()
    if data.train_list:
        found = _from_lists(data, excluded, doubtful)
    else:
        found = _from_folder(data, doubtful)
    train, held_out = found if found[1] else split_by_hash(found[0], data.holdout)
    if not train:
        raise InputError(
            f"All {len(held_out)} videos fell among the held-out; lower data.holdout "
            f"({data.holdout}), add videos, or split them yourself."
        )
    items = [*train, *held_out]
    maps, indices = ((),), [()] * len(items)
    if data.labels != "none":
        maps, indices = index_labels(
            items,
            naming=len(train) if found[1] and not doubtful else len(items),
            map_files=data.label_map,
            heads=data.labels == "heads",
            numbers=bool(data.train_list),
        )
    examples = [
        Example(item.id, item.path, label if data.labels != "single" else label[0], item.span)
        for item, label in zip(items, indices, strict=True)
    ]
    return Sources(*selected(data, examples[: len(train)], examples[len(train) :]), maps)


def check_options(data: config.Data) -> None:
    """Refuses options that suit no data set.

    Raises:
      InputError: names the option.
    """
    choose("data.labels", data.labels, ("single", "multi", "heads", "none"))
    if not 0 <= data.holdout < 1:
        raise InputError(f"data.holdout is {data.holdout}; expected at least 0 and below 1.")
    if not 0 < data.train_share <= 1:
        raise InputError(f"data.train_share is {data.train_share}; expected above 0, at most 1.")
    if data.labels == "none" and data.label_map:
        raise InputError('data.label_map is set, and data.labels = "none" reads no labels.')


def content_of(example: Example) -> str | bytes:
    """Returns the path of an example's video file, or the file's content.

    Raises:
      DecodeError: it is stored, and cannot be read.
      InputError: it is stored as pictures.
    """
    video = example.video
    if isinstance(video, str | bytes):
        return video
    if video.media != "video":
        raise InputError(
            f"{example.id} is stored as pictures, which are no video file: use the videos that "
            "they were made of."
        )
    return video.read()


def media_of(source: Source) -> str:
    """Returns what a source's videos are: "jpeg" for frames.Frames, "video" for video files."""
    video = source.example(0).video if len(source) else ""
    return "video" if isinstance(video, str | bytes) else video.media


def fingerprint(source: Source) -> dict[str, int | str]:
    """Returns how many videos there are, and a few letters of their ids, labels and order."""
    letters = hashlib.blake2b(digest_size=8)
    for example in map(source.example, range(len(source))):
        span = "" if example.span is None else f"{example.span}\n"
        line = f"{example.id}\n{example.label}\n{span}"
        letters.update(line.encode("utf-8", "surrogateescape"))
    return {"videos": len(source), "digest of their ids and labels": letters.hexdigest()}


def selected(
    data: config.Data, train: Sequence[Example], held_out: Sequence[Example]
) -> tuple[Listed, Listed]:
    """Returns data.train_share of the training videos, and those held out; none of data.exclude.

    Raises:
      InputError: data.exclude is no bad list, or none is left to train on.
    """
    learnt, judged = leave_out(data, train, held_out)
    by_class = data.labels in ("single", "heads")
    learnt = share_by_hash(learnt, data.train_share, by_class)
    return Listed(_with_digests(learnt, data)), Listed(_with_digests(judged, data))


def _with_digests(examples: Sequence[Example], data: config.Data) -> Sequence[Example]:
    """Returns examples with what data.digests says of them."""
    if not data.digests:
        return examples
    digests = digests_of([example.video for example in examples], data.digests, data.root)
    pairs = zip(examples, digests, strict=True)
    return [dataclasses.replace(example, digest=digest) for example, digest in pairs]


def leave_out(
    data: config.Data, train: Sequence[Example], held_out: Sequence[Example]
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Returns training and held-out examples without the videos of data.exclude; says how many.

    Raises:
      InputError: data.exclude is no bad list, or none is left to train on.
    """
    if not data.exclude:
        return train, held_out
    excluded = read_excluded(data.exclude)
    known = {example.id for example in (*train, *held_out)}
    learnt, judged = ([e for e in part if e.id not in excluded] for part in (train, held_out))
    if len(train) and not learnt:
        raise InputError(
            f"data.exclude = {data.exclude} leaves no video to train on; check the list."
        )
    log.info("data.exclude leaves out %d of %d videos.", len(excluded & known), len(known))
    if excluded - known:
        log.warning(
            "%d of the %d videos of %s are not among those here, such as %s: an id is a path below "
            "data.root or the list's folder.",
            *(len(excluded - known), len(excluded), data.exclude, min(excluded - known)),
        )
    return learnt, judged


def split_by_hash(items: Sequence[T], holdout: float) -> tuple[list[T], list[T]]:
    """Returns training and held-out videos, drawn by their ids alone.

    A video stays where it is for ever: neither the seed nor the other videos move it. Parts of a
    video stay together.
    """
    parts: tuple[list[T], list[T]] = ([], [])
    for item in items:
        parts[_number(apart(item.id)[0]) < holdout].append(item)
    return parts


def share_by_hash(examples: Sequence[Example], share: float, by_class: bool) -> list[Example]:
    """Returns a share of the examples, at least one, in their order; drawn by their ids alone.

    A smaller share is a part of a larger one, so few labels grow into more.

    Args:
      examples: to choose from.
      share: above 0, at most 1.
      by_class: of each class (of the first head) the same share, and at least one.
    """
    if share == 1:
        return list(examples)
    classes: dict[int, list[str]] = {}
    for example in examples:
        label = int(np.atleast_1d(example.label)[0]) if by_class else 0
        classes.setdefault(label, []).append(example.id)
    used = set()
    for ids in classes.values():
        ids.sort(key=lambda identity: _number(identity, b"train_share"))
        used |= set(ids[: max(1, round(share * len(ids)))])
    return [example for example in examples if example.id in used]


def _number(identity: str, purpose: bytes = b"") -> float:
    """Returns a number in [0, 1) that an id has for a purpose, on every machine."""
    text = identity.encode("utf-8", "surrogateescape")
    digest = hashlib.blake2b(text, digest_size=8, person=purpose).digest()
    return int.from_bytes(digest) / 2**64


def _from_folder(data: config.Data, doubtful: bool) -> tuple[list[_Found], list[_Found]]:
    """Returns training and held-out videos of data.root; none of these without split folders."""
    if not data.root:
        raise InputError(
            "data.root and data.train_list are empty; set data.root to a folder of class folders, "
            "or data.train_list to a file of `path label` lines."
        )
    if not os.path.isdir(data.root):
        raise InputError(f"data.root is {data.root!r}, which is not a folder; check the path.")
    root = os.path.realpath(data.root)
    names = {e.name for e in entries(root) if os.path.isdir(e.path) and e.name[0] != "."}
    videos = _any_videos if data.labels == "none" else _class_folders
    if "train" not in names or names - {"train", *EVAL_FOLDERS}:
        return videos(root, root, data.follow_links), []
    train = videos(os.path.join(root, "train"), root, data.follow_links)
    for name in EVAL_FOLDERS:
        if name in names:
            held_out = videos(os.path.join(root, name), root, data.follow_links)
            known = {item.labels for item in train}
            refuse(
                [
                    item.where
                    for item in held_out
                    if not (data.label_map or doubtful) and item.labels not in known
                ],
                len(held_out),
                f"Their class folders are in {name} but not in train; add them there too.",
            )
            return train, held_out
    return train, []


def _class_folders(folder: str, root: str, follow_links: bool) -> list[_Found]:
    """Returns the videos below the class folders of a folder, in the order of their ids."""
    found = [
        _Found(_identity(path, root), path, (entry.name,), path)
        for entry in entries(folder)
        if os.path.isdir(entry.path) and entry.name[0] != "."
        for path in videos_below(entry.path, root, follow_links)
    ]
    if not found:
        refuse_none(folder, "class folders with files")
    return found


def _any_videos(folder: str, root: str, follow_links: bool) -> list[_Found]:
    """Returns all videos below a folder, in the order of their ids, without labels."""
    paths = list(videos_below(folder, root, follow_links)) or refuse_none(folder)
    return [_Found(_identity(path, root), path, (), path) for path in paths]


def _identity(path: str, root: str) -> str:
    """Returns a path below the root, with forward slashes."""
    return pathlib.PurePath(path).relative_to(root).as_posix()


def _from_lists(
    data: config.Data, excluded: AbstractSet[str], doubtful: bool
) -> tuple[list[_Found], list[_Found]]:
    """Returns training and held-out videos of the list files; none of these without a list."""
    lists = [read_list(file, data.labels) for file in (data.train_list, data.eval_list) if file]
    rows = [row for rows in lists for row in rows]
    found = [_find(row, data) for row in rows]

    def look(item: _Found) -> str:
        return why_not(item.path, item.base, data.follow_links)

    with concurrent.futures.ThreadPoolExecutor(16) as threads:  # a network disk is slow to tell
        faults = list(threads.map(look, found))
    refuse(
        [
            f"{item.where}: {fault}: {item.path}"
            for item, fault in zip(found, faults, strict=True)
            if fault and not (item.id in excluded or (doubtful and fault == MISSING))
        ],
        len(rows),
        "Relative paths start at data.root or, where that is empty, at the list's own folder. "
        f"Of a link that leaves it: {FOLLOW}.",
    )
    first: dict[str, str] = {}
    refuse(
        [
            f"{item.where}: {item.id!r} was on {first[item.id]}"
            for item in found
            if first.setdefault(item.id, item.where) != item.where
        ],
        len(rows),
        "A video is listed once: several labels stand on one line (data.labels=multi), and no "
        "video is both trained on and held out.",
    )
    return found[: len(lists[0])], found[len(lists[0]) :]


def _find(row: Row, data: config.Data) -> _Found:
    """Returns the video of a row: its id, and where it is."""
    base = os.path.abspath(data.root or os.path.dirname(row.file))
    path = os.path.normpath(os.path.join(base, row.path))
    inside = is_below(path, base)
    if not inside and (data.root or not os.path.isabs(row.path)):
        raise InputError(
            f"{row.where}: {row.path!r} leaves {base}; set data.root to a folder above it, or, for "
            "a list of absolute paths, to none."
        )
    identity = os.path.relpath(path, base) if inside else path
    confined = base if data.root or not os.path.isabs(row.path) else ""
    identity = pathlib.PurePath(identity).as_posix()
    if row.span:
        identity = part(identity, *row.span)
    return _Found(identity, path, row.labels, row.where, confined, row.span)
