"""Supervised recognition: a linear head on the encoder's summary, or on what a pooler gathers.

One label a video, any number of them, or one for each of several heads (EPIC-Kitchens' noun and
verb): one Dense layer whatever the heads, its logits laid end to end. As in ViViT's reference, the
head starts at zero and the loss of several heads is the mean of theirs. V-JEPA classifies by an
attentive pooler on the tokens of every place; see models/attentive_pooler.py.
"""

from collections.abc import Collection, Mapping
from itertools import accumulate
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from vivit_jax.errors import InputError
from vivit_jax.models.attentive_pooler import AttentivePooler
from vivit_jax.models.costs import Costs, Count
from vivit_jax.models.video_transformer import normalise
from vivit_jax.objectives.base import Outcome
from vivit_jax.objectives.mixup import mix
from vivit_jax.options import choose

POOLINGS = ("summary", "attentive")


class Classify(nn.Module):
    """Learns the labels of videos.

    Attributes:
      encoder: see models/video_transformer.py.
      class_splits: number of classes of each head; known from the label maps.
      multi_label: a video has any number of labels; known from data.labels.
      label_smoothing: share of the probability that is spread over all classes.
      mixup: alpha of mixup's Beta distribution; 0 for none.
      cutmix: alpha of CutMix's; where both are on, each batch takes one of them.
      head_dropout: of what the head sees.
      head_bias: what the head's biases start from.
      pooling: what the head sees: the encoder's "summary", or all its tokens through a pooler of
        the head's own, "attentive" (V-JEPA).
      pooler_depth: blocks of self-attention before the one that pools (V-JEPA 2's has 3).
      pooler_heads: of attention; 0 for the encoder's.
      pooler_norm_eps: of every layer norm of the pooler.
      pooler_key_bias: whether its keys have a bias, which softmax takes out again.

    Raises:
      InputError: a field's value is impossible.
    """

    encoder: nn.Module
    class_splits: tuple[int, ...]
    multi_label: bool = False
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    head_dropout: float = 0.0
    head_bias: float = 0.0
    pooling: str = "summary"
    pooler_depth: int = 0
    pooler_heads: int = 0
    pooler_norm_eps: float = 1e-5
    pooler_key_bias: bool = False

    def __post_init__(self) -> None:
        """Refuses what cannot be built, before anything is."""
        check(self)
        super().__post_init__()

    def setup(self) -> None:
        """Makes the head, and the pooler where there is one."""
        if self.pooling == "attentive":
            self.pooler = self.make_pooler()
        self.dropout = nn.Dropout(self.head_dropout)
        self.head = nn.Dense(
            sum(self.class_splits),
            kernel_init=nn.initializers.zeros,
            bias_init=nn.initializers.constant(self.head_bias),
        )

    def __call__(self, batch: Mapping[str, Array], *, train: bool = False) -> Outcome:
        """Returns the loss of each example of a batch, and whether it is recognised.

        Args:
          batch: with "label": int [B], or [B heads] for several heads, or float [B K], multi-hot.
          train: whether to drop, smooth and mix anything.
        """
        video, targets, valid = batch["video"], self.targets(batch["label"]), batch["valid"]
        if train and (self.mixup or self.cutmix):
            video, targets = mix(
                normalise(video, self.encoder.mean, self.encoder.std),
                targets,
                valid,
                self.make_rng("mix"),
                mixup_alpha=self.mixup,
                cutmix_alpha=self.cutmix,
            )
        logits = self.logits(video, train)
        losses = self.losses(logits, targets, self.label_smoothing if train else 0.0)
        return Outcome(losses, {} if self.multi_label else {"top1": self.right(logits, targets)})

    @nn.nowrap
    def costs(self, frames: int, image_size: int, learnt: Collection[str] | None = None) -> Costs:
        """Returns the multiply-accumulates of one clip, where these parameters are learnt."""
        encoder: Any = self.encoder
        count = Count(learnt)
        flows = count.encoder(encoder, frames, image_size)
        if self.pooling == "attentive":
            slots, rows, columns = encoder.grid(frames, image_size, image_size)
            tokens = rows * columns * (1 if encoder.attention == "space_only" else slots)
            flows = count.pooler(self.make_pooler(), encoder.dims.width, tokens, flows, "pooler")
        count.dense("head", 1, encoder.dims.width, sum(self.class_splits), flows)
        return count.costs()

    @nn.nowrap
    def make_pooler(self) -> AttentivePooler:
        """Returns the pooler."""
        encoder: Any = self.encoder
        return AttentivePooler(
            heads=self.pooler_heads or encoder.dims.heads,
            depth=self.pooler_depth,
            norm_eps=self.pooler_norm_eps,
            key_bias=self.pooler_key_bias,
        )

    def predict(self, batch: Mapping[str, Array]) -> Float[Array, "B K"]:
        """Returns the logits of a batch's clips, head after head."""
        return self.logits(batch["video"], train=False)

    def logits(self, video: Array, train: bool) -> Float[Array, "B K"]:
        """Returns the logits of clips, in float32."""
        return self.head(self.dropout(self.pooled(video, train), deterministic=not train))

    def pooled(self, video: Array, train: bool) -> Float[Array, "B D"]:
        """Returns what the head sees of each clip."""
        if self.pooling == "summary":
            return self.encoder(video, train=train).summary
        encoder: Any = self.encoder
        return self.pooler(
            encoder(video, encoder.every_place(*video.shape[:4]), train=train).tokens
        )

    @nn.nowrap
    def targets(self, label: Array) -> Float[Array, "B K"]:
        """Returns a probability for each class, head after head, or the multi-hot labels."""
        if self.multi_label:
            return label.astype(jnp.float32)
        columns: Int[Array, "B heads"] = label.reshape(len(label), len(self.class_splits))
        hot = [jax.nn.one_hot(columns[:, i], k) for i, k in enumerate(self.class_splits)]
        return jnp.concatenate(hot, axis=1)

    @nn.nowrap
    def losses(
        self, logits: Float[Array, "B K"], targets: Float[Array, "B K"], smoothing: float
    ) -> Float[Array, " B"]:
        """Returns each example's cross-entropy, with a sigmoid or a softmax for each head."""
        if self.multi_label:
            targets = (1 - smoothing) * targets + smoothing / 2
            return optax.sigmoid_binary_cross_entropy(logits, targets).mean(axis=1)
        heads = zip(self.by_head(logits), self.by_head(targets), strict=True)
        losses = [
            optax.softmax_cross_entropy(x, optax.smooth_labels(y, smoothing)) for x, y in heads
        ]
        return jnp.stack(losses).mean(axis=0)

    @nn.nowrap
    def right(
        self, logits: Float[Array, "B K"], targets: Float[Array, "B K"]
    ) -> Float[Array, " B"]:
        """Returns 1 where every head's highest class is the label's (the larger, where mixed)."""
        heads = zip(self.by_head(logits), self.by_head(targets), strict=True)
        right = [x.argmax(axis=1) == y.argmax(axis=1) for x, y in heads]
        return jnp.stack(right).all(axis=0).astype(jnp.float32)

    @nn.nowrap
    def by_head(self, x: Float[Array, "B K"]) -> list[Float[Array, "B k"]]:
        """Returns the columns of each head."""
        return jnp.split(x, list(accumulate(self.class_splits))[:-1], axis=1)


def check(objective: Classify) -> None:
    """Refuses fields that are impossible, alone or together.

    Raises:
      InputError: names the field, its value, and what would do.
    """
    if not all(objective.class_splits):
        raise InputError(
            "objective.name = 'classify' learns labels, and data.labels = 'none' reads none: "
            "set data.labels = 'single', or choose an objective that needs none, such as "
            "'masked_pixels'."
        )
    for field in ("label_smoothing", "head_dropout"):
        if not 0 <= getattr(objective, field) < 1:
            raise InputError(f"objective.{field} = {getattr(objective, field)} is not in [0, 1).")
    for field in ("mixup", "cutmix", "pooler_depth", "pooler_heads"):
        if getattr(objective, field) < 0:
            raise InputError(f"objective.{field} = {getattr(objective, field)} is below 0.")
    choose("objective.pooling", objective.pooling, POOLINGS)
    if objective.pooling == "summary":
        return
    encoder: Any = objective.encoder
    if encoder.norm_summary:
        raise InputError(
            "objective.pooling = 'attentive' reads the encoder's tokens, which model.norm_summary "
            "= True leaves without a closing norm: use False."
        )
    if objective.pooler_heads and encoder.dims.width % objective.pooler_heads:
        raise InputError(
            f"objective.pooler_heads = {objective.pooler_heads} does not divide the model's width "
            f"of {encoder.dims.width}: each head takes an equal part of it."
        )
