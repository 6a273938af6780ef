"""Datasets by name. A folder or a list of videos needs no row: it is "videos"."""

import dataclasses
import pathlib
from collections.abc import Callable

from vivit_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What has to be known of a dataset besides its files.

    Attributes:
      directional: whether a label can mean a direction, so that a mirror image would be wrong.
      prepare: makes the videos under a folder, unless they are there, and returns their root;
        None for datasets that the user has.
    """

    directional: bool = False
    prepare: Callable[[pathlib.Path], pathlib.Path] | None = None


def find_dataset(name: str) -> Dataset:
    """Returns a row of CATALOG.

    Raises:
      InputError: there is no such row.
    """
    if name not in CATALOG:
        raise InputError(
            f"data.dataset is {name!r}; expected one of: {', '.join(sorted(CATALOG))}. "
            'Your own folder or list of videos is "videos".'
        )
    return CATALOG[name]


def _motions(folder: pathlib.Path) -> pathlib.Path:
    """Returns the root of the synthetic videos, encoded on first use."""
    from vivit_jax.data.synthetic import encode_motions

    return encode_motions(folder)


CATALOG = {
    "videos": Dataset(),
    "motions": Dataset(directional=True, prepare=_motions),
    "something_something_v2": Dataset(directional=True),
}
