"""Long real videos with a known truth: the quickstart's motions one after another.

    truth = compose(path, [Part("left", 3), Part("still", 2), Part("zoom_in", 4)])
    truth = compose(path, drawn(7, seconds=60, between=("still",)))

Every part is a scene of its own, of the split's textures and speeds, at the rate and in the size of
the quickstart's videos, rendered and encoded part by part: an hour takes no more memory than its
longest part. Besides the eight motions there is what no training video shows (UNUSUAL). Parts of
the same kind, length and seed show the same frames: that is how duplicates are planted.
"""

import csv
import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from vivit_jax.data.synthetic import FPS, HEIGHT, MOTIONS, SPLITS, WIDTH, render, write

UNUSUAL = (
    "still",  # a scene that does not move
    "fast",  # one that shifts by six to eight pixels a frame, three times as fast as any
    "noise",  # every pixel of every frame is drawn anew
    "jumps",  # a scene whose frames come in any order
    "flicker",  # a moving scene of which every second frame has its colours reversed
)


class Part(NamedTuple):
    """A stretch of a video.

    Attributes:
      kind: a motion, or one of UNUSUAL.
      seconds: a whole number of frames is made of it.
      seed: of its scene; None for one that is its own.
    """

    kind: str
    seconds: float
    seed: int | None = None


class Truth(NamedTuple):
    """What is to be found: seconds from the first frame, and what happens."""

    begin: float
    end: float
    label: str


def compose(
    path: pathlib.Path, parts: Iterable[Part], *, seed: int = 0, split: str = "val"
) -> list[Truth]:
    """Writes a video; returns what is where in it, all parts in order.

    Args:
      path: of the mp4; its folder is made.
      parts: what it shows, one after another.
      seed: of the scenes whose part has none.
      split: "val" for textures and speeds that no training video of the quickstart has, "train".
    """
    parts = list(parts)
    ends = np.cumsum([round(part.seconds * FPS) for part in parts]).tolist()
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, _frames(parts, seed, split))
    begins = [0, *ends[:-1]]
    return [
        Truth(begin / FPS, end / FPS, part.kind)
        for part, begin, end in zip(parts, begins, ends, strict=True)
    ]


def drawn(
    seed: int,
    seconds: float,
    kinds: Sequence[str] = tuple(MOTIONS),
    between: Sequence[str] = (),
    length: tuple[float, float] = (2.5, 6.0),
) -> list[Part]:
    """Returns parts of random kinds and lengths, no kind twice in a row.

    Args:
      seed: of all that is drawn.
      seconds: of the video, at least.
      kinds: of which one is drawn for each part.
      between: of which one is put before each, and one after the last.
      length: seconds of a part, between these.
    """
    rng = np.random.default_rng(seed)
    parts: list[Part] = []

    def add(some: Sequence[str]) -> None:
        others = [kind for kind in some if not parts or kind != parts[-1].kind] or some
        parts.append(Part(others[int(rng.integers(len(others)))], round(rng.uniform(*length), 2)))

    last = ""
    while sum(part.seconds for part in parts) < seconds:
        if between:
            add(between)
        add([kind for kind in kinds if kind != last] or kinds)
        last = parts[-1].kind
    if between:
        add(between)
    return parts


def events(truth: Iterable[Truth], kinds: Iterable[str] = tuple(MOTIONS)) -> list[Truth]:
    """Returns the parts of some kinds: of the motions, unless told."""
    kinds = set(kinds)
    return [one for one in truth if one.label in kinds]


def write_truth(file: pathlib.Path, of: dict[pathlib.Path, Sequence[Truth]]) -> pathlib.Path:
    """Writes a truth file of events.py (video, begin, end, label); returns its path."""
    with file.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["video", *Truth._fields])
        rows.writerows([str(video), *one] for video, truth in of.items() for one in truth)
    return file


def _frames(parts: Sequence[Part], seed: int, split: str) -> Iterator[np.ndarray]:
    """Yields the frames of all parts."""
    for number, part in enumerate(parts):
        key = (9, seed, number) if part.seed is None else (8, part.seed)
        yield from _scene(part.kind, round(part.seconds * FPS), split, np.random.default_rng(key))


def _scene(kind: str, frames: int, split: str, rng: np.random.Generator) -> np.ndarray:
    """Returns the frames of a part, uint8 [frames HEIGHT WIDTH 3]."""
    of = SPLITS[split]
    if kind in MOTIONS:
        return render(kind, of, rng, frames)
    if kind == "noise":
        return rng.integers(0, 256, (frames, HEIGHT, WIDTH, 3), np.uint8)
    speeds = {"still": ((0.0, 0.0),), "fast": ((6.0, 8.0),)}.get(kind, of.speeds)
    motion = list(MOTIONS)[rng.integers(len(MOTIONS))]
    video = render(motion, dataclasses.replace(of, speeds=speeds), rng, frames)
    if kind == "jumps":
        return rng.permutation(video)
    if kind == "flicker":
        video[1::2] = 255 - video[1::2]
    elif kind not in UNUSUAL:
        raise ValueError(f"{kind!r} is no kind of part; expected a motion or one of {UNUSUAL}.")
    return video
