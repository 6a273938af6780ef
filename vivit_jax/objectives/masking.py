"""Which tokens a masked objective hides: every rule hides a number that is known beforehand.

A rule returns the places of the visible and of the masked tokens, each rising, in raster order over
(slots, rows, columns); all shapes are static, whatever is drawn. Legend: B clips, t slots of S
places, N = t * S tokens, V visible and M masked ones.

Sources: Tong et al. 2022 (tube), Feichtenhofer et al. 2022 (random), Wang et al. 2023 (running
cell), Bardes et al. 2024 (blocks).
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from vivit_jax.errors import InputError
from vivit_jax.models.attention import ARRANGEMENTS
from vivit_jax.models.positions import Axes
from vivit_jax.models.video_transformer import VideoTransformer


class Mask(NamedTuple):
    """Places of the tokens that the encoder sees, and of those that it does not."""

    visible: Int[Array, "B V"]
    masked: Int[Array, "B M"]


def tube(key: Key[Array, ""], clips: int, axes: Axes, ratio: float) -> Mask:
    """Hides the same places in every slot: int(ratio * S) of them."""
    places = axes[1] * axes[2]
    hidden = hidden_of(places, ratio)
    return over_time(_split(jax.random.uniform(key, (clips, places)), places - hidden), axes)


def slots(key: Key[Array, ""], clips: int, axes: Axes, ratio: float) -> Mask:
    """Hides places drawn anew for every slot: int(ratio * S) of each."""
    t, places = axes[0], axes[1] * axes[2]
    hidden = hidden_of(places, ratio)
    drawn = _split(jax.random.uniform(key, (clips * t, places)), places - hidden)
    first = places * jnp.arange(t)[None, :, None]
    return Mask(*((x.reshape(clips, t, -1) + first).reshape(clips, -1) for x in drawn))


def random(key: Key[Array, ""], clips: int, axes: Axes, ratio: float) -> Mask:
    """Hides tokens wherever they are; int((1 - ratio) * N) stay visible."""
    tokens = math.prod(axes)
    return _split(jax.random.uniform(key, (clips, tokens)), tokens - hidden_of(tokens, ratio, True))


class Rule(NamedTuple):
    """A mask of masked_pixels, and the arrangements of attention that can do with it."""

    draw: Callable[[Key[Array, ""], int, Axes, float], Mask]
    arrangements: tuple[str, ...]


# The same places in every slot: a regular grid.
OF_TUBES = (*ARRANGEMENTS, "factorised_encoder", "factorised_encoder_by_place")
RULES = {
    "tube": Rule(tube, OF_TUBES),
    "slots": Rule(slots, ("joint", "factorised_encoder")),  # as many in every slot
    "random": Rule(random, ("joint",)),
}


def check_arrangement(encoder: nn.Module, arrangements: Sequence[str]) -> None:
    """Refuses an encoder that cannot be trained on visible tokens alone.

    Args:
      encoder: whose.
      arrangements: of attention that the mask suits.

    Raises:
      InputError: names the field.
    """
    if not isinstance(encoder, VideoTransformer):
        raise InputError(
            "config.model.name: an encoder that sees frame after frame cannot be pretrained by "
            "masking, which hides places from it: use 'video_transformer'."
        )
    if encoder.attention == "space_only":
        raise InputError(
            "model.attention = 'space_only' takes the mean over time before its tokens come out, "
            "and so cannot be pretrained by masking: choose another arrangement."
        )
    if encoder.attention not in arrangements:
        raise InputError(
            f"model.attention = {encoder.attention!r} cannot be pretrained with a mask that leaves "
            "each slot other places: choose objective.mask = 'tube', or model.attention = "
            f"{' or '.join(map(repr, arrangements))}."
        )
    if encoder.norm_summary:
        raise InputError(
            "model.norm_summary = True leaves tokens without a closing norm, and is for "
            "fine-tuning: pretrain with False."
        )


def hidden_of(tokens: int, ratio: float, visible_rounded_down: bool = False) -> int:
    """Returns how many of some tokens a ratio hides.

    VideoMAE rounds the hidden down, MAE-ST the visible.

    Raises:
      InputError: all of them, or none.
    """
    hidden = tokens - int(tokens * (1 - ratio)) if visible_rounded_down else int(ratio * tokens)
    if not 0 < hidden < tokens:
        raise InputError(
            f"objective.mask_ratio = {ratio} hides {hidden} of {tokens} tokens; some must stay "
            "visible, and some be hidden."
        )
    return hidden


def over_time(mask: Mask, axes: Axes) -> Mask:
    """Returns the mask of one slot's places in every slot."""
    places = axes[1] * axes[2]
    slots = jnp.arange(axes[0])[None, :, None] * places
    return Mask(*((slots + x[:, None]).reshape(len(x), -1) for x in mask))


def running_cell(
    key: Key[Array, ""], clips: int, axes: Axes, ratio: float = 0.5
) -> Int[Array, "B M"]:
    """Returns the places that VideoMAE v2 decodes: 1 - ratio of all.

    Each slot is tiled by a cell of 2 x 2 places, whose pattern moves on by one from slot to slot,
    from a start that is drawn for each clip.

    Raises:
      InputError: the grid cannot be tiled, or the ratio is no number of quarters.
    """
    hidden = check_cells(axes, ratio)
    cell = np.arange(4)[None] + np.arange(4)[:, None]  # a row for each place in the queue
    decoded = (cell % 4 >= hidden).reshape(4, 2, 2)
    slots = (np.arange(4)[:, None] + 1 + np.arange(axes[0])) % 4
    maps = np.tile(decoded[slots], (1, 1, axes[1] // 2, axes[2] // 2)).reshape(4, -1)
    places = np.stack([np.flatnonzero(row) for row in maps])
    return jnp.asarray(places, jnp.int32)[jax.random.randint(key, (clips,), 0, 4)]


def check_cells(axes: Axes, ratio: float) -> int:
    """Returns how many places of a cell are hidden."""
    if axes[1] % 2 or axes[2] % 2:
        raise InputError(
            f"objective.decoder_mask_ratio = {ratio} tiles each slot with cells of 2 x 2 places, "
            f"and a slot has {axes[1]} x {axes[2]}: choose a data.image_size that makes both even, "
            "or 0 for no decoder mask."
        )
    if ratio not in (0.25, 0.5, 0.75):
        raise InputError(
            f"objective.decoder_mask_ratio = {ratio}; expected 0.25, 0.5 or 0.75: cells have four "
            "places."
        )
    return int(4 * ratio)


@dataclasses.dataclass(frozen=True)
class Blocks:
    """V-JEPA's blocks: boxes of places, over all slots, whose union is to be predicted.

    Attributes:
      count: boxes of a clip.
      scale: share of a slot's places that one box covers.
      aspect: smallest and largest height over width.
    """

    count: int
    scale: float
    aspect: tuple[float, float] = (0.75, 1.5)

    def draw(self, key: Key[Array, ""], clips: int, axes: Axes) -> Mask:
        """Returns masks, the size of the boxes drawn once for all clips, their places for each.

        How much the union covers is another number for every clip. V-JEPA cuts all of a batch to
        its smallest, keeping the first tokens; here the numbers are those of `counts`, and which
        places go is drawn, so shapes are static and no slot is favoured. Where a clip has fewer
        places outside its boxes than the number, some at random inside make up for it.
        """
        size_key, place_key, cut_key = jax.random.split(key, 3)
        _, rows, columns = axes
        aspect = jax.random.uniform(size_key, (), minval=self.aspect[0], maxval=self.aspect[1])
        height, width = self._sides(aspect, rows, columns, jnp)
        spare = jnp.stack([rows - height + 1, columns - width + 1]).astype(jnp.float32)
        start = jax.random.uniform(place_key, (clips, self.count, 2)) * spare[None, None]
        start = jnp.floor(start).astype(jnp.int32)
        hidden = _union(start, height, width, rows, columns, jnp)
        visible, masked = self.counts(axes)
        noise = jax.random.uniform(cut_key, hidden.shape)
        order = jnp.argsort(noise + hidden, axis=1)  # the visible first, each part shuffled
        parts = order[:, :visible], order[:, order.shape[1] - masked :]
        return over_time(Mask(*(jnp.sort(x, axis=1) for x in parts)), axes)

    def counts(self, axes: Axes) -> tuple[int, int]:
        """Returns how many places of a slot are visible, and how many predicted.

        Raises:
          InputError: the grid is too small for both.
        """
        counts = _counts(self, axes[1], axes[2])
        if not min(counts):
            raise InputError(
                f"objective.blocks: {self.count} of {self.scale:g} of the picture leave "
                f"{counts[0]} visible and {counts[1]} masked of {axes[1]} x {axes[2]} places; "
                "choose a larger data.image_size, or fewer or smaller blocks."
            )
        return counts

    def _sides(self, aspect, rows: int, columns: int, xp):
        area = int(rows * columns * self.scale)
        sides = xp.rint(xp.sqrt(area * aspect)), xp.rint(xp.sqrt(area / aspect))
        height, width = (xp.maximum(side, 1) for side in sides)
        height, width = xp.minimum(height, rows), xp.minimum(width, columns)
        return height.astype(xp.int32), width.astype(xp.int32)


_DRAWS, _SMALLEST = 2000, 24  # of which V-JEPA takes the smallest: the batch of one of its GPUs


@functools.lru_cache
def _counts(blocks: Blocks, rows: int, columns: int) -> tuple[int, int]:
    """Returns the mean over batches of _SMALLEST draws of their smallest numbers of places."""
    rng = np.random.default_rng(0)
    lowest = []
    for _ in range(_DRAWS // _SMALLEST):
        height, width = blocks._sides(rng.uniform(*blocks.aspect), rows, columns, np)
        room = np.array([rows - height + 1, columns - width + 1])
        start = rng.integers(0, room, (_SMALLEST, blocks.count, 2))
        hidden = _union(start, height, width, rows, columns, np).sum(axis=1)
        lowest.append((rows * columns - hidden.max(), hidden.min()))
    visible, masked = np.mean(lowest, axis=0)
    return int(visible), int(masked)


def _union(start, height, width, rows: int, columns: int, xp):
    """Returns which places are in any box, bool [B S]; `start` is [B boxes 2]."""
    row, column = xp.arange(rows)[None, None], xp.arange(columns)[None, None]
    top, left = start[..., :1], start[..., 1:]
    in_rows = (row >= top) & (row < top + height)
    in_columns = (column >= left) & (column < left + width)
    inside = in_rows[..., :, None] & in_columns[..., None, :]
    return inside.any(axis=1).reshape(len(start), rows * columns)


def _split(noise: Float[Array, "B N"], visible: int) -> Mask:
    """Returns the tokens of the lowest noise as visible, the others as masked."""
    order = jnp.argsort(noise, axis=1).astype(jnp.int32)
    return Mask(jnp.sort(order[:, :visible], axis=1), jnp.sort(order[:, visible:], axis=1))
