"""What a video is among others: examples, and sources of them by number.

A source knows its length and gives example i for any i; everything about order, clips and pixels
is decided elsewhere. An example's id is its path below the root: it is what splits are drawn by,
what refused videos are reported by, and two files of one name in two folders have two.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

from vivit_jax.errors import InputError


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
