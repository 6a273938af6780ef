"""The videos below a folder."""

import os
from collections.abc import Iterator
from typing import NoReturn

from vivit_jax.data.lists import VIDEO_EXTENSIONS
from vivit_jax.errors import InputError


def videos_below(folder: str, root: str) -> Iterator[str]:
    """Yields the paths of the videos below a folder, sorted.

    Args:
      folder: where to look; itself below the root.
      root: which links may not leave; real and absolute.

    Raises:
      InputError: names the link that does.
    """
    if os.path.islink(folder):
        real = os.path.realpath(folder)
        if os.path.commonpath([real, root]) != root:
            raise InputError(f"{folder} is a link that leaves {root}; use a list file for it.")
        if os.path.commonpath([real, os.path.dirname(folder)]) == real:
            return  # a loop
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from videos_below(entry.path, root)
        elif os.path.splitext(entry.name)[1].lower() in VIDEO_EXTENSIONS:
            if entry.is_symlink() and os.path.commonpath([os.path.realpath(entry), root]) != root:
                raise InputError(
                    f"{entry.path} is a link that leaves {root}; use a list file for it."
                )
            yield entry.path


def refuse_none(folder: str, expected: str = "files") -> NoReturn:
    """Refuses a folder without videos.

    Raises:
      InputError: always.
    """
    kinds = " ".join(sorted(VIDEO_EXTENSIONS))
    raise InputError(f"No videos below {folder}; expected {expected} of these kinds: {kinds}.")
