"""Which videos show the same: copies by their compressed pictures, others by what they look like.

A video's signature is 8 moments, evenly spaced over its length, of 8 x 8 cells of grey each; so
another container, codec, bit rate, size or frame rate changes it little, and a mirror image, a cut
in time or a border changes it much. Two videos show the same where their signatures differ by
little against how much each changes over its own time: two takes of one scene, or two parts of one
long video, differ about as much as that. The two moments that differ most don't count: beside a
cut, another frame rate can show the next scene.

Pairs are searched with k-d trees, one for each quarter of the moments, over the directions in which
that varies most: what is near in all directions is near in these.
"""

import base64
from collections.abc import Sequence

import numpy as np

CELLS = 8  # rows, and columns
MOMENTS = 8
_QUARTERS = 4
_COUNTED = 6  # moments, those that differ least
_DIRECTIONS = 16  # of those in which signatures vary, that a tree knows
_NOISE = 2.0  # grey levels that encoding anew may change a signature by
_MOTION = 0.2  # and of a video that moves, this share of what it changes by over time
_MOST = 6.0  # but no more grey levels than these
_PLAIN = 6.0  # grey levels of contrast below which all pictures look alike


def signature(times: np.ndarray, cells: np.ndarray, seconds: float) -> np.ndarray:
    """Returns the signature of a video: uint8 [MOMENTS CELLS CELLS].

    Args:
      times: of the probes, seconds from the first frame, rising.
      cells: grey levels of each [P CELLS CELLS].
      seconds: that the video lasts.
    """
    wanted = (np.arange(MOMENTS) + 0.5) * seconds / MOMENTS
    nearest = np.abs(times[:, None] - wanted).argmin(axis=0)
    return np.rint(cells[nearest]).astype(np.uint8)


def find_groups(
    digests: Sequence[str], signatures: Sequence[str]
) -> tuple[list[list[int]], list[tuple[int, int, float]]]:
    """Returns videos that are copies, and pairs of videos that look the same.

    Args:
      digests: of the compressed pictures; empty for videos that have none.
      signatures: in base64; likewise.

    Returns:
      Groups of two or more numbers, rising; and (number, higher number, grey levels by which they
      differ), where of every group of copies only the first is compared.
    """
    groups: dict[str, list[int]] = {}
    for i, digest in enumerate(digests):
        if digest:
            groups.setdefault(digest, []).append(i)
    firsts = sorted(group[0] for group in groups.values() if signatures[group[0]])
    pairs = []
    if firsts:
        codes = b"".join(base64.b64decode(signatures[i]) for i in firsts)
        shape = (len(firsts), MOMENTS, CELLS * CELLS)
        pairs = _look_alikes(np.frombuffer(codes, np.uint8).reshape(shape).astype(np.float32))
    alike = [(firsts[i], firsts[j], difference) for i, j, difference in pairs]
    return [group for group in groups.values() if len(group) > 1], alike


def _look_alikes(codes: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns pairs of signatures [N MOMENTS D] that are nearly equal, and how much they differ."""
    codes = codes - codes.mean(axis=2, keepdims=True)  # lighter or darker all over is the same
    own = np.sqrt(np.square(codes - codes.mean(axis=1, keepdims=True)).mean(axis=(1, 2)))
    limits = np.minimum(_NOISE + _MOTION * own, _MOST)
    rich = np.sqrt(np.square(codes).mean(axis=(1, 2))) >= _PLAIN
    quarters = np.split(codes, _QUARTERS, axis=1)
    parts = [_near(part.reshape(len(codes), -1), rich, limits) for part in quarters]
    found = np.unique(np.concatenate(parts), axis=0)
    pairs = []
    for some in np.array_split(found, 1 + len(found) // 10_000):
        i, j = some.T
        moments = np.sort(np.square(codes[i] - codes[j]).mean(axis=2), axis=1)
        difference = np.sqrt(moments[:, :_COUNTED].mean(axis=1))
        near = difference <= np.minimum(limits[i], limits[j])
        pairs += zip(i[near].tolist(), j[near].tolist(), difference[near].tolist(), strict=True)
    return pairs


def _near(codes: np.ndarray, rich: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Returns the pairs of codes [N D] that can be as near as the limits allow: int [P 2].

    Args:
      codes: a part of the signatures.
      rich: which of these show enough to be told apart by.
      limits: grey levels.
    """
    from scipy.spatial import KDTree

    kept = np.flatnonzero(rich & (np.sqrt(np.square(codes).mean(axis=1)) >= _PLAIN))
    if len(kept) < 2:
        return np.empty((0, 2), int)
    _, directions = np.linalg.eigh(np.cov(codes[kept], rowvar=False))
    reach = float(limits[kept].max()) * np.sqrt(codes.shape[1])
    tree = KDTree(codes[kept] @ directions[:, -_DIRECTIONS:])
    return kept[tree.query_pairs(reach, output_type="ndarray")]
