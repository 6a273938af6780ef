"""The rows that score highest, of any number of them: exactly, on the device, a block at a time.

Rows come in blocks of one size, the last one filled up, so that one program serves any index, and
memory holds a block and the best so far. Products are of float32 and at the highest precision.
Legend: G questions of q vectors each, B rows of a block, D features, K classes, k answers.
"""

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int

from vivit_jax.errors import InputError

_BLOCK = 2**22  # numbers of a block of rows: 16 MB, which caches hold in part
_ROWS = 2**16  # of a block, at most
_TILE = 4096  # rows of a side, where all are compared with all
_MOST = 20_000_000  # pairs of rows
AT_ONCE = 256  # vectors of questions that rows are compared with at once: bounds memory
_NONE = -1  # the number of no row

Score = Callable[[Any, Any, Any], Any]


class Block(NamedTuple):
    """Rows that are judged at once, all but the first `here` of them fillers.

    Attributes:
      rows: float32 [B D], of length 1.
      lengths: what they were divided by: float32 [B].
      groups: numbers that rise from row to row: int32 [B].
      wanted: which rows may be an answer: bool [B].
      here: rows that are there.
    """

    rows: np.ndarray
    lengths: np.ndarray
    groups: np.ndarray
    wanted: np.ndarray
    here: int


class Found(NamedTuple):
    """The best rows of each question, best first; of equal ones the lower first.

    Attributes:
      scores: -inf where there are no more.
      rows: their numbers; -1 likewise.
    """

    scores: Float[np.ndarray, "G k"]
    rows: Int[np.ndarray, "G k"]


def block_size(features: int) -> int:
    """Returns the rows of a block."""
    return min(max(1024, _BLOCK // features), _ROWS)


def blocks(
    rows: Float[np.ndarray, "N D"],
    lengths: Float[np.ndarray, " N"] | None = None,
    groups: Int[np.ndarray, " N"] | None = None,
    wanted: Bool[np.ndarray, " N"] | None = None,
) -> Iterator[Block]:
    """Yields the blocks of rows that are in memory, or mapped into it."""
    count, features = rows.shape
    size = block_size(features)
    for first in range(0, count, size):
        part = slice(first, first + size)
        here = len(rows[part])
        yield Block(
            _filled(np.asarray(rows[part], np.float32), size),
            _filled(np.ones(here, np.float32) if lengths is None else lengths[part], size),
            _filled(np.zeros(here, np.int32) if groups is None else groups[part], size),
            _filled(np.ones(here, bool) if wanted is None else wanted[part], size),
            here,
        )


def best(given: Iterable[Block], score: Score, params: Any, k: int, grouped: bool = False) -> Found:
    """Returns the k rows that score highest, for each question.

    Args:
      given: the rows.
      score: a function of this module's form: of params, rows and lengths, to [G B].
      params: what it judges by.
      k: at most.
      grouped: whether of each group only its best row counts.
    """
    carry: Any = None
    first = 0
    for block in given:
        arrays = (block.rows, block.lengths, block.groups, block.wanted)
        if carry is None:
            carry = _nothing(score, params, arrays, k)
        place = np.int32(first)
        carry = _step(params, carry, *arrays, place, score=score, k=k, grouped=grouped)
        first += block.here
    if carry is None:
        return Found(np.zeros((1, 0), np.float32), np.zeros((1, 0), np.int32))
    return Found(np.asarray(carry[0]), np.asarray(carry[1]))


def likeness(
    params: Float[Array, "G q D"], rows: Float[Array, "B D"], lengths: Float[Array, " B"]
) -> Float[Array, "G B"]:
    """Returns the cosine similarity of rows to the nearest of each question's vectors."""
    del lengths
    questions, count = params.shape[:2]
    size = min(count, max(1, AT_ONCE // questions))
    each = np.arange(-(-count // size) * size) % count  # the last part has repeats, which are alike
    parts = rearrange(params[:, each], "g (n q) d -> n (g q) d", q=size)

    def nearer(best: Array, part: Array) -> tuple[Array, None]:
        similarity = jnp.matmul(part, rows.T, precision="highest")
        similarity = rearrange(similarity, "(g q) b -> g q b", q=size)
        return jnp.maximum(best, similarity.max(axis=1)), None

    nothing = jnp.full((questions, len(rows)), -jnp.inf, jnp.float32)
    return jax.lax.scan(nearer, nothing, parts)[0]


class Direction(NamedTuple):
    """A class, as a linear head tells it from features.

    Attributes:
      kernel: of the classes of its head: float32 [D K].
      bias: [K].
      number: of the class in its head.
      alone: whether a class excludes no other, so that its logit is all.
    """

    kernel: Any
    bias: Any
    number: Any
    alone: Any


def log_odds(
    params: Direction, rows: Float[Array, "B D"], lengths: Float[Array, " B"]
) -> Float[Array, "1 B"]:
    """Returns the log odds of a class: they rise with its probability, and never saturate."""
    products = jnp.matmul(rows, params.kernel, precision="highest")
    logits = products * lengths[:, None] + params.bias[None]
    own = jnp.take(logits, params.number, axis=1)
    others = jnp.where(jnp.arange(logits.shape[1])[None] == params.number, -jnp.inf, logits)
    against = jax.nn.logsumexp(others, axis=1)
    return jnp.where(params.alone, own, own - against)[None]


def pairs_above(
    given: Sequence[tuple[Float[np.ndarray, "N D"], float]], groups: Int[np.ndarray, " N"]
) -> tuple[Int[np.ndarray, "P 2"], Float[np.ndarray, " P"]]:
    """Returns the pairs of rows of different groups that are alike, and how much.

    Args:
      given: rows of length 1, and how alike they must be at least; several kinds of features of
        the same things must all be. The similarity that is returned is of the first.
      groups: of the rows.

    Raises:
      InputError: they are so many that rows can hardly be told apart.
    """
    count = len(groups)
    size = min(_TILE, -(-count // 128) * 128)
    found: list[np.ndarray] = [np.zeros((0, 2), np.int64)]
    values: list[np.ndarray] = [np.zeros(0, np.float32)]
    total = 0
    for i in range(0, count, size):
        above = [jnp.asarray(_filled(rows[i : i + size], size)) for rows, _ in given]
        for j in range(i, count, size):
            below = [jnp.asarray(_filled(rows[j : j + size], size)) for rows, _ in given]
            tiles = [np.asarray(_similarities(*two)) for two in zip(above, below, strict=True)]
            alike = [tile >= least for tile, (_, least) in zip(tiles, given, strict=True)]
            a, b = np.nonzero(np.logical_and.reduce(alike))
            value = tiles[0][a, b]
            a, b = a + i, b + j
            kept = (a < b) & (b < count)  # fillers score 0, which may be enough
            kept[kept] = groups[a[kept]] != groups[b[kept]]
            found.append(np.stack([a[kept], b[kept]], axis=1))
            values.append(value[kept])
            total += len(values[-1])
            if total > _MOST:
                raise InputError(
                    f"More than {_MOST:,} pairs of windows are at least {given[0][1]:g} alike: "
                    "these windows are hardly told apart. Give a higher --above."
                )
    return np.concatenate(found), np.concatenate(values)


@jax.jit
def _similarities(a: Float[Array, "n D"], b: Float[Array, "n D"]) -> Float[Array, "n n"]:
    """Returns the products of rows with rows."""
    return jnp.matmul(a, b.T, precision="highest")


def _filled(part: np.ndarray, size: int) -> np.ndarray:
    """Returns rows as they are, or with zeros after them."""
    if len(part) == size:
        return part
    whole = np.zeros((size, *part.shape[1:]), part.dtype)
    whole[: len(part)] = part
    return whole


def _nothing(score: Score, params: Any, arrays: Any, k: int) -> tuple[Array, Array, Array]:
    """Returns the best of no rows."""
    questions = jax.eval_shape(score, params, arrays[0], arrays[1]).shape[0]
    none = jnp.full((questions, k), _NONE, jnp.int32)
    return jnp.full((questions, k), -jnp.inf, jnp.float32), none, none


@functools.partial(jax.jit, static_argnames=("score", "k", "grouped"))
def _step(
    params: Any,
    carry: tuple[Array, Array, Array],
    rows: Float[Array, "B D"],
    lengths: Float[Array, " B"],
    groups: Int[Array, " B"],
    wanted: Bool[Array, " B"],
    first: Int[Array, ""],
    *,
    score: Score,
    k: int,
    grouped: bool,
) -> tuple[Array, Array, Array]:
    """Returns the best after another block."""
    values = jnp.where(wanted[None], score(params, rows, lengths), -jnp.inf)
    if grouped:
        values = _one_of_each(values, groups)
    top, place = jax.lax.top_k(values, min(k, len(rows)))
    numbers = jnp.where(top > -jnp.inf, place + first, _NONE)
    known = jnp.where(top > -jnp.inf, groups[place], _NONE)
    if grouped:  # a group may go on from the block before
        same = (carry[2][:, :, None] == known[:, None, :]) & (known[:, None, :] != _NONE)
        weaker = same & (carry[0][:, :, None] < top[:, None, :])
        carry = (jnp.where(weaker.any(axis=2), -jnp.inf, carry[0]), *carry[1:])
        top = jnp.where((same & ~weaker).any(axis=1), -jnp.inf, top)
    merged = [
        jnp.concatenate(two, axis=1) for two in zip(carry, (top, numbers, known), strict=True)
    ]
    scores, kept = jax.lax.top_k(merged[0], k)
    chosen, known = (
        jnp.where(scores > -jnp.inf, jnp.take_along_axis(part, kept, axis=1), _NONE)
        for part in merged[1:]
    )
    return scores, chosen, known


def _one_of_each(values: Float[Array, "G B"], groups: Int[Array, " B"]) -> Float[Array, "G B"]:
    """Returns -inf for every row but the best of its group, the first of equal ones."""
    count = values.shape[1]
    own = groups - groups[0]  # groups rise by one at a time, so there are at most B
    own = jnp.clip(own, 0, count - 1)  # fillers have none
    largest = jax.ops.segment_max(values.T, own, count)
    number = jnp.broadcast_to(jnp.arange(count)[:, None], (count, values.shape[0]))
    candidates = jnp.where(largest[own] == values.T, number, count)
    leader = jax.ops.segment_min(candidates, own, count)
    return jnp.where(number == leader[own], values.T, -jnp.inf).T
