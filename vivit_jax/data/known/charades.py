"""Charades: half a minute at home, in which any number of actions happen.

Classification is of whole videos, as in the challenge: the labels of a video are its actions, and a
video without any is judged like the others. When each action happens is not read.
"""

import re

from vivit_jax.data.known.kind import Clip, Known, Look, Maps, Part
from vivit_jax.data.known.tables import begins, each, lines, number, rows

_FOLDERS = ("", "Charades/", "annotations/")


def read(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the rows of Charades_v1_train.csv or Charades_v1_test.csv.

    Its column "actions" is like "c092 11.90 21.20;c147 0.00 12.60".
    """

    def clip(where: str, row: dict[str, str]) -> Clip:
        labels = set()
        for action in filter(None, row["actions"].split(";")):
            match = re.fullmatch(r"c(\d+) [\d.]+ [\d.]+", action.strip())
            if match is None:
                raise ValueError(f"{action!r} is no action; expected such as 'c092 11.90 21.20'")
            labels.add(number(match[1], len(maps[0])))
        return Clip((row["id"],), tuple(sorted(labels)), where)

    return each(rows(path, ("id", "actions", "length")), clip)


def maps(look: Look) -> Maps:
    """Returns the names of Charades_v1_classes.txt, c000 and a name a line."""
    table = lines(look("Charades_v1_classes.txt"))

    def pair(where: str, line: str) -> tuple[int, str]:
        code, _, name = line.partition(" ")
        return number(code.removeprefix("c"), len(table)), name

    return (tuple(name for _, name in sorted(each(table, pair))),)


CHARADES = Known(
    name="charades",
    title="Charades",
    home="https://prior.allenai.org/projects/charades",
    terms="The Allen Institute's licence for research, license.txt of the archive.",
    layout="""\
DIR/
  Charades_v1_train.csv, Charades_v1_test.csv, Charades_v1_classes.txt     also in Charades/ or
                                                                           annotations/
  Charades_v1_480/ID.mp4                                                   any folder""",
    judged="test; mean average precision over the classes, of whole videos",
    labels="multi",
    train=Part(tuple(f"{folder}Charades_v1_train.csv" for folder in _FOLDERS)),
    eval=Part(tuple(f"{folder}Charades_v1_test.csv" for folder in _FOLDERS)),
    read=read,
    maps=maps,
    official=lambda path: begins(path, "id,subject,scene"),
)
