"""Search in more rows than one wants to read for an answer: by cells, with faiss.

Rows are put into about sqrt(N) cells by k-means, and a question looks at the cells that are nearest
to it. How many is measured and not guessed: as many as it takes to find RECALL of the ten nearest
rows of a sample of the index's own. The cells lie in DIR/approximate.faiss, beside a note of what
they are of; an index that has changed since makes them anew.
"""

import functools
import hashlib
import importlib
import logging
import pathlib
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from vivit_jax.analysis import nearest, parts
from vivit_jax.analysis.index import Index
from vivit_jax.errors import InputError
from vivit_jax.files import replacing

log = logging.getLogger(__name__)
RECALL = 0.95
_CELLS, _NOTE = "approximate.faiss", "approximate.json"
_ASKED = 256  # rows that are asked for, to measure
_NEAREST = 10
_LEARNT = 40  # rows a cell, of those that k-means sees
_WIDER = 16  # times as many windows as videos are wanted, at first


def best(
    index: Index,
    vectors: Float[np.ndarray, "q D"],
    top: int,
    moments: bool,
    wanted: Bool[np.ndarray, " N"] | None,
) -> nearest.Found:
    """Returns the rows most like any of the vectors, as nearest.best does.

    Args:
      index: the rows.
      vectors: of length 1.
      top: how many.
      moments: all windows of a video, in place of its best.
      wanted: which rows may be an answer; None for all.

    Raises:
      InputError: faiss is not installed.
    """
    cells, _ = cells_of(index)
    asked = top if moments else _WIDER * top
    while True:
        asked = min(asked, len(index))
        kept: list[tuple[int, float]] = []
        ended = asked == len(index)
        for first in range(0, len(vectors), nearest.AT_ONCE):
            some = np.ascontiguousarray(vectors[first : first + nearest.AT_ONCE])
            scores, rows = cells.search(some, asked)
            ended = ended or bool((rows < 0).any())  # no more in these cells
            rows = np.append(rows, [row for row, _ in kept]).astype(int)
            scores = np.append(scores, [score for _, score in kept])
            kept = _distinct(index, rows, scores, moments, wanted)[:top]
        if len(kept) >= top or ended:
            scores = np.array([[score for _, score in kept]], np.float32)
            return nearest.Found(scores, np.array([[row for row, _ in kept]], np.int32))
        asked *= 4


def cells_of(index: Index) -> tuple[Any, float]:
    """Returns the cells of an index, and their measured recall; makes them where they are not.

    Raises:
      InputError: faiss is not installed.
    """
    faiss = load()
    file, note = (index.folder / name for name in (_CELLS, _NOTE))
    names = "\n".join(part.name for part in parts.files(index.folder))
    of = hashlib.blake2b(names.encode(), digest_size=8).hexdigest()
    if file.exists() and note.exists():
        known = parts.read_json(note, f"delete it, and {_CELLS} is made anew")
        if known.get("parts") == of:
            cells = faiss.read_index(str(file), faiss.IO_FLAG_MMAP)
            cells.nprobe = known["cells_looked_at"]
            return cells, known["recall"]
    cells, looked_at, recall = make(index)
    _write(faiss, cells, file)
    about = {"parts": of, "rows": len(index), "cells_looked_at": looked_at, "recall": recall}
    parts.write_json(note, about)
    return cells, recall


def make(index: Index) -> tuple[Any, int, float]:
    """Returns cells, how many of them a question looks at, and the recall that this has.

    Raises:
      InputError: faiss is not installed.
    """
    faiss = load()
    count, size = len(index), nearest.block_size(index.features)
    many = max(1, min(round(4 * np.sqrt(count)), count // 39))  # k-means wants 39 rows a cell
    log.info("making %s: %s windows in %s cells", _CELLS, f"{count:,}", f"{many:,}")
    centres = faiss.IndexFlatIP(index.features)
    cells = faiss.IndexIVFFlat(centres, index.features, many, faiss.METRIC_INNER_PRODUCT)
    rng = np.random.default_rng(0)
    cells.train(_sample(index, rng, many * _LEARNT))
    for first in range(0, count, size):
        cells.add(np.ascontiguousarray(index.part(first, first + size)))
    asked = _sample(index, rng, _ASKED)
    exact = nearest.best(index.blocks(), nearest.likeness, asked[:, None], min(_NEAREST, count))
    looked_at, recall = 1, 0.0
    while True:
        cells.nprobe = looked_at
        recall = recalled(cells.search(asked, exact.rows.shape[1])[1], exact.rows)
        if recall >= RECALL or looked_at >= many:
            log.info("a question looks at %s of them; recall@10 %.3f", looked_at, recall)
            return cells, looked_at, recall
        looked_at = min(2 * looked_at, many)


def recalled(found: np.ndarray, exact: np.ndarray) -> float:
    """Returns the share of the nearest rows [Q k] that was found."""
    return float(np.mean([np.isin(row, one).mean() for one, row in zip(found, exact, strict=True)]))


@functools.cache
def load() -> Any:
    """Returns faiss.

    Raises:
      InputError: it is not installed.
    """
    try:
        return importlib.import_module("faiss")
    except ImportError as error:
        raise InputError(
            "An index of more than a million windows is searched approximately, by faiss, which "
            "is not installed: pip install 'vivit_jax[search]', or give --exact."
        ) from error


def _sample(index: Index, rng: np.random.Generator, count: int) -> Float[np.ndarray, "n D"]:
    """Returns some rows, as they lie on the disk."""
    numbers = np.sort(rng.choice(len(index), min(count, len(index)), replace=False))
    size = nearest.block_size(index.features)
    found = []
    for first in range(0, len(index), size):
        own = numbers[(numbers >= first) & (numbers < first + size)]
        if len(own):
            found.append(index.part(first, first + size)[own - first])
    return np.ascontiguousarray(np.concatenate(found))


def _distinct(
    index: Index,
    rows: np.ndarray,
    scores: np.ndarray,
    moments: bool,
    wanted: np.ndarray | None,
) -> list[tuple[int, float]]:
    """Returns rows with their scores, best first, each once and of each video one."""
    kept: list[tuple[int, float]] = []
    seen: set[int] = set()
    for place in np.lexsort((rows, -scores)).tolist():
        row = int(rows[place])
        if row < 0 or (wanted is not None and not wanted[row]):
            continue
        group = row if moments else int(index.owner[row])
        if group not in seen:
            seen.add(group)
            kept.append((row, float(scores[place])))
    return kept


def _write(faiss: Any, cells: Any, file: pathlib.Path) -> None:
    with replacing(file) as new:
        faiss.write_index(cells, str(new))
