"""The video transformer: ViViT models 1 to 4, TimeSformer, VideoPrism, and the ViT on tubelets.

One field tells them apart:

    attention=                    is
    "joint"                       ViT on tubelets (VideoMAE, V-JEPA); ViViT model 1
    "factorised_encoder"          ViViT model 2: space within each slot, then time over summaries
    "factorised_encoder_by_place" VideoPrism: space within each slot, then time at each place
    "factorised_self_attention"   ViViT model 3: time, then space, in every block
    "factorised_dot_product"      ViViT model 4: half of the heads time, half space
    "divided"                     TimeSformer: as model 3, and a class token
    "space_only"                  TimeSformer's baseline: each slot apart, then the mean over slots

Axes: B clips, T frames, H x W pixels; after the tubelets t time slots of S tokens, N = t * S,
each of width D.

Masked pretraining gives it the tokens to keep: the others' pixels are not even embedded. Attention
that folds time or space needs a regular grid, so for all arrangements but "joint" a clip keeps the
same places in every slot (tube masks).
"""

from functools import partial
from typing import NamedTuple

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Float, Int, UInt8

from vivit_jax.errors import InputError
from vivit_jax.layout import constrain
from vivit_jax.models import kernels
from vivit_jax.models.attention import ARRANGEMENTS
from vivit_jax.models.filters import channels, check_filter, prepare
from vivit_jax.models.inflate import TUBELET_INITS
from vivit_jax.models.layers import GELUS, KERNEL_INITS, Adapter, Block, Features, Tubelets
from vivit_jax.models.lora import TARGETS, Lora
from vivit_jax.models.positions import POSITIONS, Axes, every_place
from vivit_jax.models.token_encoder import REMATS, TokenEncoder


class Size(NamedTuple):
    """What a letter stands for."""

    width: int
    depth: int
    heads: int
    mlp_dim: int


SIZES = {
    "mu": Size(32, 1, 2, 64),  # for tests
    "Ti": Size(192, 12, 3, 768),
    "S": Size(384, 12, 6, 1536),
    "B": Size(768, 12, 12, 3072),
    "L": Size(1024, 24, 16, 4096),
    "H": Size(1280, 32, 16, 5120),
    "g": Size(1408, 40, 16, 6144),
}
# Joint attention within each time slot.
BY_SLOT = ("factorised_encoder", "factorised_encoder_by_place", "space_only")
CHOICES = {
    "size": tuple(SIZES),
    "attention": (*ARRANGEMENTS, *BY_SLOT),
    "positions": tuple(POSITIONS),
    "pool": ("class_token", "mean", "mean_beside_class_token"),
    "tubelet_init": tuple(TUBELET_INITS),
    "gelu": tuple(GELUS),
    "kernel_init": tuple(KERNEL_INITS),
    "dtype": ("float32", "bfloat16"),
    "attention_kernel": kernels.NAMES,
    "remat": tuple(REMATS),
}


def normalise(
    video: UInt8[Array, "B T H W 3"] | Float[Array, "B T H W 3"],
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
) -> Float[Array, "B T H W 3"]:
    """Returns uint8 pixels as (x / 255 - mean) / std; float pixels are taken as already so."""
    if video.dtype != jnp.uint8:
        return video
    mean_, std_ = (jnp.asarray(x, jnp.float32).reshape(1, 1, 1, 1, 3) for x in (mean, std))
    return (video.astype(jnp.float32) / 255 - mean_) / std_


class VideoTransformer(nn.Module):
    """Encodes a clip into token features and a summary.

    Attributes:
      size: a row of SIZES.
      width: D; 0 for the size's own, as for the next three.
      depth: number of blocks.
      heads: of attention.
      mlp_dim: hidden width of the MLPs.
      tubelet: pixels that one token covers, as (frames, rows, columns).
      attention: see the table above.
      temporal_depth: blocks over time, which only the factorised encoders read; with 0 the summary
        is the mean over slots.
      positions: a row of positions.POSITIONS.
      pool: what the summary is: the "class_token" or the "mean" over tokens; or their mean where a
        class token takes part that is left out of it, "mean_beside_class_token" (MAE-ST).
      dropout: after the positions, after each attention, and twice in each MLP.
      attention_dropout: of attention weights.
      drop_path: probability that an example skips a residual, at the last block; it rises
        linearly from 0 at the first.
      drop_path_rescaled: False for what ViViT's published code does, which scales nothing up for
        what it drops.
      tubelet_init: "lecun_normal", "normal" (V-JEPA), or an inflation: "average" or
        "central_frame".
      gelu: "tanh" (ViViT) or "erf" (TimeSformer, VideoMAE, V-JEPA).
      norm_eps: of every layer norm.
      closing_norm_eps: of the closing norm, where it is another (Hugging Face's VideoMAE); 0 for
        norm_eps.
      norm_summary: the closing norm is of the summary, and not of each token, as where VideoMAE and
        MAE-ST are fine-tuned; tokens are then left as the last block gives them.
      norm_offset: added to the stored scale of every layer norm: 1 where files hold what it differs
        from 1 by (VideoPrism).
      key_bias: whether keys have a bias, which softmax takes out again (VideoMAE's have none).
      logit_cap: what no attention logit goes beyond, by a tanh (VideoPrism's 50); 0 for none.
      kernel_init: what dense layers start from: "xavier_uniform" (ViT, VideoMAE), or "normal" with
        a standard deviation of 0.02, less for what closes a residual (V-JEPA).
      lora_rank: of the updates that kernels of attention have beside them (LoRA), in every block; 0
        for none. Train them alone with optim.freeze=all_but_lora.
      lora_alpha: an update is the product of its two matrices times lora_alpha / lora_rank.
      lora_targets: kernels that have one: any of "query", "key", "value" and "out".
      adapter: width of the bottleneck between space and time of "factorised_encoder", which starts
        as the identity; 0 for none.
      dtype: "float32" or "bfloat16", in which matrices are multiplied.
      attention_kernel: "auto" for the best that the platform has, or a row of kernels.KERNELS.
      remat: what the backward pass recomputes: "none", "full" (everything) or "dots" (all but the
        dense layers).
      scan: compile one block and loop over it, where compiling all of them takes too long.
      mean: of each colour, with which uint8 video is normalised; of [0, 1].
      std: likewise.
      filter: what each frame is smoothed by first: "median" or "gaussian"; "none" for nothing.
      filter_size: rows and columns of the median, 3 or 5.
      filter_sigma: standard deviation of the Gaussian, pixels.
      difference: each frame less the one before it, as three channels that are "appended" to the
        colours or are all that is seen, "only"; "none" for the colours alone.

    Raises:
      InputError: a field's value is none of its choices, or contradicts another's.
    """

    size: str = "B"
    width: int = 0
    depth: int = 0
    heads: int = 0
    mlp_dim: int = 0
    tubelet: tuple[int, int, int] = (2, 16, 16)
    attention: str = "joint"
    temporal_depth: int = 4
    positions: str = "learned"
    pool: str = "class_token"
    dropout: float = 0.0
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    drop_path_rescaled: bool = True
    tubelet_init: str = "lecun_normal"
    gelu: str = "tanh"
    norm_eps: float = 1e-6
    closing_norm_eps: float = 0.0
    norm_summary: bool = False
    norm_offset: float = 0.0
    key_bias: bool = True
    logit_cap: float = 0.0
    kernel_init: str = "xavier_uniform"
    lora_rank: int = 0
    lora_alpha: float = 16.0
    lora_targets: tuple[str, ...] = ("query", "value")
    adapter: int = 0
    dtype: str = "float32"
    attention_kernel: str = "auto"
    remat: str = "none"
    scan: bool = False
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    filter: str = "none"
    filter_size: int = 3
    filter_sigma: float = 1.0
    difference: str = "none"

    def __post_init__(self) -> None:
        """Refuses what cannot be built, before anything is."""
        check(self)
        super().__post_init__()

    @property
    def dims(self) -> Size:
        """The size's numbers, each replaced by the field of its name where that is not 0."""
        return Size(*(getattr(self, k) or v for k, v in SIZES[self.size]._asdict().items()))

    @property
    def class_token(self) -> bool:
        """Whether a class token takes part."""
        return self.pool != "mean"

    @property
    def channels(self) -> int:
        """Numbers of a pixel that the tubelets are cut from."""
        return channels(self.difference)

    @nn.nowrap
    def grid(self, frames: int, height: int, width: int) -> Axes:
        """Returns (time slots, rows, columns) of a clip's tokens.

        Raises:
          InputError: the tubelet does not divide the clip.
        """
        sides = {"frames": frames, "height": height, "width": width}
        for (name, pixels), step in zip(sides.items(), self.tubelet, strict=True):
            if pixels < step or pixels % step:
                raise InputError(
                    f"a clip's {name} = {pixels} cannot be cut into tubelets of {step}: "
                    f"model.tubelet is {self.tubelet} (frames, rows, columns). "
                    f"Choose a multiple of {step}, or another tubelet."
                )
        f, r, c = self.tubelet
        return frames // f, height // r, width // c

    @nn.nowrap
    def every_place(
        self, clips: int, frames: int, height: int, width: int
    ) -> Int[Array, "B N"] | None:
        """Returns what gives a token for every place as `keep`, whatever the arrangement."""
        if self.attention == "joint":  # gives them anyhow
            return None
        return every_place(clips, self.grid(frames, height, width))

    @nn.compact
    def __call__(
        self,
        video: UInt8[Array, "B T H W 3"] | Float[Array, "B T H W 3"],
        keep: Int[Array, "B M"] | None = None,
        *,
        train: bool = False,
    ) -> Features:
        """Encodes a batch of clips.

        Args:
          video: uint8 pixels, or floats already normalised.
          keep: numbers of the tokens that are seen, rising, in raster order of all N; None for all.
            For all arrangements but "joint", the same places in every slot.
          train: whether to drop anything; needs the "dropout" stream where a rate is not 0.

        Returns:
          float32 features. The tokens are all N in raster order, except that those of
          "factorised_encoder" are its t slots, and those of "space_only" its S places. With `keep`
          they are those of `keep`; a token of "factorised_encoder" is then the sum of what space
          makes of it and what time makes of its slot, so that both stacks are in each.
        """
        clips, frames, height, width = video.shape[:4]
        t, h, w = self.grid(frames, height, width)
        x = constrain(normalise(video, self.mean, self.std), "frames")
        x = prepare(x, self.filter, self.filter_size, self.filter_sigma, self.difference)
        tubelets = Tubelets(
            self.dims.width, self.tubelet, self.tubelet_init, self.dtype, name="tubelets"
        )
        x = tubelets(x, keep)
        if self.attention not in BY_SLOT:
            blocks = self.encoder("blocks", self.dims.depth, self.attention)
            return blocks(x, (t, h, w), keep, examples=clips, train=train)

        x = rearrange(x, "b (t s) d -> (b t) s d", t=t)
        places = None if keep is None else rearrange(keep, "b (t s) -> (b t) s", t=t) % (h * w)
        if self.attention == "space_only":
            blocks = self.encoder("blocks", self.dims.depth, layout="slots", average_rows=True)
            return blocks(x, (1, h, w), places, examples=clips, train=train)

        space = self.encoder("space", self.dims.depth, layout="slots")
        tokens, slots = space(x, (1, h, w), places, examples=clips, train=train)
        if self.attention == "factorised_encoder_by_place":
            x = rearrange(tokens, "(b t) s d -> (b s) t d", t=t)
            if self.temporal_depth:
                time = self.encoder("time", self.temporal_depth, layout="slots")
                x = time(x, (t, 1, 1), examples=clips, train=train).tokens
            tokens = rearrange(x, "(b s) t d -> b (t s) d", b=clips)
            return Features(tokens=tokens, summary=tokens.mean(axis=1))

        slots = rearrange(slots, "(b t) d -> b t d", t=t)
        if self.adapter:
            slots = Adapter(self.adapter, self.gelu, self.dtype, name="adapter")(slots)
        features = Features(tokens=slots, summary=slots.mean(axis=1))
        if self.temporal_depth:
            time = self.encoder("time", self.temporal_depth, layout="clips")
            features = time(slots, (t, 1, 1), examples=clips, train=train)
        if keep is None:
            return features
        tokens = rearrange(tokens, "(b t) s d -> b (t s) d", t=t)
        each = repeat(features.tokens, "b t d -> b (t s) d", s=tokens.shape[1] // t)
        return Features(tokens=tokens + each, summary=features.summary)

    @nn.nowrap
    def encoder(
        self,
        name: str,
        depth: int,
        arrangement: str = "joint",
        layout: str = "tokens",
        average_rows: bool = False,
    ) -> TokenEncoder:
        """A token encoder with this model's fields."""
        block = partial(
            Block,
            heads=self.dims.heads,
            mlp_dim=self.dims.mlp_dim,
            arrangement=arrangement,
            gelu=self.gelu,
            norm_eps=self.norm_eps,
            dropout=self.dropout,
            attention_dropout=self.attention_dropout,
            drop_path_rescaled=self.drop_path_rescaled,
            key_bias=self.key_bias,
            logit_cap=self.logit_cap,
            kernel=self.attention_kernel,
            norm_offset=self.norm_offset,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
            lora=Lora(self.lora_rank, self.lora_alpha, self.lora_targets),
        )
        return TokenEncoder(
            block=block,
            depth=depth,
            positions=self.positions,
            class_token=self.class_token,
            mean=self.pool != "class_token",
            average_rows=average_rows,
            norm_summary=self.norm_summary and name != "space",
            norm_eps=self.closing_norm_eps or self.norm_eps,
            norm_offset=self.norm_offset,
            dropout=self.dropout,
            drop_path=self.drop_path,
            dtype=self.dtype,
            remat=self.remat,
            scan=self.scan,
            layout=layout,
            name=name,
        )


def check(model: VideoTransformer) -> None:
    """Refuses fields that are impossible, alone or together.

    Raises:
      InputError: names the field, its value, and what would do.
    """
    for field, choices in CHOICES.items():
        value = getattr(model, field)
        if value not in choices:
            raise InputError(f"model.{field} = {value!r} is none of {', '.join(choices)}.")
    for field in ("width", "depth", "heads", "mlp_dim", "temporal_depth", "lora_rank", "adapter"):
        if getattr(model, field) < 0:
            raise InputError(f"model.{field} = {getattr(model, field)} is below 0.")
    if not model.logit_cap >= 0:
        raise InputError(f"model.logit_cap = {model.logit_cap} is below 0, which is for no cap.")
    for field in ("dropout", "attention_dropout", "drop_path"):
        if not 0 <= getattr(model, field) < 1:
            raise InputError(f"model.{field} = {getattr(model, field)} is not in [0, 1).")
    if len(model.tubelet) != 3 or min(model.tubelet) < 1:
        raise InputError(
            f"model.tubelet = {model.tubelet} is not three positive numbers: frames, rows, columns."
        )
    check_filter(model.filter, model.filter_size, model.filter_sigma, model.difference)
    if min(model.std) <= 0:
        raise InputError(f"model.std = {model.std} must be above 0: pixels are divided by it.")
    dims = model.dims
    if dims.width % dims.heads:
        raise InputError(
            f"model.heads = {dims.heads} does not divide model.width = {dims.width}: "
            "each head takes an equal part of the width."
        )
    if model.attention == "factorised_dot_product" and dims.heads % 2:
        raise InputError(
            f"model.heads = {dims.heads} is odd; model.attention = 'factorised_dot_product' gives "
            "half of the heads to time and half to space."
        )
    if model.attention in BY_SLOT and model.positions == "separable":
        raise InputError(
            f"model.positions = 'separable' is for attention over whole clips; model.attention = "
            f"{model.attention!r} has tables for space (and time) of its own: use 'learned'."
        )
    if model.norm_summary and (
        model.attention in ("space_only", "factorised_encoder_by_place")
        or (model.attention == "factorised_encoder" and not model.temporal_depth)
    ):
        raise InputError(
            f"model.norm_summary = True is for a summary over whole clips, which model.attention = "
            f"{model.attention!r} makes of slots or places that are normalised apart: use False."
        )
    if model.lora_rank and not (model.lora_targets and set(model.lora_targets) <= set(TARGETS)):
        raise InputError(
            f"model.lora_targets = {model.lora_targets}; expected one or more of "
            f"{', '.join(TARGETS)}."
        )
    if model.adapter and model.attention != "factorised_encoder":
        raise InputError(
            f"model.adapter = {model.adapter} lies between space and time, and model.attention = "
            f"{model.attention!r} has no such place: use 0, or 'factorised_encoder'."
        )
    by_place = model.attention == "factorised_encoder_by_place"
    arrangement = ARRANGEMENTS.get(model.attention)
    if model.class_token and (by_place or (arrangement and not arrangement.class_token)):
        raise InputError(
            f"model.pool = {model.pool!r} cannot be used with model.attention = "
            f"{model.attention!r}, which has no place for a class token: use 'mean'."
        )
