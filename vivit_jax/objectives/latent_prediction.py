"""V-JEPA: predict the features of what is hidden, not its pixels.

A slowly moving average of the encoder sees the whole clip; the encoder sees what boxes leave over,
and a narrow predictor gives, for every place inside the boxes, what the average made of it. There
is one mask of many small boxes and one of a few large ones, each a pass of its own, and the loss is
the mean over both of the L1 distance to the layer-normalised features.

Sources: Bardes et al. 2024 (V-JEPA); Assran et al. 2025 (V-JEPA 2).
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vivit_jax.errors import InputError
from vivit_jax.models.costs import (
    Costs,
    Count,
    multiply_accumulates,
)
from vivit_jax.models.layers import Features, take
from vivit_jax.models.positions import POSITIONS
from vivit_jax.models.predictor import Predictor, check_sizes
from vivit_jax.models.video_transformer import VideoTransformer, normalise
from vivit_jax.objectives.base import Outcome
from vivit_jax.objectives.masking import OF_TUBES, Blocks, Mask, check_arrangement

TARGET_EPS = 1e-5


class LatentPrediction(nn.Module):
    """Learns to predict an average encoder's features.

    Attributes:
      encoder: see models/video_transformer.py.
      blocks: boxes of each mask.
      block_scales: share of the picture that each box of a mask covers.
      block_aspect: smallest and largest height over width.
      predictor_width: of its tokens.
      predictor_depth: blocks.
      predictor_heads: of attention.
      predictor_mlp_dim: hidden width of its MLPs; 0 for four times its width.
      predictor_positions: a row of positions.POSITIONS.
      shared_mask_token: one mask token for all masks, as V-JEPA 2's code has it; else one for each.
      mask_tokens: how many the predictor has, of which the first are used: V-JEPA 2's published
        weights have more than masks; 0 for as many as are used.

    Raises:
      InputError: a field's value is impossible, or the encoder cannot be trained so.
    """

    target = "average"  # of the weights, which train_step keeps

    encoder: VideoTransformer
    blocks: tuple[int, ...] = (8, 2)
    block_scales: tuple[float, ...] = (0.15, 0.7)
    block_aspect: tuple[float, float] = (0.75, 1.5)
    predictor_width: int = 384
    predictor_depth: int = 12
    predictor_heads: int = 12
    predictor_mlp_dim: int = 0
    predictor_positions: str = "sincos_3d"
    shared_mask_token: bool = False
    mask_tokens: int = 0

    def __post_init__(self) -> None:
        """Refuses what cannot be built, before anything is."""
        check(self)
        super().__post_init__()

    @nn.nowrap
    def check_clip(self, frames: int, height: int, width: int) -> None:
        """Refuses a clip that cannot be masked so.

        Raises:
          InputError: names the field.
        """
        for rule in self.rules():
            rule.counts(self.encoder.grid(frames, height, width))

    @nn.nowrap
    def rules(self) -> list[Blocks]:
        """Returns the masks' rules."""
        pairs = zip(self.blocks, self.block_scales, strict=True)
        return [Blocks(count, scale, self.block_aspect) for count, scale in pairs]

    @property
    def used_mask_tokens(self) -> int:
        """How many mask tokens the masks share."""
        return 1 if self.shared_mask_token else len(self.blocks)

    @nn.nowrap
    def costs(self, frames: int, image_size: int, learnt: Collection[str] | None = None) -> Costs:
        """Returns the multiply-accumulates of one clip through all masks, and the average.

        Args:
          frames: of the clip.
          image_size: its height and width, pixels.
          learnt: paths of the parameters that are learnt; None for all.
        """
        encoder, predictor = self.encoder, self.make_predictor()
        axes = encoder.grid(frames, image_size, image_size)
        count = Count(learnt)
        for rule in self.rules():
            visible, masked = (axes[0] * places for places in rule.counts(axes))
            flows = count.encoder(encoder, frames, image_size, visible)
            count.predictor(predictor, encoder.dims.width, visible, masked, flows, "predictor")
        return count.costs(fixed=multiply_accumulates(encoder, frames, image_size))

    def setup(self) -> None:
        """Makes the predictor."""
        self.predictor = self.make_predictor()

    @nn.nowrap
    def make_predictor(self) -> Predictor:
        """Returns the predictor, which takes what it can from the encoder's fields."""
        encoder = self.encoder
        return Predictor(
            width=self.predictor_width,
            depth=self.predictor_depth,
            heads=self.predictor_heads,
            out=encoder.dims.width,
            positions=self.predictor_positions,
            mlp_dim=self.predictor_mlp_dim,
            mask_tokens=self.mask_tokens or self.used_mask_tokens,
            mask_init=nn.initializers.zeros,
            gelu=encoder.gelu,
            norm_eps=encoder.norm_eps,
            kernel_init=encoder.kernel_init,
            dtype=encoder.dtype,
            attention_kernel=encoder.attention_kernel,
            remat=encoder.remat,
            scan=encoder.scan,
        )

    def __call__(
        self, batch: Mapping[str, Array], target: Any = None, *, train: bool = False
    ) -> Outcome:
        """Returns the loss of each example of a batch; needs the "mask" stream.

        Args:
          batch: with "video".
          target: parameters of the average encoder; None for the encoder's own.
          train: whether to drop anything.
        """
        video = normalise(batch["video"], self.encoder.mean, self.encoder.std)
        axes = self.encoder.grid(*video.shape[1:4])
        keys = jax.random.split(self.make_rng("mask"), len(self.blocks))
        drawn = [rule.draw(k, len(video), axes) for rule, k in zip(self.rules(), keys, strict=True)]
        if target is None:
            target = {} if self.is_initializing() else self.encoder.variables["params"]
        return Outcome(self.losses(video, drawn, target, train=train), {})

    def losses(
        self,
        video: Float[Array, "B T H W 3"],
        drawn: list[Mask],
        target: Any,
        *,
        train: bool = False,
    ) -> Float[Array, " B"]:
        """Returns the mean L1 distance of each clip, for masks that are given."""
        axes = self.encoder.grid(*video.shape[1:4])
        predicted = []
        for i, mask in enumerate(drawn):
            tokens = self.encoder(video, mask.visible, train=train).tokens
            token = 0 if self.shared_mask_token else i
            predicted.append(self.predictor(tokens, mask.visible, mask.masked, axes, token))
        if not target:  # while parameters are made
            return jnp.zeros(len(video))
        wanted = self.targets(video, target)
        errors = [
            jnp.abs(x - take(wanted, mask.masked)).mean(axis=(1, 2))
            for x, mask in zip(predicted, drawn, strict=True)
        ]
        return jnp.stack(errors).mean(axis=0)

    @nn.nowrap
    def targets(self, video: Float[Array, "B T H W 3"], params: Any) -> Float[Array, "B N D"]:
        """Returns the layer-normalised features of whole clips; no gradient flows through."""
        every = self.encoder.every_place(*video.shape[:4])
        average = self.encoder.clone(parent=None)
        features = cast(Features, average.apply({"params": params}, video, every))
        tokens = jax.lax.stop_gradient(features.tokens)
        return jax.nn.standardize(tokens, axis=2, epsilon=TARGET_EPS)


def check(objective: LatentPrediction) -> None:
    """Refuses fields that are impossible, alone or together.

    Raises:
      InputError: names the field, its value, and what would do.
    """
    if objective.predictor_positions not in POSITIONS:
        raise InputError(
            f"objective.predictor_positions = {objective.predictor_positions!r} is none of "
            f"{', '.join(POSITIONS)}."
        )
    if not objective.blocks or len(objective.blocks) != len(objective.block_scales):
        raise InputError(
            f"objective.blocks = {objective.blocks} and objective.block_scales = "
            f"{objective.block_scales}; expected as many of each, one a mask."
        )
    if min(objective.blocks) < 1:
        raise InputError(f"objective.blocks = {objective.blocks}: each is at least 1.")
    if not all(0 < scale < 1 for scale in objective.block_scales):
        raise InputError(
            f"objective.block_scales = {objective.block_scales}: each is above 0 and below 1."
        )
    low, high = objective.block_aspect
    if not 0 < low <= high:
        raise InputError(
            f"objective.block_aspect = {objective.block_aspect}; expected two numbers above 0, the "
            "smallest first."
        )
    if objective.predictor_mlp_dim < 0:
        raise InputError(f"objective.predictor_mlp_dim = {objective.predictor_mlp_dim} is below 0.")
    if objective.mask_tokens and objective.mask_tokens < objective.used_mask_tokens:
        raise InputError(
            f"objective.mask_tokens = {objective.mask_tokens} are fewer than the masks use, "
            f"{objective.used_mask_tokens}: give at least as many, or 0."
        )
    sizes = (objective.predictor_width, objective.predictor_depth, objective.predictor_heads)
    check_sizes("predictor", *sizes, objective.encoder.dims.width)
    check_arrangement(objective.encoder, OF_TUBES)
