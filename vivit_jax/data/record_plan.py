"""What a build of records was asked for, and its folders: begun, held alone, given their name.

The folder gets its name when all is there; until then what is done lies in two others beside it,
so that the same command goes on where a build was ended, and another is refused.
"""

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from vivit_jax.data import record_format
from vivit_jax.data.examples import Source, fingerprint
from vivit_jax.data.record_format import ABOUT, Form
from vivit_jax.errors import InputError

BAD = "bad_videos.jsonl"
_ORDER = "build.json"  # what an unfinished build was asked for


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
        sync(plan.unfinished / name)
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


def sync(path: Any) -> None:
    """Returns when a file is on the disk."""
    with open(path, "rb") as file:
        os.fsync(file.fileno())
