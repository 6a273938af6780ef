"""Where a video is cut, from how much its frames differ: data/changes.py measures, here is judged.

A frame begins a shot where it differs much more from the one before than its neighbours do: the
threshold follows what moves around it, so that a fast pan is no cut and a cut between two dark
scenes is one. A flash is none, after which all is as it was. A fade is a stretch of one colour
between two shots, and its middle parts them; between two cuts it is a shot of its own.
"""

import itertools
from collections.abc import Collection
from typing import NamedTuple

import numpy as np

from vivit_jax.data.changes import Changes, changes

LEAST = 0.15  # change that a cut has at least, of [0, 1]
CERTAIN = 0.4  # change that is a cut whatever moves around it, unless it is a flash
NEAR, FAR = 0.25, 2.0  # seconds around a frame, which it is compared with
ABOVE_NEAR, ABOVE_FAR = 2.0, 3.0  # times the largest near it, times the mean far around
MOVED = 0.004  # change of pixels below which a frame repeats the one before
ENOUGH = 4  # frames that moved, of which a mean tells something
SAME = 0.5  # share of a cut's change that stays after a frame, else that was a flash
FLAT = 0.02  # spread of a picture of one colour
SHORTEST = 0.2  # seconds of a shot


class Shot(NamedTuple):
    """A part of a video without a cut, in seconds from its first frame."""

    begin: float
    end: float


def shots(found: Changes, shortest: float = SHORTEST) -> list[Shot]:
    """Returns the shots of a video: all of it, in order.

    Args:
      found: of its frames.
      shortest: seconds of a shot; of cuts that are nearer to each other the strongest counts.
    """
    strength = changed(found)
    hard = cuts(found)
    strong = {i: strength[i] for i in hard} | {i: 1.0 for i in fades(found, hard)}
    bounds = [0.0, found.end]
    for i in sorted(strong, key=lambda i: -strong[i]):
        when = float(found.seconds[i])
        if all(abs(when - other) >= shortest for other in bounds):
            bounds.append(when)
    return [Shot(*pair) for pair in itertools.pairwise(sorted(bounds))]


def changed(found: Changes) -> np.ndarray:
    """Returns how much each frame differs from the one before: both in its colours and in place."""
    return np.sqrt(found.histogram * found.pixels)


def staying(found: Changes) -> np.ndarray:
    """Returns whether each frame and the one after it differ from the last two before: no flash."""
    least, far = SAME * changed(found), found.skipping
    return (far >= least) & (np.append(far[1:], 1.0) >= least)


def cuts(found: Changes) -> list[int]:
    """Returns the numbers of the frames that begin a shot."""
    strength, moved = changed(found), found.pixels > MOVED
    seconds, stays = found.seconds, staying(found)
    starts = {reach: np.searchsorted(seconds, seconds - reach) for reach in (NEAR, FAR)}
    ends = {reach: np.searchsorted(seconds, seconds + reach, "right") for reach in (NEAR, FAR)}
    numbers = []
    for i in np.flatnonzero(strength >= LEAST):
        near = strength[np.r_[starts[NEAR][i] : i, i + 1 : ends[NEAR][i]]]
        around = np.r_[starts[FAR][i] : i, i + 1 : ends[FAR][i]]
        far = strength[around][moved[around]]
        usual = far.mean() if len(far) >= ENOUGH else 0.0
        wanted = max(ABOVE_NEAR * near.max(initial=0.0), ABOVE_FAR * usual)
        if stays[i] and strength[i] >= min(wanted, CERTAIN):
            numbers.append(int(i))
    return numbers


def fades(found: Changes, hard: Collection[int]) -> list[int]:
    """Returns the numbers of the frames in the middle of each stretch of one colour.

    Args:
      found: of the frames.
      hard: numbers of those that are cuts: a stretch between two of them is a shot, and no fade.
    """
    flat = np.concatenate([[False], found.spread < FLAT, [False]])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    last, stays = len(found.seconds), staying(found)
    return [
        int(first + end) // 2
        for first, end in zip(edges[::2], edges[1::2], strict=True)
        if first > 0
        and end < last
        and (end - first > 1 or stays[first])
        and not (first in hard and end in hard)
    ]


def find(video: str | bytes, shortest: float = SHORTEST) -> tuple[list[Shot], str]:
    """Returns the shots of a video, and why it was not read to its end; "" where it was.

    It runs in a decoding process.

    Raises:
      DecodeError: nothing of it can be read.
    """
    found = changes(video)
    return shots(found, shortest), found.lost
