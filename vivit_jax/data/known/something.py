"""Something-Something v2: JSON with a template a video, and numbered webm files.

"Pushing something from left to right" is a class, and its mirror image is another: flips are off.
"""

from typing import Any

from vivit_jax.data.known.kind import Clip, Known, Look, Maps, Part
from vivit_jax.data.known.tables import begins, each, items, number, read_json
from vivit_jax.errors import InputError

_NAME = "something-something-v2"
_LABELS = ("labels.json", f"{_NAME}-labels.json")


def _files(part: str) -> tuple[str, ...]:
    """Returns the names that the annotation file of a part has."""
    names = (f"{part}.json", f"{_NAME}-{part}.json")
    return tuple(f"{folder}{name}" for folder in ("labels/", "annotations/", "") for name in names)


def read(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the rows of train.json or validation.json."""
    index = {name: i for i, name in enumerate(maps[0])}

    def clip(where: str, item: dict[str, Any]) -> Clip:
        template = item["template"].replace("[", "").replace("]", "")
        return Clip((str(item["id"]),), (index[template],), where, folder=template)

    return each(items(path), clip)


def maps(look: Look) -> Maps:
    """Returns the templates in the order of labels.json."""
    path = look(*_LABELS)
    table = read_json(path, dict)
    names = {}
    for name, text in each(((path, pair) for pair in table.items()), lambda where, pair: pair):
        names[number(text, len(table))] = name
    if len(names) < len(table):
        raise InputError(f"{path}: two classes have one number; expected 0 to {len(table) - 1}.")
    return (tuple(names[i] for i in range(len(table))),)


SOMETHING = Known(
    name="something_something_v2",
    title="Something-Something v2",
    home="https://www.qualcomm.com/developer/software/something-something-v-2-dataset",
    terms="Qualcomm's data licence, for research; you accept it there.",
    layout="""\
DIR/
  labels/labels.json, train.json, validation.json     also something-something-v2-NAME.json, also in
                                                      annotations/ or DIR itself
  20bn-something-something-v2/ID.webm                 any folder, any extension""",
    judged="validation; top-1 and top-5",
    train=Part(_files("train")),
    eval=Part(_files("validation")),
    read=read,
    maps=maps,
    official=lambda path: path.endswith(".json") and begins(path, r"\s*\["),
    directional=True,
)
