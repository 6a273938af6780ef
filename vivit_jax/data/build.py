"""Makes a dataset of ArrayRecord shards out of video files.

    python -m vivit_jax.data.build --root videos --out DIR [--form jpeg|video] [--short-side 256]

The videos are those that training would read: --root, --list, --eval-list, --label-map, --labels
and --holdout mean what the options of config.data mean. DIR/NAME/VERSION is a TFDS dataset; train
on it with --config.data.dataset=records --config.data.root=DIR. The same command goes on where a
build was ended. With --beam-runner it runs on Apache Beam, and options that are not known here
are Beam's. Exit codes: 0 built, 2 something that was given cannot be used; 130 after Ctrl-C.
"""

import argparse
import dataclasses
import json
import logging
import os
import re
import sys
import time
from collections.abc import Iterable
from typing import Any

from vivit_jax import config, terminal
from vivit_jax.data import record_plan, record_shards
from vivit_jax.data.catalog import CATALOG, find_dataset, open_dataset, settle
from vivit_jax.data.examples import Source
from vivit_jax.data.pool import cores
from vivit_jax.data.record_format import ABOUT, TRAIN, VALIDATION, Form
from vivit_jax.data.record_plan import Plan
from vivit_jax.errors import InputError

log = logging.getLogger("vivit_jax.data.build")  # also where it is run as a command
_CLIPS, _SECONDS = 64, 10.0  # that the reading speed is measured with, at most


def main() -> int:
    """Runs the command; returns its exit code."""
    arguments, beam_options = parse(sys.argv[1:])
    terminal.speak(first_process=True)
    plan = make_plan(arguments)
    if plan.out.exists():
        about = json.loads((plan.out / ABOUT).read_text()) if (plan.out / ABOUT).exists() else {}
        record_plan.refuse_changes(plan, about, plan.asked(), plan.out)
        print(f"{plan.out} is built already, from these videos and with these options.")
        return 0
    began = time.perf_counter()
    if arguments.beam_runner:
        from vivit_jax.data.record_beam import build_by_beam

        build_by_beam(plan, arguments.beam_runner, beam_options, arguments.timeout)
        built = sum(map(len, plan.splits.values()))
    else:
        built = record_shards.build(plan, arguments.workers or cores(), arguments.timeout)
    tell(plan, built, time.perf_counter() - began)
    return 0


def parse(given: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the arguments, and those that are Beam's."""
    parser = argparse.ArgumentParser(prog="python -m vivit_jax.data.build")
    which = parser.add_argument_group("which videos; see docs/data.md")
    which.add_argument("--dataset", default="videos", help=f"one of {', '.join(CATALOG)}")
    which.add_argument("--root", default="", help="a folder of class folders")
    which.add_argument("--split", type=int, default=1, help="of a data set that has several")
    which.add_argument("--list", default="", help="a file of `path label` lines")
    which.add_argument("--eval-list", default="", help="likewise, of held-out videos")
    which.add_argument("--digests", default="", help="a file as sha256sum writes it")
    which.add_argument("--follow-links", action="store_true", help="links may leave the root")
    which.add_argument("--label-map", default="", help="a file with a label name a line")
    which.add_argument("--labels", default="single", help="single, multi, heads or none")
    which.add_argument("--holdout", type=float, default=0.2, help="share held out, without a split")
    into = parser.add_argument_group("into what")
    into.add_argument("--out", required=True, help="DIR: the dataset is DIR/NAME/VERSION")
    into.add_argument("--name", default="videos", help="of the dataset")
    into.add_argument("--version", default="1.0.0", help="of the dataset")
    into.add_argument("--form", default="jpeg", help="jpeg: every frame; video: H.264 again")
    into.add_argument("--short-side", type=int, default=256, help="pixels; nothing is enlarged")
    into.add_argument("--quality", type=int, default=85, help="of JPEG")
    into.add_argument("--every", type=int, default=1, help="of so many frames one is kept; jpeg")
    into.add_argument("--fps", type=float, default=0.0, help="frames kept a second; jpeg")
    into.add_argument("--gop", type=int, default=12, help="frames between keyframes; video")
    into.add_argument("--crf", type=int, default=21, help="x264's rate factor; video")
    into.add_argument("--shard-videos", type=int, default=64, help="videos a shard")
    how = parser.add_argument_group("how")
    terminal.add_workers(how)
    how.add_argument("--timeout", type=float, default=600.0, help="seconds a video may take")
    how.add_argument("--beam-runner", default="", help="such as DirectRunner or DataflowRunner")
    arguments, beam_options = parser.parse_known_args(given)
    if beam_options and not arguments.beam_runner:
        parser.error(f"unrecognized arguments: {' '.join(beam_options)}")
    for flag in ("shard_videos", "timeout"):
        if getattr(arguments, flag) < 1:
            parser.error(f"--{flag.replace('_', '-')} is below 1")
    return arguments, beam_options


def make_plan(arguments: argparse.Namespace) -> Plan:
    """Returns what is to be built.

    Raises:
      InputError: something that was given cannot be used.
    """
    from etils import epath

    form = Form(
        kind=arguments.form,
        **{
            field.name: getattr(arguments, field.name)
            for field in dataclasses.fields(Form)
            if field.name != "kind"
        },
    )
    if form.kind == "video" and (form.every != 1 or form.fps):
        raise InputError("--every and --fps are for --form jpeg; video keeps every frame.")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", arguments.name):
        raise InputError(f"--name is {arguments.name!r}; expected a-z, 0-9 and _, as TFDS does.")
    if not re.fullmatch(r"\d+\.\d+\.\d+", arguments.version):
        raise InputError(f"--version is {arguments.version!r}; expected three numbers, as 1.0.0.")
    dataset = find_dataset(arguments.dataset)
    if dataset.stored:
        raise InputError(f"--dataset={arguments.dataset} is no dataset of video files.")
    data = config.Data(
        dataset=arguments.dataset,
        root=arguments.root,
        train_list=arguments.list,
        eval_list=arguments.eval_list,
        digests=arguments.digests,
        follow_links=arguments.follow_links,
        label_map=arguments.label_map,
        labels=arguments.labels,
        holdout=arguments.holdout,
        split=arguments.split,
    )
    data = settle(data)
    sources = dataset.open(data)
    splits: dict[str, Source] = {TRAIN: sources.train}
    if len(sources.eval):
        splits[VALIDATION] = sources.eval
    counts = ", ".join(f"{len(source)} of {split}" for split, source in splits.items())
    log.info("%s videos.", counts)
    return Plan(
        out=epath.Path(arguments.out) / arguments.name / arguments.version,
        form=form,
        labels=data.labels,
        label_maps=sources.label_maps,
        directional=dataset.directional or sources.directional,
        splits=splits,
        per_shard=arguments.shard_videos,
    )


def tell(plan: Plan, built: int, seconds: float) -> None:
    """Prints what was made, in bytes and speed, and how fast it reads.

    Args:
      plan: what was asked for.
      built: videos that were not there before.
      seconds: that these took.
    """
    about = json.loads((plan.out / ABOUT).read_text())
    made = sum(shard["bytes"] for s in about["splits"].values() for shard in s["shards"])
    videos = sum(map(len, plan.splits.values()))
    source = sum(sizes(plan.splits.values()))
    share = f"{made / source:.2f} of the source's {source / 1e6:,.1f} MB" if source else ""
    bad = (plan.out / record_plan.BAD).read_text().count("\n")
    print(f"{plan.out}: {videos} videos, {made / 1e6:,.1f} MB, {share}")
    print(f"built {built} in {seconds:.1f} s: {built / seconds:.2f} videos a second")
    if bad:
        print(f"{bad} could not be read and keep their places empty; see {record_plan.BAD}")
    if bad < videos:
        print(f"reads {reading_speed(plan):.1f} clips a second (16 frames, stride 4, 224 x 224)")
    print(f"train on it: --config.data.dataset=records --config.data.root={plan.out}")


def sizes(sources: Iterable[Source]) -> Iterable[int]:
    """Yields the bytes of the files that the examples are in."""
    for path in {s.example(i).video for s in sources for i in range(len(s))}:
        if isinstance(path, str) and os.path.exists(path):
            yield os.path.getsize(path)


def reading_speed(plan: Plan) -> float:
    """Returns clips a second, read as training reads them."""
    from vivit_jax.data.pipeline import train_batches

    options: dict[str, Any] = {"labels": "none", "batch_size": 8, "max_bad": 1.0}
    data = config.Data(dataset="records", root=str(plan.out), **options)
    with train_batches(open_dataset(data).train, data, seed=0) as batches:
        for _ in range(3):  # what was read ahead while TensorFlow came up does not count
            next(batches)
        began, clips = time.perf_counter(), 0
        while clips < _CLIPS and time.perf_counter() - began < _SECONDS:
            clips += len(next(batches)["valid"])
        return clips / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(terminal.run(main))
