"""Builds a dataset on one machine: videos encoded by processes, shards written in order.

A shard is a fixed number of examples, so it does not depend on how many processes there are, nor
on where a build was ended. It is written beside and renamed, then a note of it is, and what has a
note is not done again. So a build can be killed at any moment, and the same command goes on with
the shard that was under way.
"""

import collections
import concurrent.futures
import contextlib
import itertools
import json
import logging
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

import numpy as np

from vivit_jax.data import record_format, record_table, records
from vivit_jax.data.encoding import encode
from vivit_jax.data.examples import Example
from vivit_jax.data.pool import DecodeFailure, DecodePool
from vivit_jax.data.record_format import Form
from vivit_jax.data.record_plan import Plan, Shard, alone, begin, finish, sync
from vivit_jax.metrics import Progress

log = logging.getLogger(__name__)
_AHEAD = 4  # videos encoded ahead of the one that is written, for each process
T = TypeVar("T")
R = TypeVar("R")


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
    content = pool.call(encode, example.video, example.span, form, example.digest)
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
    sync(new)
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
    sync(draft)
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
        sync(path)


def _note(plan: Plan, shard: Shard) -> dict[str, Any] | None:
    """Returns the note of a shard that is there; None if it has to be written."""
    file, path = plan.notes / f"{shard.file}.json", plan.unfinished / shard.file
    if not file.exists() or not path.exists():
        return None
    note = json.loads(file.read_text())
    return note if path.stat().length == note["bytes"] else None
