"""EPIC-Kitchens-100: segments of long videos, each a verb and a noun.

An example is a segment, under its narration_id. Its heads are the noun's and then the verb's, as
ViViT's release has them; an action is right where both are.
"""

import re

from vivit_jax.data.known.kind import Clip, Known, Look, Maps, Part
from vivit_jax.data.known.tables import begins, each, number, rows

_COLUMNS = ("narration_id", "video_id", "start_timestamp", "stop_timestamp")
_LABELS = ("noun_class", "verb_class")
_FOLDERS = ("", "annotations/", "epic-kitchens-100-annotations/")


def read(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the rows of EPIC_100_train.csv or EPIC_100_validation.csv."""

    def clip(where: str, row: dict[str, str]) -> Clip:
        span = seconds(row["start_timestamp"]), seconds(row["stop_timestamp"])
        if span[1] <= span[0]:
            raise ValueError("it stops before it starts")
        labels = (number(row[name], len(of)) for name, of in zip(_LABELS, maps, strict=True))
        return Clip((row["video_id"],), tuple(labels), where, id=row["narration_id"], span=span)

    return each(rows(path, (*_COLUMNS, *_LABELS)), clip)


def seconds(text: str) -> float:
    """Returns HH:MM:SS.ss in seconds.

    Raises:
      ValueError: it is none such.
    """
    match = re.fullmatch(r"(\d+):(\d\d):(\d\d(?:\.\d+)?)", text)
    if match is None:
        raise ValueError(f"{text!r} is no time; expected HH:MM:SS.ss")
    return int(match[1]) * 3600 + int(match[2]) * 60 + float(match[3])


def maps(look: Look) -> Maps:
    """Returns the nouns and the verbs by their ids."""
    return tuple(_names(look(f"EPIC_100_{kind}_classes.csv")) for kind in ("noun", "verb"))


def _names(path: str) -> tuple[str, ...]:
    """Returns the keys of a file of classes, in the order of their ids."""
    table = rows(path, ("id", "key"))
    pairs = each(table, lambda where, row: (number(row["id"], len(table)), row["key"]))
    return tuple(name for _, name in sorted(pairs))


EPIC_KITCHENS = Known(
    name="epic_kitchens_100",
    title="EPIC-Kitchens-100",
    home="https://github.com/epic-kitchens/epic-kitchens-100-annotations (annotations); "
    "https://github.com/epic-kitchens/epic-kitchens-download-scripts (videos)",
    terms="CC BY-NC 4.0.",
    layout="""\
DIR/
  EPIC_100_train.csv, EPIC_100_validation.csv                also in annotations/ or
  EPIC_100_noun_classes.csv, EPIC_100_verb_classes.csv       epic-kitchens-100-annotations/
  P01/videos/P01_01.MP4                                      any folder, any extension""",
    judged="validation; top-1 of actions (noun and verb), of nouns (head 0) and of verbs (head 1)",
    labels="heads",
    train=Part(tuple(f"{folder}EPIC_100_train.csv" for folder in _FOLDERS)),
    eval=Part(tuple(f"{folder}EPIC_100_validation.csv" for folder in _FOLDERS)),
    read=read,
    maps=maps,
    official=lambda path: begins(path, "narration_id,"),
)
