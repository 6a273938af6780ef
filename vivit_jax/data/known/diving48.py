"""Diving48, with the labels of version 2: JSON with a class number a video.

A class is a group of take-off, somersaults, twists and position: no side is told, so a mirror
image stays in its class.
"""

from typing import Any

from vivit_jax.data.known.kind import Clip, Known, Look, Maps, Part
from vivit_jax.data.known.tables import begins, each, items, number, read_json

_FOLDERS = ("", "annotations/")


def read(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the rows of Diving48_V2_train.json or Diving48_V2_test.json."""

    def clip(where: str, item: dict[str, Any]) -> Clip:
        return Clip((item["vid_name"],), (number(item["label"], len(maps[0])),), where)

    return each(items(path), clip)


def maps(look: Look) -> Maps:
    """Returns the classes of Diving48_vocab.json, each a list of the four parts of its name."""
    table = read_json(look("Diving48_vocab.json"), list)
    return (tuple(name if isinstance(name, str) else " ".join(name) for name in table),)


DIVING48 = Known(
    name="diving48",
    title="Diving48 (V2)",
    home="http://www.svcl.ucsd.edu/projects/resound/dataset.html",
    terms="No licence is told; for research. Version 1 had wrong labels: results on it are others.",
    layout="""\
DIR/
  Diving48_V2_train.json, Diving48_V2_test.json, Diving48_vocab.json     also in annotations/
  rgb/NAME.mp4                                                           any folder""",
    judged="test; top-1",
    train=Part(tuple(f"{folder}Diving48_V2_train.json" for folder in _FOLDERS)),
    eval=Part(tuple(f"{folder}Diving48_V2_test.json" for folder in _FOLDERS)),
    read=read,
    maps=maps,
    official=lambda path: path.endswith(".json") and begins(path, r"\s*\["),
)
