"""UCF101 and HMDB51: a folder a class, and three official splits in text files.

Results are the mean over the three; data.split says which one a run is.
"""

import os
import re

from vivit_jax.data.known.kind import Clip, Known, Look, Maps, Part, index_of, plain, shipped
from vivit_jax.data.known.tables import begins, each, lines
from vivit_jax.data.lists import refuse
from vivit_jax.errors import InputError

_UCF_FOLDERS = ("ucfTrainTestlist/", "UCF101TrainTestSplits-RecognitionTask/ucfTrainTestlist/")
_UCF_FOLDERS += ("annotations/", "")
_HMDB_FOLDERS = ("testTrainMulti_7030_splits", "test_train_splits/testTrainMulti_7030_splits")
_HMDB_FOLDERS += ("test_train_splits", "splits", "annotations", ".")


def read_ucf101(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the rows of trainlist01.txt or testlist01.txt: CLASS/NAME.avi, and maybe a number.

    Raises:
      InputError: a line is none such, or its number is not its class's, counted from 1.
    """
    index = index_of(maps[0])

    def clip(where: str, line: str) -> Clip:
        match = re.fullmatch(r"([^/\s]+)/(\S+)\.\w+(?:\s+(\d+))?", line)
        if match is None:
            raise ValueError("expected CLASS/NAME.avi")
        label = index[plain(match[1])]
        if match[3] and int(match[3]) != label + 1:
            raise ValueError(f"{match[1]} is class {label + 1}")
        return Clip((match[2],), (label,), where, folder=match[1])

    return each(lines(path), clip)


def read_hmdb51(path: str, part: str, split: int, maps: Maps) -> list[Clip]:
    """Returns the rows of a part and split, of a folder with CLASS_test_splitN.txt for each class.

    A line is NAME.avi and 1 for training, 2 for test, 0 for neither.

    Raises:
      InputError: a class has no file, or a line is none such.
    """
    wanted, clips = {"train": "1", "eval": "2"}[part], []
    files = [os.path.join(path, f"{name}_test_split{split}.txt") for name in maps[0]]
    missing = [f"{file}: no such file" for file in files if not os.path.isfile(file)]
    refuse(missing, len(files), "Expected one for each class and split; unpack all of them.")

    for label, (name, file) in enumerate(zip(maps[0], files, strict=True)):

        def clip(where: str, line: str, label: int = label, name: str = name) -> Clip | None:
            match = re.fullmatch(r"(\S.*)\.\w+\s+([012])", line)
            if match is None:
                raise ValueError("expected NAME.avi and 0, 1 or 2")
            here = match[2] == wanted
            return Clip((match[1],), (label,), where, folder=name) if here else None

        clips += [found for found in each(lines(file), clip) if found]
    return clips


def ucf101_maps(look: Look) -> Maps:
    """Returns the names of classInd.txt, where it is there, which are those that are shipped."""
    (names,) = shipped("ucf101")
    try:
        path = look("classInd.txt")
    except InputError:
        return (names,)
    found = [line.partition(" ")[2].strip() for _, line in lines(path)]
    if found != list(names):
        raise InputError(
            f"{path} names {len(found)} classes, from {found[:1]} on; expected UCF101's "
            f"{len(names)}, from '1 {names[0]}' on."
        )
    return (names,)


UCF101 = Known(
    name="ucf101",
    title="UCF101",
    home="https://www.crcv.ucf.edu/research/data-sets/ucf101/ (UCF101.rar, and "
    "UCF101TrainTestSplits-RecognitionTask.zip)",
    terms="No licence is told; for research.",
    layout="""\
DIR/
  ucfTrainTestlist/classInd.txt, trainlist01.txt, testlist01.txt, 02, 03     also in annotations/
  UCF-101/CLASS/v_CLASS_g01_c01.avi                                          any folder""",
    judged="test list of the split; top-1, mean over the three",
    train=Part(tuple(f"{folder}trainlist0{{split}}.txt" for folder in _UCF_FOLDERS)),
    eval=Part(tuple(f"{folder}testlist0{{split}}.txt" for folder in _UCF_FOLDERS)),
    read=read_ucf101,
    maps=ucf101_maps,
    official=lambda path: begins(path, r"[^/\s]+/v_[^/\s]+\.\w+(\s+\d+)?\s*$"),
    splits=3,
)
HMDB51 = Known(
    name="hmdb51",
    title="HMDB51",
    home="https://serre-lab.clps.brown.edu/resource/hmdb-a-large-human-motion-database/ "
    "(hmdb51_org.rar, a .rar a class in it, and test_train_splits.rar)",
    terms="CC BY 4.0.",
    layout="""\
DIR/
  testTrainMulti_7030_splits/CLASS_test_split1.txt     51 classes, 3 splits; also in splits/,
                                                       annotations/ or DIR itself
  CLASS/NAME.avi                                       any folder above it, any extension""",
    judged="test videos of the split; top-1, mean over the three",
    train=Part(tuple(f"{folder}/brush_hair_test_split{{split}}.txt" for folder in _HMDB_FOLDERS)),
    eval=Part(tuple(f"{folder}/brush_hair_test_split{{split}}.txt" for folder in _HMDB_FOLDERS)),
    read=lambda path, part, split, maps: read_hmdb51(os.path.dirname(path), part, split, maps),
    maps=lambda look: shipped("hmdb51"),
    official=lambda path: re.search(r"_test_split[123]\.txt$", path) is not None,
    splits=3,
)
