"""Masked autoencoding of video: VideoMAE, VideoMAE v2 and MAE-ST, each a few fields of one method.

The encoder sees a few tokens of a clip, a narrow decoder predicts the pixels of those it has not
seen, and the loss is the mean squared error there. What differs:

                      VideoMAE            VideoMAE v2             MAE-ST
    mask              "tube"              "tube"                  "random"
    decoder_mask      0                   0.5 (running cell)      0
    target            all frames          all frames              one frame a tubelet
    normalised        each colour apart   each colour apart       all together

Sources: Tong et al. 2022; Wang et al. 2023; Feichtenhofer et al. 2022.
"""

from collections.abc import Collection, Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float, Int, Key, Shaped

from vivit_jax.errors import InputError
from vivit_jax.models.costs import Costs, Count
from vivit_jax.models.layers import take
from vivit_jax.models.positions import POSITIONS, Axes
from vivit_jax.models.predictor import Predictor, check_sizes
from vivit_jax.models.video_transformer import VideoTransformer, normalise
from vivit_jax.objectives.base import Outcome
from vivit_jax.objectives.masking import RULES, Mask, check_arrangement, check_cells, running_cell

NORMALISED = ("colour", "all", "none", "input")
FRAMES = ("all", "linspace", "first", "central")
SEEN = ("all", "input")  # targets are of the clips as the encoder sees them
EPS = 1e-6
KEY = jax.eval_shape(lambda: jax.random.key(0))


class Drawn(NamedTuple):
    """What is drawn for a batch.

    Attributes:
      visible: places of the tokens that the encoder sees.
      decoded: places of the tokens that the decoder predicts.
      counts: 1 where a decoded token was not seen; only those are in the loss.
    """

    visible: Int[Array, "B V"]
    decoded: Int[Array, "B M"]
    counts: Float[Array, "B M"]


class MaskedPixels(nn.Module):
    """Learns to fill in pixels.

    Attributes:
      encoder: see models/video_transformer.py; masking.RULES says which arrangements a mask suits.
      mask: a row of masking.RULES: "tube", "slots" or "random".
      mask_ratio: share of the tokens that are hidden.
      decoder_mask_ratio: share of the tokens that are not decoded, by running cells; 0 for none.
      target_frames: "all" of a tubelet; or one of it, the "first" (as PySlowFast has it), the
        "central" (AV-MAE), or by "linspace" from the clip's first frame to its last (as mae_st has
        it).
      target_normalised: each target token to mean 0 and variance 1: each "colour" apart (VideoMAE),
        "all" its pixels together (MAE-ST), or not: "none" for pixels in [0, 1], and "input" for
        those that the encoder sees (AV-MAE).
      decoder_width: of its tokens.
      decoder_depth: blocks.
      decoder_heads: of attention.
      decoder_mlp_dim: 0 for four times its width.
      decoder_positions: a row of positions.POSITIONS.
      decoder_class_token: whether it has a class token of its own (MAE-ST's own code).
      decoder_keeps_class_token: whether the encoder's goes on in it, mapped as the tokens are
        (PySlowFast's MAE-ST).
      decoder_closing_norm_eps: of its closing norm; 0 for the encoder's norm_eps.
      decoder_embed_bias: whether the map from the encoder's width to its has a bias.

    Raises:
      InputError: a field's value is impossible, or the encoder cannot be trained so.
    """

    encoder: VideoTransformer
    mask: str = "tube"
    mask_ratio: float = 0.9
    decoder_mask_ratio: float = 0.0
    target_frames: str = "all"
    target_normalised: str = "colour"
    decoder_width: int = 384
    decoder_depth: int = 4
    decoder_heads: int = 6
    decoder_mlp_dim: int = 0
    decoder_positions: str = "sincos_1d"
    decoder_class_token: bool = False
    decoder_keeps_class_token: bool = False
    decoder_closing_norm_eps: float = 0.0
    decoder_embed_bias: bool = False

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
        self.counts(self.encoder.grid(frames, height, width))

    @nn.nowrap
    def counts(self, axes: Axes) -> tuple[int, int]:
        """Returns how many tokens of a clip the encoder sees, and how many are decoded."""
        tokens = int(np.prod(axes))
        drawn = jax.eval_shape(
            lambda key: RULES[self.mask].draw(key, 1, axes, self.mask_ratio), KEY
        )
        visible = drawn.visible.shape[1]
        if not self.decoder_mask_ratio:
            return visible, tokens - visible
        return visible, tokens * (4 - check_cells(axes, self.decoder_mask_ratio)) // 4

    @nn.nowrap
    def costs(self, frames: int, image_size: int, learnt: Collection[str] | None = None) -> Costs:
        """Returns the multiply-accumulates of one clip, where these parameters are learnt."""
        encoder, count = self.encoder, Count(learnt)
        visible, masked = self.counts(encoder.grid(frames, image_size, image_size))
        flows = count.encoder(encoder, frames, image_size, visible)
        seen = visible + int(self.decoder_keeps_class_token)
        decoder = self.make_decoder()
        count.predictor(decoder, encoder.dims.width, seen, masked, flows, "decoder")
        return count.costs()

    def setup(self) -> None:
        """Makes the decoder."""
        self.decoder = self.make_decoder()

    @nn.nowrap
    def make_decoder(self) -> Predictor:
        """Returns the decoder, which takes what it can from the encoder's fields."""
        encoder, (_, r, c) = self.encoder, self.encoder.tubelet
        return Predictor(
            width=self.decoder_width,
            depth=self.decoder_depth,
            heads=self.decoder_heads,
            out=self.target_depth * r * c * 3,
            positions=self.decoder_positions,
            embed_bias=self.decoder_embed_bias,
            class_token=self.decoder_class_token,
            mlp_dim=self.decoder_mlp_dim,
            gelu=encoder.gelu,
            norm_eps=encoder.norm_eps,
            closing_norm_eps=self.decoder_closing_norm_eps,
            kernel_init=encoder.kernel_init,
            key_bias=encoder.key_bias,
            dtype=encoder.dtype,
            attention_kernel=encoder.attention_kernel,
            remat=encoder.remat,
            scan=encoder.scan,
        )

    def __call__(self, batch: Mapping[str, Array], *, train: bool = False) -> Outcome:
        """Returns the loss of each example of a batch; needs the "mask" stream.

        Args:
          batch: with "video".
          train: whether to drop anything.
        """
        video = normalise(batch["video"], self.encoder.mean, self.encoder.std)
        drawn = self.draw(self.make_rng("mask"), len(video), self.axes(video))
        return Outcome(self.losses(video, drawn, train=train), {})

    def losses(
        self, video: Float[Array, "B T H W 3"], drawn: Drawn, *, train: bool = False
    ) -> Float[Array, " B"]:
        """Returns the mean squared error of each clip, for masks that are given."""
        errors = self.errors(self.fill_in(video, drawn, train=train), video, drawn)
        # All tokens of a batch weigh the same, however many of a clip's were decoded.
        return errors.sum(axis=1) / drawn.counts.sum(axis=1).mean()

    @nn.nowrap
    def errors(
        self, predicted: Float[Array, "B M P"], video: Float[Array, "B T H W 3"], drawn: Drawn
    ) -> Float[Array, "B M"]:
        """Returns the mean squared error of each decoded token; 0 for those that were seen."""
        wanted = take(self.targets(video), drawn.decoded)
        return jnp.square(predicted - wanted).mean(axis=2) * drawn.counts

    def fill_in(
        self, video: Float[Array, "B T H W 3"], drawn: Drawn, *, train: bool = False
    ) -> Float[Array, "B M P"]:
        """Returns the decoder's predictions at the decoded places, in the units of `targets`."""
        tokens, summary = self.encoder(video, drawn.visible, train=train)
        kept = summary if self.decoder_keeps_class_token else None
        places = (drawn.visible, drawn.decoded)
        return self.decoder(tokens, *places, self.axes(video), class_token=kept)

    @nn.nowrap
    def draw(self, key: Key[Array, ""], clips: int, axes: Axes) -> Drawn:
        """Returns what is hidden from whom, drawn for each clip."""
        mask_key, cell_key = jax.random.split(key)
        mask: Mask = RULES[self.mask].draw(mask_key, clips, axes, self.mask_ratio)
        if not self.decoder_mask_ratio:
            return Drawn(mask.visible, mask.masked, jnp.ones(mask.masked.shape))
        decoded = running_cell(cell_key, clips, axes, self.decoder_mask_ratio)
        unseen = jnp.ones((clips, int(np.prod(axes))))
        unseen = jax.vmap(lambda row, at: row.at[at].set(0))(unseen, mask.visible)
        return Drawn(mask.visible, decoded, jnp.take_along_axis(unseen, decoded, axis=1))

    @nn.nowrap
    def targets(self, video: Float[Array, "B T H W 3"]) -> Float[Array, "B N P"]:
        """Returns what a perfect decoder would predict for every token of normalised clips.

        A token's values are in the order (frame, row, column, colour). MAE-ST's are of the clips
        as the encoder sees them, and AV-MAE's; VideoMAE's of pixels in [0, 1].
        """
        patches = self.patches(video)
        mean, scale = self.moments(patches)
        return rearrange((patches - mean) / scale, "b n p c -> b n (p c)")

    @nn.nowrap
    def pixels(
        self,
        predicted: Float[Array, "B M P"],
        video: Float[Array, "B T H W 3"],
        places: Int[Array, "B M"],
    ) -> Float[Array, "B M p 3"]:
        """Returns predictions at some places as pixels, black 0 and white 1: `targets` undone.

        The mean and the scale, which nothing predicts, are those of the true pixels, as in the
        papers' own pictures.
        """
        mean, scale = (take(x, places) for x in self.moments(self.patches(video)))
        return self.as_pixels(predicted, mean, scale)

    @nn.nowrap
    def as_pixels(
        self,
        predicted: Float[Array, "B M P"],
        mean: Float[Array, "B M 1 3"],
        scale: Float[Array, "B M 1 3"],
    ) -> Float[Array, "B M p 3"]:
        """Returns predictions as pixels, by the moments that their targets are taken to have."""
        pixels = rearrange(predicted, "b m (p c) -> b m p c", c=3) * scale + mean
        seen = self.target_normalised in SEEN
        return denormalise(pixels, self.encoder) if seen else pixels

    @nn.nowrap
    def moments(
        self, patches: Float[Array, "B N P 3"]
    ) -> tuple[Float[Array, "B N 1 3"], Float[Array, "B N 1 3"]]:
        """Returns what is subtracted from the pixels of tokens, and what they are divided by."""
        shape = (*patches.shape[:2], 1, 3)
        if self.target_normalised in ("none", "input"):
            return jnp.zeros(shape), jnp.ones(shape)
        axes = (2,) if self.target_normalised == "colour" else (2, 3)
        mean = patches.mean(axis=axes, keepdims=True)
        variance = patches.var(axis=axes, keepdims=True, ddof=1)
        if self.target_normalised == "colour":
            return mean, jnp.sqrt(variance) + EPS
        scale = jnp.sqrt(variance + EPS)
        return jnp.broadcast_to(mean, shape), jnp.broadcast_to(scale, shape)

    @nn.nowrap
    def patches(self, video: Float[Array, "B T H W 3"]) -> Float[Array, "B N P 3"]:
        """Returns the pixels of every token's target, before they are normalised."""
        if self.target_normalised not in SEEN:
            video = denormalise(video, self.encoder)
        return self.cut(video)

    @nn.nowrap
    def cut(self, video: Shaped[Array, "B T H W c"]) -> Shaped[Array, "B N P c"]:
        """Returns the pixels that are predicted of clips, token by token."""
        _, r, c = self.encoder.tubelet
        video = video[:, self.frames(video.shape[1])]
        patches = "b (t f) (i r) (j c) ch -> b (t i j) (f r c) ch"
        return rearrange(video, patches, f=self.target_depth, r=r, c=c)

    @nn.nowrap
    def paste(
        self, patches: Shaped[Array, "B N P c"], axes: Axes
    ) -> Shaped[Array, "B frames H W c"]:
        """Returns the frames that are predicted, from the pixels of all tokens: `cut` undone."""
        _, r, c = self.encoder.tubelet
        video = "b (t i j) (f r c) ch -> b (t f) (i r) (j c) ch"
        t, i, j = axes
        return rearrange(patches, video, t=t, i=i, j=j, f=self.target_depth, r=r, c=c)

    @property
    def target_depth(self) -> int:
        """Frames of a tubelet that are predicted."""
        return self.encoder.tubelet[0] if self.target_frames == "all" else 1

    @nn.nowrap
    def frames(self, frames: int) -> np.ndarray:
        """Returns the frames of a clip that are predicted."""
        f = self.encoder.tubelet[0]
        if self.target_frames == "all":
            return np.arange(frames)
        if self.target_frames == "first":
            return np.arange(0, frames, f)
        if self.target_frames == "central":
            return np.arange(f // 2, frames, f)
        return np.linspace(0, frames - 1, frames // f, dtype=np.float32).astype(int)

    @nn.nowrap
    def axes(self, video: Float[Array, "B T H W 3"]) -> Axes:
        """Returns (slots, rows, columns) of clips' tokens."""
        return self.encoder.grid(*video.shape[1:4])


def denormalise(x: Float[Array, "... 3"], encoder: nn.Module) -> Float[Array, "... 3"]:
    """Returns what an encoder sees as pixels, black 0 and white 1."""
    shape = (1,) * (x.ndim - 1) + (3,)
    mean, std = (jnp.asarray(y, jnp.float32).reshape(shape) for y in (encoder.mean, encoder.std))
    return x * std + mean


def check(objective: MaskedPixels) -> None:
    """Refuses fields that are impossible, alone or together.

    Raises:
      InputError: names the field, its value, and what would do.
    """
    choices = {
        "mask": tuple(RULES),
        "target_frames": FRAMES,
        "target_normalised": NORMALISED,
        "decoder_positions": tuple(POSITIONS),
    }
    for field, names in choices.items():
        if getattr(objective, field) not in names:
            raise InputError(
                f"objective.{field} = {getattr(objective, field)!r} is none of {', '.join(names)}."
            )
    if objective.decoder_keeps_class_token and objective.encoder.pool != "class_token":
        raise InputError(
            "objective.decoder_keeps_class_token = True needs the encoder's class token, and "
            f"model.pool = {objective.encoder.pool!r}: use 'class_token'."
        )
    if objective.decoder_keeps_class_token and objective.decoder_class_token:
        raise InputError(
            "objective.decoder_keeps_class_token and decoder_class_token are both True; the "
            "decoder has one class token: the encoder's, or its own."
        )
    if objective.mask != "tube" and objective.encoder.difference != "none":
        raise InputError(
            f"model.difference = {objective.encoder.difference!r} tells of the frame before, which "
            f"objective.mask = {objective.mask!r} may hide: use mask = 'tube', or difference = "
            "'none'."
        )
    sizes = (objective.decoder_width, objective.decoder_depth, objective.decoder_heads)
    check_sizes("decoder", *sizes, objective.encoder.dims.width)
    check_arrangement(objective.encoder, RULES[objective.mask].arrangements)
