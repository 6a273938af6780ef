"""Kinetics-400, -600, -700 and -700-2020: a CSV with a label and ten seconds of a YouTube video.

What is on YouTube vanishes, so that everybody has other videos, and other files of annotations:
both DeepMind's and the CVD Foundation's are known. Videos are called ID_BEGIN_END, as the official
crawlers do (six digits a time), or ID alone.
"""

from vivit_jax.data.known.kind import Clip, Known, Maps, Part, index_of, plain, shipped
from vivit_jax.data.known.tables import begins, each, rows

_TRAIN_FOLDERS = ("train", "training", "train_256", "videos_train", "train_video")
_EVAL_FOLDERS = ("val", "validate", "validation", "val_256", "videos_val", "val_video")
_COLUMNS = ("label", "youtube_id", "time_start", "time_end")
_LAYOUT = """\
DIR/
  annotations/train.csv, val.csv       label,youtube_id,time_start,time_end,split[,is_cc]
                                       (also {tar}/train.csv and validate.csv, or {crawl}_train.csv)
  train/CLASS/ID_000010_000020.mp4     or train/ID_000010_000020.mp4, or ID.mp4; any folder, any
  val/CLASS/...                        extension; CLASS with spaces or underscores
Without annotation files, class folders in train and val will do."""


def read(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the rows of train.csv or val.csv."""
    index = index_of(maps[0])

    def clip(where: str, row: dict[str, str]) -> Clip:
        name, begin, end = row["youtube_id"], int(float(row["time_start"])), row["time_end"]
        end = int(float(end))
        if not name:
            raise ValueError("no youtube_id")
        stems = (f"{name}_{begin:06d}_{end:06d}", f"{name}_{begin}_{end}", name)
        label = index[plain(row["label"])]
        return Clip(stems, (label,), where, folder=row["label"])

    return each(rows(path, _COLUMNS), clip)


def _kinetics(name: str, title: str, tar: str, crawl: str) -> Known:
    """Returns one of the editions."""
    train = ("annotations/train.csv", "annotations/train.txt", "train.csv", f"{tar}/train.csv")
    val = ("annotations/val.csv", "annotations/val.txt", "annotations/validate.csv", "val.csv")
    val += ("validate.csv", f"{tar}/validate.csv", f"{tar}/val.csv")
    for folder in ("", "annotations/"):
        train += (f"{folder}{crawl}_train.csv", f"{folder}kinetics_train.csv")
        val += (f"{folder}{crawl}_val.csv", f"{folder}kinetics_val.csv")
    return Known(
        name=name,
        title=title,
        home="https://github.com/cvdfoundation/kinetics-dataset (videos and annotations); "
        "https://deepmind.com/research/open-source/kinetics (annotations)",
        terms="Annotations CC BY 4.0; each video is its uploader's. Many are gone from YouTube, so "
        "that some are missing anywhere: say how many you had.",
        layout=_LAYOUT.format(tar=tar, crawl=crawl),
        judged="validation; top-1 and top-5",
        train=Part(train, _TRAIN_FOLDERS),
        eval=Part(val, _EVAL_FOLDERS),
        read=read,
        maps=lambda look: shipped(name.removesuffix("_2020")),
        official=lambda path: begins(path, r'"?label"?,"?youtube_id'),
        from_folders=True,
    )


KINETICS = (
    _kinetics("kinetics400", "Kinetics-400", "kinetics400", "kinetics-400"),
    _kinetics("kinetics600", "Kinetics-600", "kinetics600", "kinetics-600"),
    _kinetics("kinetics700", "Kinetics-700", "kinetics700", "kinetics-700"),
    _kinetics("kinetics700_2020", "Kinetics-700-2020", "kinetics700_2020", "kinetics-700-2020"),
)
