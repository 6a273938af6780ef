"""Which of the videos are learnt from, and which are held out."""

import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from typing import Protocol, TypeVar

import numpy as np

from vivit_jax import config
from vivit_jax.data.digests import digests_of
from vivit_jax.data.examples import Example, Listed
from vivit_jax.data.lists import apart, read_excluded
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)


class Identified(Protocol):
    """Something with an id."""

    @property
    def id(self) -> str:
        """Unique."""
        ...


T = TypeVar("T", bound=Identified)


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
