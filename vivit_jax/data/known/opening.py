"""A known data set as sources of examples, like any folder or list."""

import dataclasses
import logging
import os

from vivit_jax import config
from vivit_jax.data.examples import Example, Sources
from vivit_jax.data.known.files import Match
from vivit_jax.data.known.kind import Known, Part
from vivit_jax.data.known.survey import PARTS, WORDS, Survey, locate, survey, survey_folders
from vivit_jax.data.lists import SHOWN
from vivit_jax.data.sources import open_sources
from vivit_jax.data.splits import selected
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)


def open_known(known: Known, data: config.Data) -> Sources:
    """Returns the training and held-out videos of a known data set that are there.

    Raises:
      InputError: an option does not suit it, its annotation files are not as published, or none of
        its videos is there.
    """
    check(known, data)
    if known.train is None:
        return open_sources(data)
    data = dataclasses.replace(data, root=data.root or os.path.dirname(data.train_list) or ".")
    files = locate(known, data)
    found = survey(known, data, files) if files else survey_folders(known, data)
    if found is None:
        return _of_no_format(known, data)
    maps, parts = found
    if data.label_map:
        raise InputError(
            f"data.label_map is {data.label_map!r}, and {known.title} has classes of its own, in "
            "the order of published models; leave it empty."
        )
    if data.labels == "none":
        maps = ((),)
    examples, root = [], os.path.realpath(data.root)
    for name, part in zip(PARTS, parts, strict=True):
        tell_missing(known, WORDS[name], part, data.root)
        examples.append([_example(match, root, data.labels) for match in part.found])
    return Sources(*selected(data, *examples), maps)


def check(known: Known, data: config.Data) -> None:
    """Refuses options that do not suit a data set.

    Raises:
      InputError: names the option.
    """
    allowed = {known.labels, "none"} | ({"multi"} if known.labels == "single" else set())
    if data.labels not in allowed:
        raise InputError(
            f"data.labels is {data.labels!r}; {known.title} expects "
            f"{' or '.join(repr(labels) for labels in sorted(allowed))}."
        )
    if not 1 <= data.split <= known.splits:
        raise InputError(
            f"data.split is {data.split}; {known.title} has {known.splits}, counted from 1."
        )
    if not 0 < data.train_share <= 1:
        raise InputError(f"data.train_share is {data.train_share}; expected above 0, at most 1.")
    if not data.root and not data.train_list:
        raise InputError(
            f"data.root is empty; set it to the folder of {known.title}:\n{known.layout}"
        )


def tell_missing(known: Known, word: str, part: Survey, root: str) -> None:
    """Warns of the videos that annotations tell of and that are not there."""
    missing = part.missing
    if not missing:
        return
    names = ", ".join(match.clip.id or match.clip.stems[0] for match in missing[:SHOWN])
    log.warning(
        "%d of the %d %s videos of %s are not below %s (%.1f %%), such as %s.",
        *(len(missing), len(part.matches), word, known.title, root),
        *(100 * len(missing) / len(part.matches), names),
    )
    if shared := sum(match.shared for match in missing):
        log.warning("%d of these have a file that could as well be another row's.", shared)


def _example(match: Match, root: str, labels: str) -> Example:
    """Returns the example that a row and its video are, with labels of a kind."""
    clip, span = match.clip, None
    if clip.span is not None:
        span = max(0.0, clip.span[0] - match.begin), clip.span[1] - match.begin
    label: int | tuple[int, ...] = () if labels == "none" else clip.labels
    if labels == "single":
        (label,) = clip.labels
    return Example(clip.id or match.path, os.path.join(root, match.path), label, span)


def _of_no_format(known: Known, data: config.Data) -> Sources:
    """Returns the videos of lists of the user's own or, without labels, of any folder.

    Raises:
      InputError: there are neither such nor annotations as published.
    """
    if data.train_list or data.labels == "none":
        return open_sources(data)
    looked = [part.files for part in (known.train, known.eval) if isinstance(part, Part)]
    first = " and ".join(files[0].format(split=data.split) for files in looked)
    raise InputError(
        f"There are no annotation files of {known.title} below {data.root!r}: expected {first}, or "
        f"others of their names (`python -m vivit_jax.data.known {known.name}` tells which, and "
        f"where they are to be had):\n{known.layout}\nA folder of class folders of your own is "
        "data.dataset=videos."
    )
