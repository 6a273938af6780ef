"""What a built dataset holds: the features of a record, and the files beside the shards.

A dataset is a folder NAME/VERSION as TFDS lays it out (shards, dataset_info.json, features.json),
so TFDS reads it without this package. Beside them lie ABOUT, written last but for TFDS's own
files, which says what was asked and what the shards must be, and an index a split with the id and
the label of every example in order, so that these are known without reading a record.

A record is a tf.train.Example. Times are whole nanoseconds from the first frame and rates whole
nanohertz, because tf.train.Example has no float64 and what decides which frame is shown must
survive. A video that could not be read keeps its place, without frames but with its cause, so
that example i of a split is example i of the list it was built from.
"""

import dataclasses
import json
from collections.abc import Iterable, Sequence
from typing import Any

from vivit_jax.data.examples import Example, Source
from vivit_jax.errors import InputError

VERSION = 1  # of this format
ABOUT = "vivit_jax.json"
TRAIN, VALIDATION = "train", "validation"
FORMS = ("jpeg", "video")
NANO = 1_000_000_000


@dataclasses.dataclass(frozen=True)
class Form:
    """What a record keeps of a video.

    Attributes:
      kind: "jpeg" (every frame a JPEG) or "video" (H.264 in an mp4).
      short_side: pixels; a smaller picture stays as it is.
      quality: of a JPEG, 1 to 100, as libjpeg counts.
      every: of every how many source frames one is kept; "jpeg" alone.
      fps: frames a second that are kept, in place of every; 0 to use every; "jpeg" alone.
      gop: frames from one keyframe to the next; "video" alone.
      crf: x264's constant rate factor, smaller is better; "video" alone.
    """

    kind: str = "jpeg"
    short_side: int = 256
    quality: int = 85
    every: int = 1
    fps: float = 0.0
    gop: int = 12
    crf: int = 21

    def __post_init__(self):
        """Refuses what no record can be."""
        if self.kind not in FORMS:
            raise InputError(f"--form is {self.kind!r}; expected one of: {', '.join(FORMS)}.")
        for flag, value, least, most in (
            ("--short-side", self.short_side, 16, 8192),
            ("--quality", self.quality, 1, 100),
            ("--every", self.every, 1, 10_000),
            ("--fps", self.fps, 0, 1000),
            ("--gop", self.gop, 1, 1000),
            ("--crf", self.crf, 0, 51),
        ):
            if not least <= value <= most:
                raise InputError(f"{flag} is {value}; expected {least} to {most}.")

    def about(self) -> dict[str, Any]:
        """Returns what of it decides the records."""
        own = ("quality", "every", "fps") if self.kind == "jpeg" else ("gop", "crf")
        return {name: getattr(self, name) for name in ("kind", "short_side", *own)}


def features(kind: str, labels: str, label_maps: Sequence[Sequence[str]]):
    """Returns the TFDS features of a record.

    Args:
      kind: of the Form.
      labels: data.labels: "single", "multi", "heads" or "none".
      label_maps: the names of the classes, a map a head.
    """
    import numpy as np
    import tensorflow_datasets as tfds

    one = tfds.features
    number = one.Scalar(np.int64)
    classes = [one.ClassLabel(names=[printable(name) for name in names]) for names in label_maps]
    content: dict[str, Any] = {"video": one.Tensor(shape=(), dtype=np.object_)}
    if kind == "jpeg":
        content = {
            "frames": one.Sequence(one.Image(shape=(None, None, 3), encoding_format="jpeg")),
            "nanoseconds": one.Sequence(number),
            "length": number,
            "shown": number,
            "nano_fps": number,
            "display": one.Tensor(shape=(2,), dtype=np.int64),
        }
    label = {
        "single": lambda: {"label": classes[0]},
        "multi": lambda: {"label": one.Sequence(classes[0])},
        "heads": lambda: {f"label_{head}": names for head, names in enumerate(classes)},
        "none": dict,
    }[labels]()
    texts = {"id": one.Text(), "cause": one.Text(), "message": one.Text()}
    return one.FeaturesDict({**texts, **label, **content})


def values(example: Example, labels: str, content: dict[str, Any]) -> dict[str, Any]:
    """Returns a record as its features take it.

    Args:
      example: whose.
      labels: data.labels.
      content: what was made of the video; see encoding.encode and `refused`.
    """
    label: dict[str, Any] = {}
    if labels == "heads":
        label = {f"label_{head}": index for head, index in enumerate(as_tuple(example.label))}
    elif labels != "none":
        label = {"label": list(as_tuple(example.label)) if labels == "multi" else example.label}
    identity = example.id.encode("utf-8", "surrogateescape")
    return {"id": identity, "cause": "", "message": "", **label, **content}


def refused(kind: str, cause: str, message: str) -> dict[str, Any]:
    """Returns the content of a record whose video could not be read."""
    why = {"cause": cause, "message": message.encode("utf-8", "replace")}
    if kind == "video":
        return {**why, "video": b""}
    empty = {"frames": [], "nanoseconds": [], "length": 0, "shown": 0, "nano_fps": 0}
    return {**why, **empty, "display": [0, 0]}


def serialise(serializer: Any, of: Any, record: dict[str, Any]) -> bytes:
    """Returns a record's bytes, the same on every machine and in every process.

    Args:
      serializer: tfds.core.ExampleSerializer of the features.
      of: the features.
      record: see `values`.
    """
    # The order of a protocol buffer's map is otherwise another in every process.
    message = serializer.get_tf_example(of.encode_example(record))
    return message.SerializeToString(deterministic=True)


def index_lines(source: Source) -> str:
    """Returns the index of a split: a line an example, in order."""
    return "".join(
        json.dumps({"id": example.id, "label": example.label}) + "\n"
        for example in map(source.example, range(len(source)))
    )


def read_index(text: str) -> list[tuple[str, int | tuple[int, ...]]]:
    """Returns the id and label of every example of a split.

    Raises:
      ValueError: a line is not whole.
    """
    rows = (json.loads(line) for line in text.splitlines())
    return [
        (row["id"], tuple(row["label"]) if isinstance(row["label"], list) else row["label"])
        for row in rows
    ]


def as_tuple(label: int | tuple[int, ...]) -> tuple[int, ...]:
    """Returns the labels of an example, however many."""
    return label if isinstance(label, tuple) else (label,)


def index_file(split: str) -> str:
    """Returns the name of a split's index."""
    return f"{split}.index.jsonl"


def printable(name: str) -> str:
    """Returns a class's name as TFDS can write it: one line of UTF-8."""
    text = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text.replace("\\", "\\\\").replace("\n", "\\n") if "\n" in text else text


def differences(before: Iterable[str], now: Iterable[str]) -> str:
    """Returns in words how a list of ids has changed; "" if it has not."""
    old, new = list(before), list(now)
    gone, more = set(old) - set(new), set(new) - set(old)
    parts = [
        f"{len(ids)} {what} (the first: {min(ids)})"
        for ids, what in ((gone, "gone"), (more, "new"))
        if ids
    ]
    if not parts and old != new:
        parts = ["another order"]
    return ", ".join(parts)
