"""Datasets by name. A folder or a list of videos needs no row: it is "videos"."""

import dataclasses
import pathlib
from collections.abc import Callable

from vivit_jax import config
from vivit_jax.data.examples import Sources
from vivit_jax.data.known import KNOWN
from vivit_jax.data.known.kind import Known
from vivit_jax.data.known.opening import open_known
from vivit_jax.data.sources import check_options, open_sources
from vivit_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """What has to be known of a dataset besides its files.

    Attributes:
      directional: whether a label can mean a direction, so that a mirror image would be wrong.
      prepare: makes the videos under a folder, unless they are there, and returns their root;
        None for datasets that the user has.
      known: how its files are published; None for a folder or a list.
      stored: opens it, where it is no video files but a data set's own.
    """

    directional: bool = False
    prepare: Callable[[pathlib.Path], pathlib.Path] | None = None
    known: Known | None = None
    stored: Callable[[config.Data], Sources] | None = None

    def open(self, data: config.Data) -> Sources:
        """Returns the training and held-out videos that `data` describes.

        Raises:
          InputError: there is none to train on, or an option or a file cannot be used.
        """
        check_options(data)
        if self.stored:
            return self.stored(data)
        return open_known(self.known, data) if self.known else open_sources(data)


def open_dataset(data: config.Data) -> Sources:
    """Returns the training and held-out videos that `data` describes; see Dataset.open."""
    return find_dataset(data.dataset).open(data)


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


def settle(data: config.Data) -> config.Data:
    """Returns the options with what the data set decides: the labels that it has.

    Raises:
      InputError: there is no such data set, or it has no such split.
    """
    known = find_dataset(data.dataset).known
    if known is None and data.split != 1:
        raise InputError(
            f"data.split is {data.split}; data.dataset = {data.dataset!r} has no splits."
        )
    if known is None or data.labels != "single":
        return data
    return dataclasses.replace(data, labels=known.labels)


def _motions(folder: pathlib.Path) -> pathlib.Path:
    """Returns the root of the synthetic videos, encoded on first use."""
    from vivit_jax.data.synthetic import encode_motions

    return encode_motions(folder)


def _records(data: config.Data) -> Sources:
    """Returns the sources of a dataset that data/build.py made."""
    from vivit_jax.data.records import open_records

    return open_records(data)


def _sequence_examples(data: config.Data) -> Sources:
    """Returns the sources of SequenceExample TFRecords."""
    from vivit_jax.data.sequence_examples import open_sequence_examples

    return open_sequence_examples(data)


CATALOG = {
    "videos": Dataset(),
    "records": Dataset(stored=_records),
    "sequence_examples": Dataset(stored=_sequence_examples),
    "motions": Dataset(directional=True, prepare=_motions),
}
CATALOG |= {name: Dataset(known.directional, known=known) for name, known in KNOWN.items()}
