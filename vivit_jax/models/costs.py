"""What a step costs: multiply-accumulates of its matrix products, by arithmetic.

The papers' "FLOPs" are those of the forward pass, for one view: patch embedding, dense layers,
attention scores and weighted values, head; not norms, softmax, activations or additions. Counting
from the fields, and not from a compiled program, stays right under scan, remat, masks and kernels
that no compiler looks into.

The backward pass takes one product for the gradient of each factor that needs one: a kernel's if it
is learnt, the other's if anything learnt lies below it. So nothing below the lowest learnt layer is
differentiated, and a frozen layer above it takes one product where a learnt one takes two.
"""

import math
from collections.abc import Collection
from typing import NamedTuple

import flax.linen as nn

from vivit_jax.models.attention import STEPS
from vivit_jax.models.attentive_pooler import AttentivePooler
from vivit_jax.models.predictor import Predictor
from vivit_jax.models.video_transformer import BY_SLOT, VideoTransformer


class Costs(NamedTuple):
    """Multiply-accumulates of one clip in training.

    Attributes:
      forward: of the forward pass, with that of a teacher.
      backward: of the backward pass.
      blocks: of forward, what belongs to blocks that are differentiated: remat="full" computes
        nearly all of it again.
      pairs: of blocks, attention's products of queries, keys and values: what remat="dots" computes
        again.
    """

    forward: int
    backward: int = 0
    blocks: int = 0
    pairs: int = 0

    @property
    def step(self) -> int:
        """Of a train step; what is computed again counts for nothing."""
        return self.forward + self.backward

    def again(self, remat: str) -> int:
        """What a row of token_encoder.REMATS computes again."""
        return {"none": 0, "dots": self.pairs, "full": self.blocks}[remat]


class Sizes(NamedTuple):
    """What the products of a block depend on."""

    width: int
    mlp_dim: int
    lora_rank: int = 0
    lora_targets: tuple[str, ...] = ()


class Count:
    """Counts the products of one clip, layer after layer, in the order that they run in.

    A layer is told whether a gradient flows into what it is given, that is whether anything below
    it is learnt, and tells whether one flows into what it gives.
    """

    def __init__(self, learnt: Collection[str] | None = None):
        """Starts at nothing.

        Args:
          learnt: paths of the parameters that are learnt; None for all.
        """
        self._learnt = None
        if learnt is not None:
            parts = [path.split("/") for path in learnt]
            self._learnt = {"/".join(p[:i]) for p in parts for i in range(1, len(p) + 1)}
        self.forward = self.backward = self.blocks = self.pairs = 0

    def costs(self, fixed: int = 0) -> Costs:
        """Returns what was counted, and a forward pass besides that nothing is learnt by."""
        return Costs(self.forward + fixed, self.backward, self.blocks, self.pairs)

    def learns(self, path: str) -> bool:
        """Returns whether a parameter at or below a path is learnt."""
        return self._learnt is None or path in self._learnt

    def product(self, macs: int, *flows: bool) -> bool:
        """Counts a product of arrays, and its backward pass into those that a gradient flows to."""
        self.forward += macs
        self.backward += macs * sum(flows)
        return any(flows)

    def dense(
        self, path: str, rows: int, inputs: int, outputs: int, flows: bool, rank: int = 0
    ) -> bool:
        """Counts a dense layer on so many rows, with a low-rank update of its kernel beside it."""
        self.product(rows * inputs * outputs, self.learns(f"{path}/kernel"), flows)
        if rank:
            narrow = self.product(rows * inputs * rank, self.learns(f"{path}/lora_a"), flows)
            self.product(rows * rank * outputs, self.learns(f"{path}/lora_b"), narrow)
        return flows or self.learns(path)

    def block(
        self,
        path: str,
        sizes: Sizes,
        arrangement: str,
        classes: int,
        t: int,
        s: int,
        flows: bool,
        repeats: int = 1,
    ) -> bool:
        """Counts a block on t slots of s tokens and the class token where there is one.

        Args:
          path: of its parameters.
          sizes: of its layers.
          arrangement: a row of attention.STEPS.
          classes: 1 with a class token, else 0.
          t: slots.
          s: tokens in each.
          flows: whether a gradient flows into what it is given.
          repeats: sequences of a clip that it runs on.
        """
        before, pairs = self.forward, 0
        width, mlp_dim, rank, targets = sizes
        for i, step in enumerate(STEPS[arrangement]):
            taking_part = 0 if step.patches_only else classes
            rows = repeats * (taking_part + t * s)
            name = f"{path}/attention_{i}"
            given = flows or self.learns(f"{path}/attention_norm_{i}")

            def dense(target: str, flows: bool, rows: int = rows, name: str = name) -> bool:
                of = rank if target in targets else 0
                return self.dense(f"{name}/{target}", rows, width, width, flows, of)

            q, k, v = (dense(target, given) for target in ("query", "key", "value"))
            macs = repeats * round(step.pairs(taking_part, t, s) * width)
            weights = self.product(macs, q, k)
            y = dense("out", self.product(macs, weights, v))
            if step.zero_dense:
                y = self.dense(f"{path}/zero_dense", rows, width, width, y)
            flows, pairs = flows or y, pairs + 2 * macs
        rows = repeats * (classes + t * s)
        y = self.dense(
            f"{path}/mlp_in", rows, width, mlp_dim, flows or self.learns(f"{path}/mlp_norm")
        )
        flows = self.dense(f"{path}/mlp_out", rows, mlp_dim, width, y) or flows
        if flows:
            self.blocks, self.pairs = self.blocks + self.forward - before, self.pairs + pairs
        return flows

    def encoder(
        self,
        encoder: nn.Module,
        frames: int,
        image_size: int,
        visible: int | None = None,
        path: str = "encoder",
    ) -> bool:
        """Counts an encoder, which but for a VideoTransformer tells its products itself.

        Args:
          encoder: which.
          frames: of the clip.
          image_size: its height and width, pixels.
          visible: tokens that it sees, as many in every slot; None for all.
          path: of its parameters.
        """
        if not isinstance(encoder, VideoTransformer):
            return encoder.count(self, frames, image_size, path)  # type: ignore[attr-defined]
        width, depth, _, mlp_dim = encoder.dims
        sizes = Sizes(width, mlp_dim, encoder.lora_rank, encoder.lora_targets)
        classes = int(encoder.class_token)
        t, rows, columns = encoder.grid(frames, image_size, image_size)
        tokens = t * rows * columns if visible is None else visible
        values = math.prod(encoder.tubelet) * encoder.channels
        flows = self.dense(f"{path}/tubelets", tokens, values, width, flows=False)

        def stack(name: str, depth: int, arrangement: str, t: int, s: int, repeats: int = 1):
            nonlocal flows
            flows |= any(self.learns(f"{path}/{name}/{own}") for own in _BELOW_BLOCKS)
            for i in range(depth):
                at = f"{path}/{name}/block_{i}"
                flows = self.block(at, sizes, arrangement, classes, t, s, flows, repeats)
            flows |= self.learns(f"{path}/{name}")

        s = tokens // t
        if encoder.attention == "joint":
            stack("blocks", depth, "joint", 1, tokens)
        elif encoder.attention not in BY_SLOT:
            stack("blocks", depth, encoder.attention, t, s)
        elif encoder.attention == "space_only":
            stack("blocks", depth, "joint", 1, s, repeats=t)
        else:
            stack("space", depth, "joint", 1, s, repeats=t)
            by_place = encoder.attention == "factorised_encoder_by_place"
            if encoder.adapter and not by_place:
                for name, sides in (("down", (width, encoder.adapter)), ("up", None)):
                    inputs, outputs = sides or (encoder.adapter, width)
                    flows = self.dense(f"{path}/adapter/{name}", t, inputs, outputs, flows)
            stack("time", encoder.temporal_depth, "joint", t, 1, repeats=s if by_place else 1)
        return flows

    def predictor(
        self,
        predictor: Predictor,
        width: int,
        visible: int,
        masked: int,
        flows: bool,
        path: str,
    ) -> bool:
        """Counts a predictor or decoder.

        Args:
          predictor: which.
          width: of the encoder's tokens.
          visible: how many there are.
          masked: places to predict.
          flows: whether a gradient flows into them.
          path: of its parameters.
        """
        d = predictor.width
        flows = self.dense(f"{path}/embed", visible, width, d, flows)
        flows |= self.learns(f"{path}/mask_tokens")
        flows |= any(self.learns(f"{path}/blocks/{own}") for own in _BELOW_BLOCKS)
        tokens = int(predictor.class_token) + visible + masked
        sizes = Sizes(d, predictor.mlp_dim or 4 * d)
        for i in range(predictor.depth):
            flows = self.block(f"{path}/blocks/block_{i}", sizes, "joint", 0, 1, tokens, flows)
        flows |= self.learns(f"{path}/blocks")
        return self.dense(f"{path}/out", masked, d, predictor.out, flows)

    def pooler(
        self, pooler: AttentivePooler, width: int, tokens: int, flows: bool, path: str
    ) -> bool:
        """Counts an attentive pooler; no key or value is made.

        Args:
          pooler: which.
          width: of the encoder's tokens.
          tokens: how many there are.
          flows: whether a gradient flows into them.
          path: of its parameters.
        """
        sizes = Sizes(width, pooler.mlp_dim or 4 * width)
        for i in range(pooler.depth):
            flows = self.block(f"{path}/block_{i}", sizes, "joint", 0, 1, tokens, flows)
        name = f"{path}/attention"
        q = self.dense(f"{name}/query", 1, width, width, self.learns(f"{path}/query_token"))
        wanted = self.product(width**2, self.learns(f"{name}/key_kernel"), q)
        wanted |= self.learns(f"{name}/norm_scale")
        pairs = tokens * pooler.heads * width
        found = self.product(pairs, self.product(pairs, flows, wanted), flows)
        found |= self.learns(f"{name}/norm_scale") or self.learns(f"{name}/norm_bias")
        y = self.product(width**2, found, self.learns(f"{name}/value_kernel"))
        flows = y or self.learns(f"{path}/query_token") or self.learns(name)
        y = self.dense(
            f"{path}/mlp_in", 1, width, sizes.mlp_dim, flows or self.learns(f"{path}/mlp_norm")
        )
        return self.dense(f"{path}/mlp_out", 1, sizes.mlp_dim, width, y) or flows


_BELOW_BLOCKS = ("class_token", "position", "position_time", "position_space")


def multiply_accumulates(
    encoder: nn.Module, frames: int, image_size: int, num_classes: int = 0
) -> int:
    """Returns the multiply-accumulates of one clip's forward pass, with a linear head if wanted."""
    count = Count()
    count.encoder(encoder, frames, image_size)
    return count.forward + encoder.dims.width * num_classes  # type: ignore[attr-defined]
