"""Writes what a trained encoder makes of videos: an array a video.

    python -m vivit_jax.features --checkpoint WORKDIR [--out DIR] [VIDEO, FOLDER or LIST]...

Without videos, those of the run itself. A folder gives all videos below it; a list (.txt, .csv,
.tsv) has a path a line, or `path label` lines. Each DIR/NAME.npy is float32: the mean over the
video's views [D]; with --views the summary of each view [V D], with --tokens the tokens of each
[V N D]. DIR/index.csv tells which file is whose, with its label and split where they are known; an
id is the run's own, or the absolute path of a video that was named.

What is there already is not made again, unless the video's file has changed, so a command that was
stopped goes on; arrays of another model are refused. Any objective will do, and where the run keeps
an average of weights, that is what is used. Exit codes: 0 all videos were read, 1 some were not
(DIR/bad_videos.jsonl), 2 something that was given cannot be used; 130 after Ctrl-C.
"""

import argparse
import contextlib
import csv
import dataclasses
import hashlib
import json
import math
import os
import pathlib
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from vivit_jax import agreement, processes
from vivit_jax.data.examples import Example, Listed, Stored
from vivit_jax.data.folders import refuse_none, videos_below
from vivit_jax.data.lists import LISTS, read_list
from vivit_jax.errors import InputError
from vivit_jax.files import replacing, stamp, write_csv
from vivit_jax.metrics import Progress
from vivit_jax.terminal import command_parser, run, speak
from vivit_jax.text import letters_of

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.evals.frozen import FrozenEncoder
    from vivit_jax.trained import Saved

INDEX, ABOUT = "index.csv", "features.json"
HEADER = ("id", "file", "label", "split", "size", "changed")
_LETTERS = 80  # of an id that its file's name shows


class Video(NamedTuple):
    """A video that is wanted; label and split are empty where they are not known."""

    id: str
    path: str | bytes | Stored
    label: str = ""
    split: str = ""
    span: tuple[float, float] | None = None

    @property
    def file(self) -> str:
        """The name of its array: safe on any disk, and no other video's."""
        identity = self.id.encode("utf-8", "surrogateescape")
        shown = re.sub(r"[^A-Za-z0-9._-]+", "_", os.path.splitext(self.id)[0])[-_LETTERS:]
        return f"{shown.strip('._')}-{hashlib.blake2b(identity, digest_size=8).hexdigest()}.npy"

    @property
    def stamp(self) -> tuple[str, str]:
        """What tells whether its file has changed: size and time; empty where it is no file."""
        if not isinstance(self.path, str):
            return "", ""
        size, changed = stamp(self.path)
        return str(size), str(changed)


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.features", __doc__)
    parser.add_argument("videos", nargs="*", metavar="VIDEO", help="or a folder, or a list")
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="a run's workdir, a step's folder, or FAMILY:PATH of pretrained weights",
    )
    parser.add_argument("--out", help="folder to write to; WORKDIR/features/STEP-KIND")
    kinds = parser.add_mutually_exclusive_group()
    kinds.add_argument("--views", action="store_const", dest="kind", const="views")
    kinds.add_argument("--tokens", action="store_const", dest="kind", const="tokens")
    parser.add_argument("--clips", type=int, help="a video; the run's probe.clips")
    parser.add_argument("--crops", type=int, choices=(1, 3), help="a clip; the run's probe.crops")
    arguments = parser.parse_args()
    if arguments.clips is not None and arguments.clips < 1:
        parser.error(f"--clips is {arguments.clips}; expected at least 1")
    return extract(arguments)


def extract(arguments: argparse.Namespace) -> int:
    """Writes the features that a command line asks for; returns the exit code.

    Raises:
      InputError: something that was given cannot be used.
    """
    processes.join()
    agreement.agree_on_command({"argument": vars(arguments)})
    import jax

    from vivit_jax import config, sharding, trained
    from vivit_jax.digest import digests
    from vivit_jax.evals.frozen import FrozenEncoder
    from vivit_jax.evals.split import Pass

    first_process = jax.process_index() == 0
    speak(first_process)
    saved = trained.find(arguments.checkpoint)
    data, probe = saved.experiment.data, saved.experiment.probe
    kind = arguments.kind or "summary"
    clips, crops = arguments.clips or probe.clips, arguments.crops or probe.crops
    views = {"clips": clips, "crops": crops, "resize": saved.experiment.eval.resize}
    if saved.workdir is None and not (arguments.videos and arguments.out):
        raise InputError(f"{saved.where} is no run with videos of its own: give some, and --out.")
    videos = named(arguments.videos, data.labels) if arguments.videos else own(saved)
    out = pathlib.Path(arguments.out or f"{saved.workdir}/features/{saved.step:08d}-{kind}")
    mesh = sharding.make_mesh(config.Mesh())  # whatever the run's was
    encoder, params = trained.read_encoder(saved, sharding.replicated(mesh))
    about = {
        "checkpoint": saved.where,
        "step": saved.step,
        "weights": saved.weights,
        "digest": letters_of(digests(params)[0], 8),
        "kind": kind,
        **views,
    }
    match_about(out.absolute() / ABOUT, about, write=first_process)

    before, now = stamps_in(out / INDEX), {video.id: video.stamp for video in videos}
    changed = {name for name, own in now.items() if before.get(name, own) != own}
    missing = [v for v in videos if v.id in changed or not (out / v.file).exists()]
    names = hashlib.blake2b("\n".join(video.file for video in missing).encode(), digest_size=8)
    left = {"videos without features": len(missing), "digest of their names": names.hexdigest()}
    agreement.agree("the videos", left)
    if first_process:
        for video in missing:  # or one that has changed and cannot be read would keep its array
            (out / video.file).unlink(missing_ok=True)
    try:
        if missing:
            parts = sharding.batch_parts(mesh)
            wanted = min(data.batch_size / (clips * crops), len(missing))
            at_once = math.ceil(wanted / parts) * parts
            data = dataclasses.replace(data, labels="single")  # none is read
            frozen = FrozenEncoder(encoder, Pass(data, mesh, **views, batch_size=at_once), kind)
            write(frozen, params, missing, out, first_process)
    finally:
        if first_process:
            there = [video for video in videos if (out / video.file).exists()]
            write_index(out / INDEX, there, now)
    processes.barrier("end")  # the first still wrote
    return tell(videos, out) if first_process else 0


def tell(videos: Sequence[Video], out: pathlib.Path) -> int:
    """Says how many of the videos have an array; returns the exit code."""
    there = sum((out / video.file).exists() for video in videos)
    print(f"{there} of {len(videos)} videos are in {out}, listed in {INDEX}.")
    if there == len(videos):
        return 0
    print(f"Those that could not be read are listed in {out}/bad_videos.jsonl.", file=sys.stderr)
    return 1


def named(arguments: Sequence[str], labels: str) -> list[Video]:
    """Returns the videos of a command line, each once, in order.

    Args:
      arguments: videos, folders and lists.
      labels: data.labels, by which lists are read.

    Raises:
      InputError: a folder or a list has none.
    """
    found: dict[str, Video] = {}
    for argument in arguments:
        path = os.path.abspath(argument)
        if os.path.isdir(path):
            root = os.path.realpath(path)
            files = list(videos_below(root, root)) or refuse_none(path)
            videos = [Video(file, file) for file in files]
        elif path.lower().endswith(LISTS):
            videos = listed(path, labels)
        else:
            videos = [Video(path, path)]
        for video in videos:
            found.setdefault(video.id, video)
    return list(found.values())


def listed(file: str, labels: str) -> list[Video]:
    """Returns the videos of a list, with or without labels; paths start at its folder.

    Raises:
      InputError: it lists none, or has lines that do not parse, or parts of videos.
    """
    base, videos = os.path.dirname(file), []
    for row in read_list(file, labels, optional=True):
        if row.span:
            raise InputError(
                f"{row.where}: seconds {row.span[0]:g} to {row.span[1]:g} of {row.path}: parts of "
                "videos are for training; expected whole ones."
            )
        path = os.path.normpath(os.path.join(base, row.path))
        videos.append(Video(path, path, "|".join(row.labels)))
    return videos


def own(saved: "Saved") -> list[Video]:
    """Returns the videos of the run itself, of both splits."""
    from vivit_jax.run import open_videos

    assert saved.workdir is not None
    _, sources = open_videos(saved.experiment, saved.workdir)
    videos = []
    for split, source in (("train", sources.train), ("eval", sources.eval)):
        for example in map(source.example, range(len(source))):
            labels = np.atleast_1d(example.label).tolist()
            maps = sources.label_maps
            maps = maps if len(maps) > 1 else maps * len(labels)
            names = "|".join(names[label] for names, label in zip(maps, labels, strict=True))
            videos.append(Video(example.id, example.video, names, split, example.span))
    return videos


def match_about(file: pathlib.Path, about: dict[str, Any], write: bool) -> None:
    """Makes the folder of the features and writes down how they are made.

    Args:
      file: for that.
      about: what decides a video's features.
      write: whether this process does.

    Raises:
      InputError: the folder has features that were made otherwise, or cannot be written into.
    """
    if file.exists():
        try:
            before = dict(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise InputError(
                f"{file} is broken ({error}): delete it, or give another --out."
            ) from error
        changed = [
            f"{name} was {before.get(name)!r} and is {value!r}"
            for name, value in about.items()
            if before.get(name) != value
        ]
        if changed:
            raise InputError(
                f"{file.parent} holds other features: {'; '.join(changed)}. Give another --out."
            )
    elif write:
        try:
            with replacing(file) as new:
                new.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise InputError(f"--out={file.parent} cannot be written into: {error}.") from error


def write(
    frozen: "FrozenEncoder", params: Any, videos: Sequence[Video], out: pathlib.Path, active: bool
) -> None:
    """Encodes videos and writes an array for each that can be read.

    Args:
      frozen: encodes them.
      params: of the encoder.
      videos: as many as there are.
      out: where the arrays and bad_videos.jsonl go.
      active: False for a process that only encodes its share.
    """
    source = Listed([Example(video.id, video.path, 0, video.span) for video in videos])
    progress = Progress("encoding", len(videos))
    done = 0
    with contextlib.closing(frozen.batches(params, source, "features", out)) as batches:
        for batch in batches:
            rows = {name: np.asarray(value) for name, value in batch.items() if name != "label"}
            done += int((rows["index"] >= 0).sum())
            for place in np.flatnonzero(rows["valid"] & (rows["index"] >= 0)) if active else ():
                video = videos[rows["index"][place]]
                with replacing(out / video.file) as new, new.open("wb") as file:
                    np.save(file, rows["features"][place])
            progress.look(done)


def write_index(
    file: pathlib.Path, videos: Iterable[Video], stamps: Mapping[str, tuple[str, str]]
) -> None:
    """Writes which array is whose, and keeps the lines of other videos that have one.

    Args:
      file: the index.
      videos: that have an array.
      stamps: of the files that these were made of, by id.
    """
    rows = {row[0]: row for row in read_index(file) if (file.parent / row[1]).exists()}
    rows |= {v.id: [v.id, v.file, v.label, v.split, *stamps[v.id]] for v in videos}
    write_csv(file, [HEADER, *rows.values()])


def read_index(file: pathlib.Path) -> list[list[str]]:
    """Returns the lines of an index; none where there is none."""
    if not file.exists():
        return []
    with file.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        return list(csv.reader(lines))[1:]


def stamps_in(file: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Returns the stamp of the file that each array was made of, by id."""
    return {row[0]: (row[4], row[5]) for row in read_index(file) if len(row) == len(HEADER)}


if __name__ == "__main__":
    sys.exit(run(main))
