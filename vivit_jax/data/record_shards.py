"""Builds a dataset on one machine: videos encoded by processes, shards written in order.

A shard is a fixed number of examples, so it does not depend on how many processes there are, nor
on where a build was ended. It is written beside and renamed, then a note of it is, and what has a
note is not done again. So a build can be killed at any moment, and the same command goes on with
the shard that was under way. The folder gets its name when all is there.
"""

import collections
import concurrent.futures
import contextlib
import dataclasses
import fcntl
import itertools
import json
import logging
import os
import shutil
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from vivit_jax.data import record_format, record_table, records
from vivit_jax.data.encoding import encode
from vivit_jax.data.pool import DecodeFailure, DecodePool
from vivit_jax.data.record_format import ABOUT, Form
from vivit_jax.data.sources import Example, Source, fingerprint
from vivit_jax.errors import InputError
from vivit_jax.metrics import Progress

log = logging.getLogger(__name__)
BAD = "bad_videos.jsonl"
_ORDER = "build.json"  # what an unfinished build was asked for
_AHEAD = 4  # videos encoded ahead of the one that is written, for each process
T = TypeVar("T")
R = TypeVar("R")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is built.

    Attributes:
      out: the folder NAME/VERSION that will hold it; an epath.Path.
      form: what is kept of a video.
      labels: data.labels.
      label_maps: the names of the classes.
      directional: whether a label can mean a direction.
      splits: the videos by TFDS's name of the split.
      per_shard: examples of a shard.
    """

    out: Any
    form: Form
    labels: str
    label_maps: tuple[tuple[str, ...], ...]
    directional: bool
    splits: Mapping[str, Source]
    per_shard: int

    @property
    def name(self) -> str:
        """TFDS's name of the dataset."""
        return self.out.parent.name

    @property
    def unfinished(self) -> Any:
        """The folder that becomes `out`."""
        return self.out.parent / f".{self.out.name}.unfinished"

    @property
    def notes(self) -> Any:
        """The folder of what an unfinished build knows of itself."""
        return self.out.parent / f".{self.out.name}.progress"

    def asked(self) -> dict[str, Any]:
        """Returns what decides the records: as is written beside them."""
        return {
            "format": record_format.VERSION,
            "form": self.form.about(),
            "labels": self.labels,
            "label_maps": [list(names) for names in self.label_maps],
            "directional": self.directional,
            "examples": {split: fingerprint(source) for split, source in self.splits.items()},
        }

    def shards(self) -> list["Shard"]:
        """Returns all shards, split by split."""
        found = []
        for split, source in self.splits.items():
            total = -(-len(source) // self.per_shard)
            for number in range(total):
                file = f"{self.name}-{split}.array_record-{number:05d}-of-{total:05d}"
                first = number * self.per_shard
                found.append(
                    Shard(split, file, range(first, min(first + self.per_shard, len(source))))
                )
        return found


@dataclasses.dataclass(frozen=True)
class Shard:
    """Some examples of a split, and the file that they go into."""

    split: str
    file: str
    examples: range


def build(plan: Plan, workers: int, timeout: float) -> int:
    """Returns how many videos were built: those of shards that were not there.

    Args:
      plan: what is built.
      workers: encoding processes.
      timeout: seconds that one video may take.

    Raises:
      InputError: an unfinished build of something else is in the way.
    """
    with alone(plan):
        begin(plan)
        shards = plan.shards()
        notes = {shard.file: _note(plan, shard) for shard in shards}
        todo = [shard for shard in shards if notes[shard.file] is None]
        total = sum(len(shard.examples) for shard in shards)
        left = sum(len(shard.examples) for shard in todo)
        if left < total:
            log.info(
                "%d of %d videos were built before; going on with the rest.", total - left, total
            )
        progress, done = Progress("built", left), 0
        of, serializer = serializer_of(plan)
        with contextlib.closing(encoded(plan, todo, workers, timeout)) as results:

            def made(count: int) -> Iterator[tuple[Example, dict[str, Any], bytes]]:
                nonlocal done
                for example, content in itertools.islice(results, count):
                    values = record_format.values(example, plan.labels, content)
                    yield example, content, record_format.serialise(serializer, of, values)
                    done += 1
                    progress.look(done)

            for shard in todo:
                notes[shard.file] = _write(plan, shard, made(len(shard.examples)))
        finish(plan, [note for shard in shards if (note := notes[shard.file])])
        return left


def begin(plan: Plan) -> None:
    """Makes the folders of an unfinished build, or finds those of the same build.

    Raises:
      InputError: they belong to another.
    """
    order = plan.notes / _ORDER
    asked = {**plan.asked(), "per_shard": plan.per_shard}
    if order.exists():
        refuse_changes(plan, json.loads(order.read_text()), asked, plan.unfinished)
        return
    for folder in (plan.unfinished, plan.notes):
        if folder.exists():
            folder.rmtree()  # of a build that was ended before it had begun
        folder.mkdir(parents=True)
    for split, source in plan.splits.items():
        (plan.unfinished / record_format.index_file(split)).write_text(
            record_format.index_lines(source)
        )
    new = plan.notes / f"{_ORDER}.new"
    new.write_text(json.dumps(asked))
    new.replace(order)


def refuse_changes(plan: Plan, before: Mapping[str, Any], now: Mapping[str, Any], at: Any) -> None:
    """Returns if what is asked now is what was asked before.

    Args:
      plan: what is asked now.
      before: as Plan.asked, of what is there.
      now: likewise, of now.
      at: the folder of what is there.

    Raises:
      InputError: names what has changed.
    """
    changes = []
    for key in ("format", "labels", "label_maps", "directional", "per_shard"):
        if before.get(key) != now.get(key):
            shown = "" if key == "label_maps" else f" ({before.get(key)}, now {now.get(key)})"
            changes.append(f"{key}{shown}")
    old, new = before.get("form", {}), now["form"]
    changes += [
        f"{key} ({old.get(key)}, now {new.get(key)})"
        for key in {**old, **new}
        if old.get(key) != new.get(key)
    ]
    for split in {**before.get("examples", {}), **now["examples"]}:
        if before.get("examples", {}).get(split) != now["examples"].get(split):
            source = plan.splits.get(split)
            ids = [source.example(i).id for i in range(len(source))] if source else []
            index = at / record_format.index_file(split)
            rows = record_format.read_index(index.read_text()) if index.exists() else []
            what = record_format.differences([identity for identity, _ in rows], ids)
            changes.append(f"the videos of {split} ({what or 'their labels'})")
    if changes:
        raise InputError(
            f"{at} was built from something else. Changed since: {'; '.join(changes)}. Build "
            f"another --version or --out, or delete {at} (and {plan.notes} beside it) first."
        )


def serializer_of(plan: Plan) -> tuple[Any, Any]:
    """Returns the features of the records, and what serialises them."""
    import tensorflow_datasets as tfds

    of = record_format.features(plan.form.kind, plan.labels, plan.label_maps)
    specs: Any = of.get_serialized_info()
    return of, tfds.core.ExampleSerializer(specs)


def encoded(
    plan: Plan, shards: Iterable[Shard], workers: int, timeout: float
) -> Generator[tuple[Example, dict[str, Any]]]:
    """Yields the examples of shards with what was made of their videos, in order."""
    examples = (plan.splits[shard.split].example(i) for shard in shards for i in shard.examples)
    with (
        concurrent.futures.ThreadPoolExecutor(workers) as threads,  # ends after what it waits for
        DecodePool(workers, 1, timeout) as pool,
    ):

        def make(example: Example) -> tuple[Example, dict[str, Any]]:
            return example, content_of(pool, example, plan.form)

        yield from in_order(threads, make, examples, _AHEAD * workers)


def content_of(pool: DecodePool, example: Example, form: Form) -> dict[str, Any]:
    """Returns what a process of the pool made of an example's video."""
    content = pool.call(encode, example.video, example.span, form)
    if isinstance(content, DecodeFailure):
        return record_format.refused(form.kind, *content)
    return content


def in_order(
    threads: concurrent.futures.Executor, function: Callable[[T], R], items: Iterable[T], ahead: int
) -> Iterator[R]:
    """Yields function(item) of every item in order, while up to `ahead` more are under way."""
    waiting: collections.deque[concurrent.futures.Future[R]] = collections.deque()
    try:
        for item in items:
            waiting.append(threads.submit(function, item))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _write(
    plan: Plan, shard: Shard, made: Iterable[tuple[Example, dict[str, Any], bytes]]
) -> dict[str, Any]:
    """Returns the note of a shard, written after the shard was."""
    new, size, bad = plan.notes / f"{shard.file}.new", 0, []
    with open_writer(new) as write:
        for example, content, record in made:
            write(record)
            size += len(record)
            if cause := content.get("cause"):
                message = content["message"].decode()
                row = {"id": example.id, "cause": cause, "message": message, "split": shard.split}
                bad.append(row)
                log.warning("%s: %s: %s", example.id, cause, message)
    _sync(new)
    new.replace(plan.unfinished / shard.file)
    tabulate(plan.unfinished / shard.file, len(shard.examples))
    note = {
        "file": shard.file,
        "examples": len(shard.examples),
        "bytes": (plan.unfinished / shard.file).stat().length,
    }
    whole = plan.notes / f"{shard.file}.json"
    draft = plan.notes / f"{shard.file}.json.new"
    draft.write_text(json.dumps({**note, "split": shard.split, "content": size, "bad": bad}))
    _sync(draft)
    draft.replace(whole)
    return json.loads(whole.read_text())


@contextlib.contextmanager
def open_writer(path: Any) -> Iterator[Callable[[bytes], None]]:
    """Yields what appends a record to a new shard."""
    from array_record.python.array_record_module import ArrayRecordWriter

    # JPEG and H.264 are compressed already, and a record is read alone.
    writer = ArrayRecordWriter(os.fspath(path), "group_size:1,uncompressed")
    yield writer.write
    writer.close()


def tabulate(file: Any, count: int) -> None:
    """Writes the table of a shard (see data/record_table.py), if its file is as expected.

    Args:
      file: the shard.
      count: its records, which are read back.
    """
    reader = records.Shards([file], [count])

    def rows() -> Iterator[record_table.Row]:
        for record in map(reader.read, range(count)):
            parsed = records.parse(record)
            yield record_table.Row(record, parsed.numbers, parsed.nanoseconds, parsed.pieces)

    table = record_table.make(file, rows())
    if table is None:
        log.warning("%s is not as expected; its records will be read whole.", file)
        return
    for path, part in zip(record_table.files_of(file), table, strict=True):
        path.parent.mkdir(exist_ok=True)
        np.save(path, part)
        _sync(path)


def _note(plan: Plan, shard: Shard) -> dict[str, Any] | None:
    """Returns the note of a shard that is there; None if it has to be written."""
    file, path = plan.notes / f"{shard.file}.json", plan.unfinished / shard.file
    if not file.exists() or not path.exists():
        return None
    note = json.loads(file.read_text())
    return note if path.stat().length == note["bytes"] else None


def finish(plan: Plan, notes: Iterable[Mapping[str, Any]]) -> None:
    """Writes what lies beside the shards, and gives the folder its name."""
    notes = list(notes)
    rows = [row for note in notes for row in note["bad"]]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (plan.unfinished / BAD).write_text(lines)
    _write_tfds(plan, notes)
    splits: dict[str, Any] = {split: {"shards": []} for split in plan.splits}
    for note in notes:
        shard = {key: note[key] for key in ("file", "examples", "bytes")}
        splits[note["split"]]["shards"].append(shard)
    about = json.dumps({**plan.asked(), "splits": splits}, indent=1) + "\n"
    (plan.unfinished / ABOUT).write_text(about)
    for name in (ABOUT, BAD):
        _sync(plan.unfinished / name)
    plan.unfinished.rename(plan.out)
    shutil.rmtree(plan.notes)


def _write_tfds(plan: Plan, notes: Iterable[Mapping[str, Any]]) -> None:
    """Writes TFDS's own description of the dataset."""
    import tensorflow_datasets as tfds

    infos = []
    for split in plan.splits:
        own = [note for note in notes if note["split"] == split]
        template = tfds.core.ShardedFileTemplate(
            data_dir=plan.unfinished,
            dataset_name=plan.name,
            split=split,
            filetype_suffix="array_record",
        )
        infos.append(
            tfds.core.SplitInfo(
                name=split,
                shard_lengths=[note["examples"] for note in own],
                num_bytes=sum(note["content"] for note in own),
                filename_template=template,
            )
        )
    tfds.folder_dataset.write_metadata(
        data_dir=plan.unfinished,
        features=record_format.features(plan.form.kind, plan.labels, plan.label_maps),
        split_infos=infos,
        version=plan.out.name,
        check_data=False,  # by as_dataset, which TFDS has not for ArrayRecord
        description="Videos, by python -m vivit_jax.data.build.",
        disable_shuffling=True,
    )


def _sync(path: Any) -> None:
    """Returns when a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def alone(plan: Plan) -> Iterator[None]:
    """Holds the target against a second build.

    Raises:
      InputError: another is under way.
    """
    plan.out.parent.mkdir(parents=True, exist_ok=True)
    with open(plan.out.parent / f".{plan.out.name}.lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(f"Another build of {plan.out} is under way; wait for it.") from error
        yield
