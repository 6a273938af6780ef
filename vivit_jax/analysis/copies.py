"""Videos that show the same, from windows that look alike: in order, and at one shift in time.

Two windows are alike where both their features and their mean pictures are: the features of a
classifier hardly differ within a class, and mean pictures hardly where a camera stands still. Even
so that is a hint only. Two videos are near-duplicates where the windows of one follow those of the
other at one shift: a copy encoded anew, cropped a little, or trimmed at either end. Windows of a
trimmed copy begin between those of the original, so an index with a hop shorter than a window finds
more of them.
"""

import collections
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

ABOVE = 0.8  # similarity of features, at least
PICTURES = 0.85  # and of mean pictures
SHARE = 0.5  # of the windows of the shorter video, that have their like in the other


class Copy(NamedTuple):
    """Two videos that show the same.

    Attributes:
      a: number of a video.
      b: of another, higher.
      share: of the windows of the shorter, that have their like at this shift.
      shift: seconds by which the moments of b are later.
      similarity: mean of their windows'.
      windows: pairs of them, [n 2], in order.
    """

    a: int
    b: int
    share: float
    shift: float
    similarity: float
    windows: np.ndarray


def find(
    pairs: Int[np.ndarray, "P 2"],
    similarity: Float[np.ndarray, " P"],
    owner: Int[np.ndarray, " N"],
    begins: Float[np.ndarray, " N"],
) -> list[Copy]:
    """Returns the near-duplicates, the surest first.

    Args:
      pairs: of windows that are alike, of different videos; the first has the lower number.
      similarity: of each pair.
      owner: the video of each window, rising.
      begins: of each window, seconds.
    """
    counts = np.bincount(owner)
    videos = np.sort(owner[pairs], axis=1)
    order = np.lexsort((videos[:, 1], videos[:, 0]))
    videos, pairs, similarity = videos[order], pairs[order], similarity[order]
    cuts = np.flatnonzero(np.any(videos[1:] != videos[:-1], axis=1)) + 1
    found = []
    for first, end in zip([0, *cuts], [*cuts, len(pairs)], strict=True):
        if first == end:
            continue
        a, b = (int(video) for video in videos[first])
        least = min(counts[a], counts[b])
        copy = _aligned(pairs[first:end], similarity[first:end], begins, _hop(begins, owner, a, b))
        share = len(copy[0]) / least
        if share >= SHARE:
            windows, values = copy
            shift = float(np.median(begins[windows[:, 1]] - begins[windows[:, 0]]))
            found.append(Copy(a, b, share, shift, float(values.mean()), windows))
    return sorted(found, key=lambda copy: (-copy.share, -copy.similarity, copy.a, copy.b))


def groups(copies: Sequence[Copy]) -> list[list[int]]:
    """Returns the videos that hang together by copies: two or more, rising."""
    parent: dict[int, int] = {}

    def root(video: int) -> int:
        while parent.setdefault(video, video) != video:
            video = parent[video]
        return video

    for copy in copies:
        parent[root(copy.b)] = root(copy.a)
    together: dict[int, list[int]] = collections.defaultdict(list)
    for video in sorted(parent):
        together[root(video)].append(video)
    return sorted(together.values())


def _hop(begins: np.ndarray, owner: np.ndarray, a: int, b: int) -> float:
    """Returns the longest time from a window of two videos to the next."""
    hops = [np.diff(begins[owner == video]) for video in (a, b)]
    return float(max((hop.max() for hop in hops if len(hop)), default=1.0))


def _aligned(
    pairs: np.ndarray, similarity: np.ndarray, begins: np.ndarray, hop: float
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the pairs at the shift that most windows agree on, each window once, in order.

    Shifts within half a hop count as one: the last window of a video begins where it must to end
    with it.
    """
    shifts = begins[pairs[:, 1]] - begins[pairs[:, 0]]
    order = np.argsort(shifts, kind="stable")
    width = np.searchsorted(shifts[order], shifts[order] + hop * 0.5 + 1e-6, side="right")
    best: list[int] = []
    for first, end in enumerate(width):
        if end - first > len(best):  # or no more windows than before can agree
            chosen = _once(order[first:end], pairs, similarity)
            best = chosen if len(chosen) > len(best) else best
    best.sort(key=lambda number: tuple(pairs[number]))
    return pairs[best], similarity[best]


def _once(numbers: np.ndarray, pairs: np.ndarray, similarity: np.ndarray) -> list[int]:
    """Returns pairs of which no two share a window, the most alike first."""
    used: set[int] = set()
    kept = []
    for number in numbers[np.argsort(-similarity[numbers], kind="stable")].tolist():
        a, b = pairs[number].tolist()
        if a not in used and b not in used:
            used |= {a, b}
            kept.append(number)
    return kept
