"""How many videos and classes published data sets have: plans reckon with it, files are held to it.

Sources: for Kinetics Carreira et al. 2018 and 2019 and Smaira et al. 2020, and FiftyOne's data set
zoo for the rows of the files that DeepMind and the CVD Foundation offer now, which are others, as
videos vanish; for Moments in Time Monfort et al., versions 1 and 2; for the rest their own pages,
read-mes and split files. What `used` tells is from the configs of ViViT's release, for Moments in
Time of MTV's, and for the mixture from VideoMAE v2.
"""

from typing import NamedTuple


class DataSet(NamedTuple):
    """What is published of a data set.

    Attributes:
      classes: of each head.
      parts: (training, held-out) rows of its annotation files: a pair for each of its splits, or
        for each version of the files; empty where the numbers are not known here.
      used: training videos of the releases whose recipes are here, where that is another number.
      others: classes of its other versions.
    """

    classes: tuple[int, ...]
    parts: tuple[tuple[int, int], ...] = ()
    used: int = 0
    others: tuple[int, ...] = ()

    @property
    def videos(self) -> int:
        """Training videos; 0 where that is not known."""
        return self.used or (self.parts[0][0] if self.parts else 0)


SHORT = {  # what recipes call them
    "k400": "kinetics400",
    "k600": "kinetics600",
    "ssv2": "something_something_v2",
    "ek100": "epic_kitchens_100",
    "mit": "moments_in_time",
}
DATA_SETS = {
    "kinetics400": DataSet((400,), ((246_534, 19_906), (219_782, 18_035)), used=214_834),
    "kinetics600": DataSet(
        (600,), ((392_622, 30_000), (370_582, 28_313), (427_549, 29_793)), used=363_213
    ),
    "kinetics700": DataSet((700,), ((545_317, 35_000), (529_046, 33_925))),
    "kinetics700_2020": DataSet((700,), ((545_793, 34_256), (542_352, 34_125), (534_073, 33_914))),
    "something_something_v2": DataSet((174,), ((168_913, 24_777),)),
    "ucf101": DataSet((101,), ((9_537, 3_783), (9_586, 3_734), (9_624, 3_696))),
    "hmdb51": DataSet((51,), ((3_570, 1_530),) * 3),
    "epic_kitchens_100": DataSet((300, 97), ((67_217, 9_668),)),  # nouns, verbs
    "moments_in_time": DataSet(
        (339,), ((802_244, 33_900), (727_305, 30_500)), used=791_297, others=(305,)
    ),
    "diving48": DataSet((48,), ((15_027, 1_970),)),
    "charades": DataSet((157,), ((7_985, 1_863),)),
    "ava_kinetics": DataSet((80,)),
    "howto100m": DataSet(()),
    "hybrid": DataSet((1,), used=1_350_000),  # VideoMAE v2's videos without labels
    "motions": DataSet((8,), used=768),  # data/synthetic.py's own
}
DATA_SETS |= {short: DATA_SETS[name] for short, name in SHORT.items()}
