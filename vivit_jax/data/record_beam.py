"""Builds a dataset on Apache Beam, where one machine is not enough: TFDS's own builder and path.

The builder's records are those of data/record_shards.py, made by the same process on whatever
machine Beam runs it; TFDS groups them into shards, sized by bytes and in the order of the list.
"""

import atexit
import functools
import json
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from vivit_jax.data import record_format, record_plan, record_shards
from vivit_jax.data.examples import Example
from vivit_jax.data.pool import DecodePool, cores
from vivit_jax.data.record_format import Form
from vivit_jax.data.record_plan import Plan
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)


def make_builder(plan: Plan, timeout: float, folder: str, bad: str) -> Any:
    """Returns the tfds.core.GeneratorBasedBuilder of a plan.

    Args:
      plan: what is built.
      timeout: seconds that one video may take.
      folder: TFDS's data_dir: the dataset is written to NAME/VERSION below it.
      bad: prefix of the files that videos which cannot be read are written down in.
    """
    import apache_beam as beam  # pyright: ignore[reportMissingImports]
    import tensorflow_datasets as tfds

    class Writer(tfds.core.ExampleWriter):
        """Writes shards as a build on one machine does."""

        def write(self, path: Any, examples: Iterable[tuple[Any, bytes]]) -> None:
            """Writes a shard."""
            with record_shards.open_writer(path) as write:
                for _, record in examples:
                    write(record)

    def made(split: str) -> Any:
        source = plan.splits[split]
        make = functools.partial(_make, plan.form, plan.labels, timeout)
        lines = functools.partial(_bad_line, split)

        @beam.ptransform_fn
        def examples(pipeline: Any) -> Any:
            records = (
                pipeline
                | "List" >> beam.Create([(i, source.example(i)) for i in range(len(source))])
                | "Spread" >> beam.Reshuffle()
                | "Encode" >> beam.Map(make)
            )
            _ = (
                records
                | "Refused" >> beam.FlatMap(lines)
                | "Tell" >> beam.io.WriteToText(f"{bad}-{split}")
            )
            return records

        return examples()  # pyright: ignore[reportCallIssue]

    class Videos(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        """Videos as records."""

        name = plan.name
        VERSION = tfds.core.Version(plan.out.name)

        def _info(self) -> Any:
            return tfds.core.DatasetInfo(
                builder=self,
                description="Videos, by python -m vivit_jax.data.build.",
                features=record_format.features(plan.form.kind, plan.labels, plan.label_maps),
                disable_shuffling=True,
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: made(split) for split in plan.splits}

        def _generate_examples(self) -> Any:
            raise NotImplementedError  # the splits are Beam's already

        def _example_writer(self) -> Any:  # TFDS's documented place for another writer
            return Writer(tfds.core.FileFormat.ARRAY_RECORD)

    return Videos(data_dir=folder, file_format="array_record")


def build_by_beam(plan: Plan, runner: str, options: Sequence[str], timeout: float) -> None:
    """Builds a dataset on Beam.

    Args:
      plan: what is built.
      runner: Beam's name of it.
      options: Beam's own, as on its command line.
      timeout: seconds that one video may take.

    Raises:
      InputError: Beam is not installed.
    """
    try:
        from apache_beam.options import pipeline_options  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise InputError(
            "--beam-runner needs Apache Beam, which is not installed: pip install apache-beam."
        ) from error
    import tensorflow_datasets as tfds

    with record_plan.alone(plan):
        record_plan.begin(plan)
        folder, bad = plan.notes / "beam", plan.notes / "bad"
        if folder.exists():
            folder.rmtree()  # Beam begins anew
        folder.mkdir()
        builder = make_builder(plan, timeout, str(folder), str(bad))
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(
                beam_runner=runner, beam_options=pipeline_options.PipelineOptions(list(options))
            )
        )
        notes = []
        rows = [json.loads(line) for file in plan.notes.glob("bad-*") for line in _lines(file)]
        for split in plan.splits:
            info = builder.info.splits[split]
            for file, count in zip(info.filepaths, info.shard_lengths, strict=True):
                file.replace(plan.unfinished / file.name)
                record_shards.tabulate(plan.unfinished / file.name, count)
                size = (plan.unfinished / file.name).stat().length
                note = {"file": file.name, "examples": count, "bytes": size, "split": split}
                notes.append({**note, "content": size, "bad": []})
        rows.sort(key=lambda row: (row["split"], row.pop("index")))
        notes[0]["bad"] = rows
        record_plan.finish(plan, notes)


def _lines(file: Any) -> list[str]:
    """Returns the lines of a file."""
    return file.read_text().splitlines()


def _make(form: Form, labels: str, timeout: float, item: tuple[int, Example]) -> tuple[int, Any]:
    """Returns a number and its record; runs where Beam wants it."""
    index, example = item
    content = record_shards.content_of(_pool(timeout), example, form)
    return index, record_format.values(example, labels, content)


@functools.cache
def _pool(timeout: float) -> DecodePool:
    """Returns this machine's encoding processes, which live as long as Beam's own."""
    pool = DecodePool(cores(), 1, timeout)
    atexit.register(pool.close)
    return pool.__enter__()


def _bad_line(split: str, item: tuple[int, dict[str, Any]]) -> Iterable[str]:
    """Yields the line of a record whose video could not be read."""
    index, record = item
    if record["cause"]:
        identity = record["id"].decode("utf-8", "surrogateescape")
        why = {"cause": record["cause"], "message": record["message"].decode()}
        yield json.dumps({"id": identity, **why, "split": split, "index": index})
