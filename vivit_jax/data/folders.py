"""The videos below a folder."""

import functools
import os
import stat
from collections.abc import Iterator
from typing import NoReturn

from vivit_jax.data.lists import VIDEO_EXTENSIONS
from vivit_jax.errors import InputError

MISSING = "no such file"
FOLLOW = (
    "where that is meant, set data.follow_links, which is --follow-links of the commands in "
    "vivit_jax.data"
)


def videos_below(folder: str, root: str, follow_links: bool = False) -> Iterator[str]:
    """Yields the paths of the videos below a folder, sorted.

    Args:
      folder: where to look; itself below the root.
      root: real and absolute.
      follow_links: whether links may leave the root.

    Raises:
      InputError: names the link that does and may not.
    """
    above = _target(os.path.dirname(folder), root, follow_links) if folder != root else root
    yield from _below(folder, root, follow_links, (root, above))


def why_not(path: str, base: str, follow_links: bool) -> str:
    """Returns why the file of a video cannot be used, or nothing.

    Args:
      path: absolute.
      base: the folder that links may not leave; "" for none.
      follow_links: whether they may.
    """
    try:
        kind, real = os.lstat(path).st_mode, os.path.join(_real(os.path.dirname(path)), "x")
        if stat.S_ISLNK(kind):
            kind, real = os.stat(path).st_mode, os.path.realpath(path)
    except (OSError, ValueError):
        return MISSING
    if stat.S_ISDIR(kind):
        return "a folder, and no video"
    if base and not follow_links and not is_below(real, _real(base)):
        return f"a link that leaves {base}"
    return ""


def entries(folder: str) -> list[os.DirEntry[str]]:
    """Returns what is in a folder, by name.

    Raises:
      InputError: it cannot be listed.
    """
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{folder} cannot be listed ({error.strerror}).") from error


def is_below(path: str, folder: str) -> bool:
    """Returns whether a path is a folder or below it; both are real and absolute."""
    return os.path.commonpath([path, folder]) == folder


def refuse_none(folder: str, expected: str = "files") -> NoReturn:
    """Refuses a folder without videos.

    Raises:
      InputError: always.
    """
    kinds = " ".join(sorted(VIDEO_EXTENSIONS))
    raise InputError(f"No videos below {folder}; expected {expected} of these kinds: {kinds}.")


@functools.lru_cache(maxsize=100_000)
def _real(folder: str) -> str:
    """Returns a folder without links; many videos lie in one."""
    return os.path.realpath(folder)


def _below(folder: str, root: str, follow: bool, above: tuple[str, ...]) -> Iterator[str]:
    """Yields the videos below a folder; `above` are the real folders that led to it."""
    real = os.path.join(above[-1], os.path.basename(folder)) if folder != root else root
    if os.path.islink(folder):
        real = _target(folder, root, follow)
        if any(is_below(parent, real) for parent in above):
            return  # a loop
    for entry in entries(folder):
        if os.path.isdir(entry.path):
            yield from _below(entry.path, root, follow, (*above, real))
        elif os.path.splitext(entry.name)[1].lower() in VIDEO_EXTENSIONS:
            if entry.is_symlink():
                _target(entry.path, root, follow)
            yield entry.path


def _target(link: str, root: str, follow: bool) -> str:
    """Returns a link's, or any folder's, real path.

    Raises:
      InputError: it is out of the root, and may not be.
    """
    real = os.path.realpath(link)
    if not (follow or is_below(real, root)):
        raise InputError(f"{link} is a link that leaves {root}; {FOLLOW}.")
    return real
