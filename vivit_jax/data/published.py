"""How many training videos and classes published data sets have, where their files are not here."""

from typing import NamedTuple


class DataSet(NamedTuple):
    """Training videos, and the classes of each head."""

    videos: int
    classes: tuple[int, ...]


DATA_SETS = {
    # Counts in the configs of ViViT's release and, for Moments in Time, MTV's: videos vanish.
    "k400": DataSet(214_834, (400,)),
    "k600": DataSet(363_213, (600,)),
    "ssv2": DataSet(168_913, (174,)),
    "ek100": DataSet(67_217, (300, 97)),  # nouns, verbs
    "mit": DataSet(791_297, (339,)),
    # The first split.
    "ucf101": DataSet(9_537, (101,)),
    "hmdb51": DataSet(3_570, (51,)),
    "hybrid": DataSet(1_350_000, (1,)),  # VideoMAE v2's videos without labels
    "motions": DataSet(768, (8,)),  # data/synthetic.py's own
}
