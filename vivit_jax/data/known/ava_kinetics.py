"""AVA-Kinetics as clips: what people do around one moment of a Kinetics-700 video.

The annotations are boxes of persons with actions, at one key-frame of each video, and published
results are of detection. Here is what suits a classifier of clips: an example is the WINDOW seconds
around a key-frame, its labels are the actions of all persons in it, of all 80 that there are, and a
key-frame in which nobody does anything is none. Such results compare with each other, and not with
published ones, which are often of 60 actions.

Times are of the whole YouTube video; where a file is called ID_BEGIN_END, it starts at BEGIN.
"""

import re

from vivit_jax.data.known.kind import Clip, Known, Look, Maps, Part
from vivit_jax.data.known.tables import begins, each, fields, number
from vivit_jax.errors import InputError

WINDOW = 3.0  # seconds; what AVA's annotators were shown around a key-frame
_FOLDERS = ("", "annotations/", "ava_kinetics_v1_0/")
_CLASSES = 80


def read(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the key-frames of kinetics_train_v1.0.csv or kinetics_val_v1.0.csv.

    A line is a video's ID, a second, a box of four shares, an action from 1, and in AVA's own files
    a person; where nobody does anything, it ends after the second.
    """
    frames: dict[tuple[str, float], tuple[str, set[int]]] = {}

    def add(where: str, row: list[str]) -> None:
        if len(row) not in (2, 7, 8):
            raise ValueError(f"{len(row)} fields, expected 7")
        if all(row[2:7]) and row[2:]:
            _, labels = frames.setdefault((row[0], float(row[1])), (where, set()))
            labels.add(number(row[6], _CLASSES, first=1))

    each(fields(path), add)
    return [
        Clip(
            (name,),
            tuple(sorted(labels)),
            where,
            id=f"{name}_{moment:.9g}",
            span=(max(0.0, moment - WINDOW / 2), moment + WINDOW / 2),
            source=True,
        )
        for (name, moment), (where, labels) in frames.items()
    ]


def maps(look: Look) -> Maps:
    """Returns the names of the 80 actions, of a text protobuf.

    Raises:
      InputError: the file has others than 80.
    """
    path = look("ava_action_list_v2.2.pbtxt", "ava_action_list_v2.1.pbtxt")
    with open(path, encoding="utf-8") as file:
        text = file.read()
    found = re.findall(r'name:\s*"([^"]*)"\s+(?:label_)?id:\s*(\d+)', text)
    names = {int(code): name for name, code in found}
    if sorted(names) != list(range(1, _CLASSES + 1)):
        raise InputError(f"{path} names {len(names)} actions; expected {_CLASSES}, from 1 on.")
    return (tuple(names[code] for code in sorted(names)),)


AVA_KINETICS = Known(
    name="ava_kinetics",
    title="AVA-Kinetics (the Kinetics part), as clips",
    home="https://research.google.com/ava/download.html (ava_kinetics_v1_0.tar.gz, and AVA v2.2's "
    "list of actions, which is not in it); videos: see kinetics700",
    terms="Annotations CC BY 4.0; each video is its uploader's.",
    layout="""\
DIR/
  kinetics_train_v1.0.csv, kinetics_val_v1.0.csv,            also in ava_kinetics_v1_0/ or
  ava_action_list_v2.2.pbtxt                                 annotations/
  train/CLASS/ID_000010_000020.mp4                           Kinetics-700's files; or
                                                             whole videos as ID.mp4""",
    judged="val; mean average precision over actions, of clips: not AVA's detection metric",
    labels="multi",
    train=Part(tuple(f"{folder}kinetics_train_v1.0.csv" for folder in _FOLDERS)),
    eval=Part(tuple(f"{folder}kinetics_val_v1.0.csv" for folder in _FOLDERS)),
    read=read,
    maps=maps,
    official=lambda path: begins(path, r"[^,]+,\d+(\.\d+)?(,|\s*$)"),
)
