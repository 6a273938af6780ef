"""What of a known data set is there: annotations, held to what is published, and videos.

A file that is found where it is published must have as many rows as are published: a download that
was cut has fewer. One that the user names (data.train_list, data.eval_list) may be a selection, and
the difference is only told. Videos that are missing are counted: that is how Kinetics is.
"""

import logging
import os
from collections.abc import Callable
from typing import NamedTuple

from vivit_jax import config
from vivit_jax.data.known.files import Files, Match, parents
from vivit_jax.data.known.kind import Clip, Known, Maps, Part, index_of, plain
from vivit_jax.data.lists import refuse
from vivit_jax.data.published import DATA_SETS
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)
PARTS = ("train", "eval")
WORDS = {"train": "training", "eval": "held-out"}
_BESIDE = ("", "annotations", "labels")  # folders of the root in which files of classes may lie


class Survey(NamedTuple):
    """What is there of a part.

    Attributes:
      file: of its annotations; "" where folders tell the classes.
      matches: its rows, with their videos.
    """

    file: str
    matches: list[Match]

    @property
    def found(self) -> list[Match]:
        """Rows whose video is there."""
        return [match for match in self.matches if match.path]

    @property
    def missing(self) -> list[Match]:
        """Rows whose video is not."""
        return [match for match in self.matches if not match.path]


def locate(known: Known, data: config.Data) -> list[str] | None:
    """Returns the annotation files of both parts; None where neither is there.

    Raises:
      InputError: one of them is not there, or is in another format than the published.
    """
    given = (data.train_list, data.eval_list)
    if any(file and not known.official(file) for file in given):
        if all(not file or not known.official(file) for file in given):
            return None  # lists of the user's own, in no published format
        raise InputError(
            f"Of data.train_list = {data.train_list!r} and data.eval_list = {data.eval_list!r} one "
            f"is in the format of {known.title}, and the other is not; give both in one."
        )
    files = []
    for file, part in zip(given, _parts(known), strict=True):
        names = [os.path.normpath(os.path.join(data.root, name)) for name in _names(part, data)]
        files.append(file or next((name for name in names if os.path.isfile(name)), ""))
    if not any(files):
        return None
    for file, part, word in zip(files, _parts(known), PARTS, strict=True):
        if not file:
            raise InputError(
                f"The annotations of the {WORDS[word]} videos of {known.title} are not below "
                f"{data.root!r}: expected one of {', '.join(_names(part, data))}. Put it there, or "
                f"name it by data.{word}_list."
            )
        if not known.official(file):
            raise InputError(
                f"{file} is not as published for {known.title}. Put the official file there "
                f"(`python -m vivit_jax.data.known {known.name}` tells where it is to be had); a "
                f"list of your own is given by data.train_list and data.eval_list."
            )
    return files


def survey(known: Known, data: config.Data, files: list[str]) -> tuple[Maps, list[Survey]]:
    """Returns the label maps, and what is there of both parts.

    Args:
      known: the data set.
      data: root, split, and the files that the user named.
      files: as `locate` returns them.

    Raises:
      InputError: an annotation file is not as published, or no video is there.
    """
    maps = known.maps(_looker(files, data.root))
    about = DATA_SETS[known.name]
    sizes = tuple(len(names) for names in maps)
    if sizes not in (about.classes, *((count,) for count in about.others)):
        raise InputError(
            f"The files of {known.title} beside {files[0]} name {_count(*sizes)} classes; "
            f"published are {_count(*about.classes)}. Fetch them again."
        )
    clips = [_read(known, data, maps, files, i) for i in (0, 1)]
    _check_ids([clip for part in clips for clip in part])
    log.info("Looking for the videos of %s below %s.", known.title, data.root)
    listed = Files(data.root, data.follow_links)
    folders = [part.folders for part in _parts(known)]
    found = listed.match(list(zip(clips, folders, strict=True)), known.by_folder)
    surveys = [Survey(file, matches) for file, matches in zip(files, found, strict=True)]
    if not any(part.found for part in surveys):
        first = clips[0][0]
        place = f"{first.folder}/" if known.by_folder and first.folder else ""
        raise InputError(
            f"None of the {_count(sum(map(len, clips)))} videos of {known.title} is below "
            f"{listed.root}, which holds {_count(len(listed.paths))} video files: looked, in any "
            f"folder, for {place}{first.stems[0]} with any extension of a video (the first, "
            f"{first.where}), and so on. The layout that is expected:\n{known.layout}"
        )
    return maps, surveys


def _read(known: Known, data: config.Data, maps: Maps, files: list[str], part: int) -> list[Clip]:
    """Returns the rows of a part, of which there are as many as are published."""
    assert known.read is not None
    clips = known.read(files[part], PARTS[part], data.split, maps)
    if not clips:
        raise InputError(f"By {files[part]} there is no video of {known.title}; fetch it again.")
    published = DATA_SETS[known.name].parts
    if known.splits > 1:
        published = published[data.split - 1 : data.split]
    given = files[part] in (data.train_list, data.eval_list)
    _check_count(known, files[part], len(clips), sorted({row[part] for row in published}), given)
    return clips


def survey_folders(known: Known, data: config.Data) -> tuple[Maps, list[Survey]] | None:
    """Returns the same from folders of the classes' names in those of the parts; None for none.

    Raises:
      InputError: a video of a part is in no such folder.
    """
    if not known.from_folders or not data.root:
        return None
    maps, listed = known.maps(_looker([], data.root)), Files(data.root, data.follow_links)
    index = index_of(maps[0])
    hints = [{plain(folder) for folder in part.folders} for part in _parts(known)]
    matches: list[list[Match]] = [[], []]
    faults = []
    for path in listed.paths:
        folders = parents(path)
        part = next((i for i in (0, 1) if hints[i] & folders), None)
        label = next((index[folder] for folder in sorted(folders & index.keys())), None)
        if part is not None and label is None:
            faults.append(path)
        elif part is not None and label is not None:
            matches[part].append(Match(Clip((), (label,), path), path))
    if not matches[0]:
        return None
    refuse(
        faults,
        len(listed.paths),
        f"There are no annotation files of {known.title} below {listed.root}, and these videos lie "
        "in no folder of one of its classes.",
    )
    return maps, [Survey("", part) for part in matches]


def _parts(known: Known) -> tuple[Part, Part]:
    """Returns both parts of a data set that has annotations."""
    assert known.train is not None
    assert known.eval is not None
    return known.train, known.eval


def _names(part: Part, data: config.Data) -> list[str]:
    """Returns where an annotation file may lie, below the root."""
    return [name.format(split=data.split) for name in part.files]


def _looker(files: list[str], root: str) -> Callable[..., str]:
    """Returns what finds a file of classes: beside the annotations, or in folders of the root."""
    folders = [os.path.dirname(file) for file in files]
    folders = list(dict.fromkeys([*folders, *(os.path.join(root, name) for name in _BESIDE)]))

    def look(*names: str) -> str:
        for path in (os.path.join(folder, name) for folder in folders for name in names):
            if os.path.isfile(path):
                return path
        raise InputError(
            f"{' or '.join(names)} is not in {', '.join(repr(folder) for folder in folders)}; it "
            "comes with the published annotations, and names the classes."
        )

    return look


def _check_count(known: Known, file: str, rows: int, published: list[int], given: bool) -> None:
    """Holds the rows of an annotation file to the published number."""
    if not published or rows in published:
        return
    wanted = " or ".join(_count(number) for number in published)
    if given:
        log.warning(
            "By %s %s has %s rows, and as published it has %s. As the file was named, it is taken "
            "as a selection of your own.",
            *(file, known.title, _count(rows), wanted),
        )
        return
    raise InputError(
        f"By {file} {known.title} has {_count(rows)} rows, and as published it has {wanted}: the "
        "download may have been cut; fetch it again. If it is a selection of your own, name it by "
        "data.train_list or data.eval_list."
    )


def _check_ids(clips: list[Clip]) -> None:
    """Refuses two segments of one name."""
    first: dict[str, str] = {}
    faults = [
        f"{clip.where}: {clip.id!r} was on {first[clip.id]}"
        for clip in clips
        if clip.id and first.setdefault(clip.id, clip.where) != clip.where
    ]
    refuse(faults, len(clips), "Each segment is annotated once, for training or held out.")


def _count(*numbers: int) -> str:
    """Returns numbers as people write them."""
    return " and ".join(f"{number:,}" for number in numbers)
