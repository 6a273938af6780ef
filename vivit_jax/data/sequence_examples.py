"""Scenic's and DMVR's datasets as they are: TFRecords of SequenceExamples with JPEG frames.

`data.dataset=sequence_examples`, `data.root` the folder. A tf.train.SequenceExample holds
image/encoded (a JPEG a frame) and, as far as it was written, image/timestamp (microseconds),
clip/label/index, clip/label/text, clip/media_id or video/filename, and clip/start/timestamp and
clip/end/timestamp (microseconds). Shards are called NAME-00000-of-00010, with or without an
extension; those whose name or folder says train are for training, and val, test and so on are held
out.

A TFRecord has no index, so the files are read once, with their checksums, and where every record is
goes into a file beside them (or, where nothing can be written there, below ~/.cache/vivit_jax).
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import pathlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from vivit_jax import config
from vivit_jax.data.container import DecodeError
from vivit_jax.data.examples import Example, Sources
from vivit_jax.data.frames import Frames
from vivit_jax.data.labels import index_labels
from vivit_jax.data.lists import refuse
from vivit_jax.data.sources import EVAL_FOLDERS
from vivit_jax.data.splits import selected, split_by_hash
from vivit_jax.errors import InputError
from vivit_jax.host_tensorflow import host_tensorflow
from vivit_jax.metrics import Progress

log = logging.getLogger(__name__)
INDEX = ".vivit_jax_sequence_examples.json"
_FORMAT = 1
_SHARD = re.compile(r"(?P<name>.*?)[-.]?\d{5}-of-\d{5}(\.\w+)?$|(?P<alone>.*)\.tfrecords?$")
_HEADER, _FOOTER = 12, 4  # bytes around a record: its length with a checksum, and its own
_MICRO = 1e-6
_NOMINAL_FPS = 25.0  # where nothing tells the time


@dataclasses.dataclass(frozen=True)
class Found:
    """A record of a TFRecord file, as the index knows it.

    Attributes:
      id: what the example is called; unique.
      file: path below the root.
      offset: of its first byte.
      bytes: of it.
      labels: in digits.
      texts: the names of these, where the record has as many.
    """

    id: str
    file: str
    offset: int
    bytes: int
    labels: tuple[str, ...]
    texts: tuple[str, ...]

    @property
    def where(self) -> str:
        """File and place."""
        return f"{self.file}, byte {self.offset}"


def open_sequence_examples(data: config.Data) -> Sources:
    """Returns the training and held-out videos below a folder of TFRecords.

    Raises:
      InputError: there are none, or they are damaged or without the labels that are asked for.
    """
    if data.train_list or data.eval_list:
        raise InputError("data.dataset = 'sequence_examples' reads data.root; leave lists empty.")
    if not os.path.isdir(data.root):
        raise InputError(f"data.root is {data.root!r}, which is not a folder; check the path.")
    root = pathlib.Path(data.root)
    train_files, eval_files = split_files(root)
    known = read_index(root, [*train_files, *eval_files])
    train = [found for file in train_files for found in known[file]]
    held_out = [found for file in eval_files for found in known[file]]
    if not held_out:
        train, held_out = split_by_hash(train, data.holdout)
    if not train:
        raise InputError(f"No training videos below {root}; lower data.holdout.")
    items = [*train, *held_out]
    maps, indices = _labels(items, data)
    single = data.labels == "single"
    examples = [
        Example(item.id, StoredSequence(root, item), label[0] if single else label)
        for item, label in zip(items, indices, strict=True)
    ]
    return Sources(*selected(data, examples[: len(train)], examples[len(train) :]), maps)


def split_files(root: pathlib.Path) -> tuple[list[str], list[str]]:
    """Returns the training and the held-out files below a folder; the latter may be none.

    Raises:
      InputError: there are no TFRecords, a shard is gone, or no file is for training.
    """
    names = sorted(
        path.relative_to(root).as_posix()
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith(".") and _SHARD.fullmatch(path.name)
    )
    if not names:
        raise InputError(f"No TFRecords below {root}; expected files as train-00000-of-00010.")
    _refuse_gaps(root, names)
    words = {name: set(re.split(r"[^a-z]+", name.lower())) for name in names}
    train = [name for name in names if "train" in words[name]]
    for held_out in EVAL_FOLDERS:
        found = [name for name in names if held_out in words[name] and name not in train]
        if found:
            if not train:
                raise InputError(f"{root} has files for {held_out}, and none for train.")
            return train, found
    return train or names, []


def _refuse_gaps(root: pathlib.Path, names: Sequence[str]) -> None:
    """Refuses shards that are gone.

    Raises:
      InputError: names them.
    """
    sets: dict[tuple[str, str, str], set[int]] = {}
    for name in names:
        if match := re.fullmatch(r"(.*?)(\d{5})-of-(\d{5})(.*)", name):
            sets.setdefault((match[1], match[3], match[4]), set()).add(int(match[2]))
    gone = [
        f"{root / f'{before}{number:05d}-of-{total}{after}'}: no such shard"
        for (before, total, after), there in sets.items()
        for number in range(int(total))
        if number not in there
    ]
    refuse(gone, len(names) + len(gone), "Copy the missing shards; a split is read whole.")


def read_index(root: pathlib.Path, files: Sequence[str]) -> dict[str, list[Found]]:
    """Returns the records of every file; reads the files once and remembers.

    Raises:
      InputError: a file is damaged.
    """
    stamps = {file: [s.st_size, s.st_mtime_ns] for file in files for s in [(root / file).stat()]}
    for place in _places(root):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            saved = json.loads(place.read_text())
            if saved["format"] == _FORMAT and saved["files"] == stamps:
                return {file: _unpack(file, rows) for file, rows in saved["records"].items()}
    log.info("Reading %d files once, for where their records are.", len(files))
    progress, records = Progress("indexed", len(files)), {}
    for done, file in enumerate(files, 1):
        records[file] = list(_scan(root, file))
        progress.look(done)
    taken = Counter(found.id for rows in records.values() for found in rows)
    for file, rows in records.items():  # several records of one video
        records[file] = [
            found
            if found.id and taken[found.id] == 1
            else dataclasses.replace(found, id=f"{found.id or file}#{found.offset}")
            for found in rows
        ]
    packed = {file: [_pack(found) for found in rows] for file, rows in records.items()}
    text = json.dumps({"format": _FORMAT, "files": stamps, "records": packed})
    for place in _places(root):
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            new = place.with_name(f"{place.name}.{os.getpid()}")
            new.write_text(text)
            os.replace(new, place)
            break
        except OSError:
            continue
    return records


def _pack(found: Found) -> list[Any]:
    """Returns a record's row of the index."""
    return [found.id, found.offset, found.bytes, found.labels, found.texts]


def _unpack(file: str, rows: Sequence[Any]) -> list[Found]:
    """Returns the records of a file's rows."""
    return [Found(i, file, at, size, tuple(n), tuple(t)) for i, at, size, n, t in rows]


def _places(root: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    """Returns where the index may be: beside the files, or in the user's cache."""
    digest = hashlib.blake2b(os.fsencode(root.resolve()), digest_size=8).hexdigest()
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache")
    return root / INDEX, cache / "vivit_jax" / f"sequence_examples_{digest}.json"


def _scan(root: pathlib.Path, file: str) -> Iterator[Found]:
    """Yields the records of a file, in order.

    Raises:
      InputError: it is damaged.
    """
    tf = host_tensorflow()
    offset = _HEADER
    try:
        for record in tf.data.TFRecordDataset(os.fspath(root / file)).as_numpy_iterator():
            context = tf.train.SequenceExample.FromString(record).context.feature
            identity = _texts(context, "clip/media_id") or _texts(context, "video/filename")
            labels = tuple(str(n) for n in context["clip/label/index"].int64_list.value)
            texts = _texts(context, "clip/label/text")
            texts = texts if len(texts) == len(labels) else ()
            yield Found("".join(identity[:1]), file, offset, len(record), labels, texts)
            offset += len(record) + _FOOTER + _HEADER
    except Exception as error:  # TensorFlow's own, and the parser's
        raise InputError(
            f"{root / file} is damaged or cut, at byte {offset - _HEADER}, or is no TFRecord of "
            f"SequenceExamples: {str(error).splitlines()[0]}. Copy it again."
        ) from error


def _texts(context: Any, name: str) -> tuple[str, ...]:
    """Returns the texts of a feature."""
    if name not in context:  # asking for it would add it
        return ()
    values = context[name].bytes_list.value
    return tuple(text.decode("utf-8", "surrogateescape") for text in values)


def _labels(
    items: Sequence[Found], data: config.Data
) -> tuple[tuple[tuple[str, ...], ...], list[tuple[int, ...]]]:
    """Returns the label maps, and the label indices of each item.

    Raises:
      InputError: a record has no labels, or too many, or the names contradict each other.
    """
    if data.labels == "none":
        return ((),), [()] * len(items)
    wrong = [
        f"{item.where}: {len(item.labels)} labels in clip/label/index"
        for item in items
        if (not item.labels) or (data.labels == "single" and len(item.labels) > 1)
    ]
    advice = "Expected one" if data.labels == "single" else "Expected at least one"
    refuse(wrong, len(items), f"{advice}; set data.labels to multi, heads or none.")
    maps, indices = index_labels(
        items,
        naming=len(items),
        map_files=data.label_map,
        heads=data.labels == "heads",
        numbers=True,
    )
    return (maps if data.label_map else _named(maps, items, data.labels == "heads")), indices


def _named(
    maps: Sequence[Sequence[str]], items: Sequence[Found], heads: bool
) -> tuple[tuple[str, ...], ...]:
    """Returns label maps of numbers with the names that the records give them.

    Raises:
      InputError: one number has two names.
    """
    named = [list(names) for names in maps]
    given: dict[tuple[int, int], str] = {}
    for item in items:
        for place, (number, text) in enumerate(zip(item.labels, item.texts, strict=False)):
            head = place if heads else 0
            if given.setdefault((head, int(number)), text) != text:
                raise InputError(
                    f"{item.where}: label {number} is called {text!r}, and elsewhere "
                    f"{given[head, int(number)]!r}; set data.label_map."
                )
            named[head][int(number)] = text
    whole = all(len(set(names)) == len(names) for names in named)
    return tuple(tuple(names) for names in (named if whole else maps))


class StoredSequence:
    """A SequenceExample in its file; a sources.Stored."""

    __slots__ = ("_found", "_root")
    media = "jpeg"

    def __init__(self, root: pathlib.Path, found: Found):
        self._root, self._found = root, found

    def read(self) -> Frames:
        """Returns its frames.

        Raises:
          DecodeError: they are not there any more.
        """
        from google.protobuf.message import DecodeError as NotParsed

        path = self._root / self._found.file
        try:
            with open(path, "rb") as file:
                data = os.pread(file.fileno(), self._found.bytes, self._found.offset)
            return frames_of(host_tensorflow().train.SequenceExample.FromString(data))
        except OSError as error:
            raise DecodeError("missing", f"{path} cannot be read: {error.strerror}") from error
        except NotParsed as error:
            raise DecodeError("corrupt", f"{self._found.where}: {error}") from error


def frames_of(sequence: Any) -> Frames:
    """Returns the frames of a tf.train.SequenceExample, with the times that it gives them.

    Raises:
      DecodeError: it has none.
    """
    lists, context = sequence.feature_lists.feature_list, sequence.context.feature
    if "image/encoded" not in lists or not lists["image/encoded"].feature:
        raise DecodeError("empty", "no image/encoded in the record")
    jpegs = [step.bytes_list.value[0] for step in lists["image/encoded"].feature]
    count = len(jpegs)
    fps = _NOMINAL_FPS
    bounds = [
        context[name].int64_list.value[0]
        for name in ("clip/start/timestamp", "clip/end/timestamp")
        if name in context and context[name].int64_list.value
    ]
    if len(bounds) == 2 and bounds[1] > bounds[0]:
        fps = count / ((bounds[1] - bounds[0]) * _MICRO)
    times = np.arange(count) / fps
    if "image/timestamp" in lists and len(lists["image/timestamp"].feature) == count > 1:
        stamps = [step.int64_list.value[0] for step in lists["image/timestamp"].feature]
        given = (np.array(stamps, np.float64) - stamps[0]) * _MICRO
        if (np.diff(given) > 0).all():
            times, fps = given, (count - 1) / given[-1]
    length = times[-1].item() + 1 / fps
    return Frames(jpegs, times, length, length, float(fps))
