"""Which videos there are, with their labels: those of a folder, or of list files."""

import concurrent.futures
import dataclasses
import logging
import os
import pathlib
from collections.abc import Set as AbstractSet

from vivit_jax import config
from vivit_jax.data.examples import Example, Sources
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
from vivit_jax.data.lists import Row, part, read_excluded, read_list, refuse
from vivit_jax.data.splits import selected, split_by_hash
from vivit_jax.errors import InputError
from vivit_jax.options import choose

log = logging.getLogger(__name__)
EVAL_FOLDERS = ("val", "valid", "validation", "eval", "test")  # the first that exists is used


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
    splits = split_folders(names)
    if not splits:
        return videos(root, root, data.follow_links), []
    train = videos(os.path.join(root, "train"), root, data.follow_links)
    if len(splits) == 1:
        return train, []
    held_out = videos(os.path.join(root, splits[1]), root, data.follow_links)
    known = {item.labels for item in train}
    refuse(
        [
            item.where
            for item in held_out
            if not (data.label_map or doubtful) and item.labels not in known
        ],
        len(held_out),
        f"Their class folders are in {splits[1]} but not in train; add them there too.",
    )
    return train, held_out


def split_folders(names: AbstractSet[str]) -> list[str]:
    """Returns which of a folder's folders are splits, "train" first; none where some are not."""
    if "train" not in names or names - {"train", *EVAL_FOLDERS}:
        return []
    return ["train", *(name for name in EVAL_FOLDERS if name in names)]


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
