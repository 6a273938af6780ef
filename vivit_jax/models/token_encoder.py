"""The stack that every encoder, decoder and predictor here is: blocks between positions and a norm.

Parameters of the blocks are stored apart, block by block, whether the stack is unrolled or scanned:
a checkpoint does not know how it was compiled.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import reduce
from jaxtyping import Array, Float, Int

from vivit_jax.layout import constrain
from vivit_jax.models.attention import Grid
from vivit_jax.models.layers import Block, Features, Norm
from vivit_jax.models.positions import POSITIONS, Axes, Rotation, rotation_of

REMATS = {  # what the forward pass keeps for the backward
    "none": None,  # everything
    "full": jax.checkpoint_policies.nothing_saveable,  # each block's input
    "dots": jax.checkpoint_policies.save_from_both_policies(  # and its dense layers
        jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
        lambda primitive, *_, **__: primitive is jax.lax.conv_general_dilated_p,
    ),
}


def recomputed(remat: str, transform: Callable, function: Callable) -> Callable:
    """Returns a function that the backward pass recomputes as far as a row of REMATS says.

    Args:
      remat: the row.
      transform: jax.checkpoint, or what stands in for it where parameters are made.
      function: it.
    """
    policy = REMATS[remat]
    return function if policy is None else transform(function, policy=policy)


class TokenEncoder(nn.Module):
    """A class token if wanted, positions, a stack of blocks, a closing norm.

    Attributes:
      block: makes a Block, given its name or parent; knows the rest, "heads" among it.
      depth: number of blocks.
      positions: a row of positions.POSITIONS.
      class_token: a learned token takes part.
      mean: the summary is the mean over the other tokens, and not the class token.
      average_rows: mean over the rows of an example, before the closing norm.
      norm_summary: the closing norm is of the mean over tokens, and not of each of them, as where
        VideoMAE and MAE-ST are fine-tuned.
      norm_eps: of the closing norm.
      dropout: after the positions.
      drop_path: of the last block; it rises linearly from 0 at the first.
      dtype: of the blocks.
      remat: a row of REMATS.
      scan: compile one block, and loop over stacked parameters; they are stored apart anyhow.
      layout: what the rows are to the devices, a row of layout.LAYOUTS.
      norm_offset: added to the stored scale of the closing norm.
    """

    block: partial[Block]
    depth: int
    positions: str
    class_token: bool
    mean: bool
    average_rows: bool
    norm_summary: bool
    norm_eps: float
    dropout: float
    drop_path: float
    dtype: str
    remat: str
    scan: bool
    layout: str = "tokens"
    norm_offset: float = 0.0

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "rows M D"],
        axes: Axes,
        keep: Int[Array, "rows M"] | None = None,
        *,
        examples: int,
        train: bool,
        class_token: Float[Array, "rows D"] | None = None,
    ) -> Features:
        """Encodes tokens in raster order over `axes`, which is (slots, rows, columns).

        Args:
          x: one token a place, or one for each place of `keep`.
          axes: of all places.
          keep: which places the tokens are at; any order. With attention that folds time or space,
            as many in every slot.
          examples: how many clips the rows belong to, as "(examples repeats)".
          train: whether to drop anything.
          class_token: takes part in place of a learned one.
        """
        rows, length, width = x.shape
        classes = int(self.class_token or class_token is not None)
        if classes:
            if class_token is None:
                token = self.param("class_token", nn.initializers.zeros, (1, 1, width))
            else:
                token = class_token[:, None]
            token = jnp.broadcast_to(token, (rows, 1, width)).astype(x.dtype)
            x = jnp.concatenate([token, x], axis=1)
        table = POSITIONS[self.positions](self.param, axes, classes, width)
        rotation = rotation_of(self.positions, axes, classes, width // self.block.keywords["heads"])
        if keep is not None:
            table = at_places(table, keep, classes)
            rotation = rotation and Rotation(*(at_places(y, keep, classes) for y in rotation))
        x = nn.Dropout(self.dropout, deterministic=not train)((x + table).astype(self.dtype))
        x = constrain(x, self.layout)
        grid = (axes[0], length // axes[0])
        x = self.run_blocks(x, grid, rotation, examples=examples, train=train)
        if self.average_rows:
            x = reduce(x, "(b r) n d -> b n d", "mean", b=examples)
        norm = partial(Norm, self.norm_eps, self.norm_offset)
        x = x.astype(jnp.float32) if self.norm_summary else norm(name="norm")(x)
        tokens = x[:, classes:]
        summary = tokens.mean(axis=1) if self.mean else x[:, 0]
        if self.norm_summary:
            summary = norm(name="summary_norm")(summary)
        return Features(tokens=tokens, summary=summary)

    @nn.nowrap
    def run_blocks(
        self,
        x: Float[Array, "rows N D"],
        grid: Grid,
        rotation: Rotation | None,
        *,
        examples: int,
        train: bool,
    ) -> Float[Array, "rows N D"]:
        """Runs the stack, block after block or as one scan."""
        blocks = [self.block(name=f"block_{i}", number=i + 1) for i in range(self.depth)]
        rates = [self.drop_path * i / max(self.depth - 1, 1) for i in range(self.depth)]
        options = {"grid": grid, "rotation": rotation, "examples": examples, "train": train}
        options["layout"] = self.layout
        if self.scan and not self.is_initializing():
            return self.run_scan(x, blocks, rates, options)
        for block, rate in zip(blocks, rates, strict=True):

            def run(block, x, rate=rate):
                return constrain(block(x, drop_rate=rate, **options), self.layout)

            x = recomputed(self.remat, nn.remat, run)(block, x)
        return x

    @nn.nowrap
    def run_scan(
        self,
        x: Float[Array, "rows N D"],
        blocks: list[Block],
        rates: list[float],
        options: dict[str, Any],
    ) -> Float[Array, "rows N D"]:
        """Runs the blocks as one, over their parameters laid along a new first axis."""
        single = self.block(parent=None)
        params = [block.variables["params"] for block in blocks]
        params = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
        dropping = options["train"] and self.has_rng("dropout")
        keys = jax.random.split(self.make_rng("dropout"), self.depth) if dropping else None

        def run(x: Any, step: Any) -> Any:
            params, rate, key = step
            rngs = None if key is None else {"dropout": key}
            rate = rate if self.drop_path else 0.0  # known to be 0: nothing is drawn
            x = single.apply({"params": params}, x, drop_rate=rate, rngs=rngs, **options)
            return constrain(x, self.layout), None

        run = recomputed(self.remat, partial(jax.checkpoint, prevent_cse=False), run)
        return jax.lax.scan(run, x, (params, jnp.asarray(rates), keys))[0]


def at_places(
    table: Float[Array, "1 N D"], keep: Int[Array, "rows M"], classes: int
) -> Float[Array, "rows _ D"]:
    """Returns the rows of a table for the class token, where there is one, and some places."""
    rows = jnp.take(table[0], keep + classes, axis=0)
    front = jnp.broadcast_to(table[:, :classes], (len(keep), classes, table.shape[2]))
    return jnp.concatenate([front, rows], axis=1)
