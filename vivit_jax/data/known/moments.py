"""Moments in Time: three-second videos in folders of their class, in training and validation.

Videos of several classes can be called alike, so only the one in the folder of its class will do.
"""

from vivit_jax.data.known.kind import Clip, Known, Look, Maps, Part, index_of, plain
from vivit_jax.data.known.tables import begins, each, fields, lines, number

_FOLDERS = ("", "annotations/")


def read(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the rows of trainingSet.csv or validationSet.csv: CLASS/NAME.mp4, class, yes, no."""
    index = index_of(maps[0])

    def clip(where: str, row: list[str]) -> Clip:
        if len(row) != 4:
            raise ValueError(f"{len(row)} fields, expected 4")
        folder, _, file = row[0].rpartition("/")
        label = index[plain(row[1])]
        return Clip((file.rpartition(".")[0],), (label,), where, folder=folder.split("/")[-1])

    return each(fields(path), clip)


def maps(look: Look) -> Maps:
    """Returns the names of moments_categories.txt, NAME,NUMBER a line, by their numbers."""
    table = lines(look("moments_categories.txt"))

    def pair(where: str, line: str) -> tuple[int, str]:
        name, _, text = line.rpartition(",")
        return number(text, len(table)), name

    return (tuple(name for _, name in sorted(each(table, pair))),)


MOMENTS = Known(
    name="moments_in_time",
    title="Moments in Time",
    home="http://moments.csail.mit.edu/ (a form, then one archive with videos and annotations)",
    terms="For research, by the licence of its form.",
    layout="""\
DIR/
  trainingSet.csv, validationSet.csv, moments_categories.txt     also in annotations/
  training/CLASS/NAME.mp4, validation/CLASS/NAME.mp4             in the folder of its CLASS""",
    judged="validation; top-1 and top-5",
    train=Part(tuple(f"{folder}trainingSet.csv" for folder in _FOLDERS), ("training", "train")),
    eval=Part(tuple(f"{folder}validationSet.csv" for folder in _FOLDERS), ("validation", "val")),
    read=read,
    maps=maps,
    official=lambda path: begins(path, r"[^,]+/[^,]+,[^,]+,\d+,\d+\s*$"),
    by_folder=True,
)
