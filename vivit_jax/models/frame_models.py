"""The models that came before video transformers: each frame is seen alone, then they are in order.

Two fields tell them apart, and any of the one goes with any of the other:

    frame="resnet18", "resnet34", ... "resnet152"     models/resnet.py
    frame="vit"                                       the image ViT, in our own blocks
    time="mean", "lstm", "gru", "transformer", "gpt2" models/over_time.py

So a ViT per frame is ("vit", "mean"), a CNN-RNN ("resnet50", "lstm"), a CNN-GPT ("resnet18",
"gpt2"); ("vit", "transformer") is ViViT's factorised encoder on tubelets of one frame. The
parameters are frames/..., embed/... (where the two parts have other widths) and time/...: freeze
the first with optim.freeze=frames. Each part starts from weights of its own by
config.init_from=FRAMES,TIME; see transfer.py.

Sources: Donahue et al. 2015 (CNN-LSTM); Arnab et al. 2021 (ViViT), section 3.3.
"""

import math
from functools import partial
from typing import Any

import flax.linen as nn
import jax.numpy as jnp
from einops import rearrange, repeat
from jaxtyping import Array, Float, Int, UInt8

from vivit_jax.errors import InputError
from vivit_jax.layout import constrain
from vivit_jax.models import kernels, over_time, resnet
from vivit_jax.models.costs import Count
from vivit_jax.models.filters import channels, check_filter, prepare
from vivit_jax.models.layers import GELUS, Dense, Features, Tubelets
from vivit_jax.models.over_time import TIMES, OverTime
from vivit_jax.models.positions import POSITIONS, Axes, every_place
from vivit_jax.models.resnet import NORMS, SHAPES, Resnet
from vivit_jax.models.token_encoder import REMATS
from vivit_jax.models.video_transformer import SIZES, Size, VideoTransformer, normalise

HEAD = 64  # width of a head over time, where it is not given
VIT = "vit"
CHOICES = {
    "frame": (*SHAPES, VIT),
    "frame_norm": tuple(NORMS),
    "time": tuple(TIMES),
    "size": tuple(SIZES),
    "positions": tuple(POSITIONS),
    "pool": ("class_token", "mean"),
    "gelu": tuple(GELUS),
    "dtype": ("float32", "bfloat16"),
    "attention_kernel": kernels.NAMES,
    "remat": tuple(REMATS),
}


class FrameVit(nn.Module):
    """An image ViT on frames.

    Attributes:
      fields: the same as a VideoTransformer, whose stack over space this is.
    """

    fields: partial[VideoTransformer]

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W ch"], *, examples: int, train: bool = False
    ) -> Features:
        """Returns its tokens [B S D] and its summary of each frame.

        Args:
          x: normalised frames, of colours or of what filters.prepare makes of them.
          examples: clips that they belong to, as "(examples frames)".
          train: whether to drop anything.
        """
        model = self.fields(parent=None)
        _, h, w = model.grid(1, *x.shape[1:3])
        tubelets = Tubelets(
            model.dims.width, model.tubelet, model.tubelet_init, model.dtype, name="tubelets"
        )
        space = model.encoder("space", model.dims.depth, layout="slots")
        return space(tubelets(x[:, None]), (1, h, w), examples=examples, train=train)


class FrameModel(nn.Module):
    """Encodes a clip frame by frame, then over time.

    Attributes:
      frame: what sees a frame; see above.
      frame_norm: of a ResNet: "batch" with the statistics that its weights were trained with, or
        "group" for training from random weights.
      size: of a ViT, a row of video_transformer.SIZES.
      width: of a ViT's tokens, or channels of a ResNet's stem; 0 for the size's own, or 64.
      depth: blocks of a ViT; 0 for the size's own, as for the next two.
      heads: of its attention.
      mlp_dim: hidden width of its MLPs.
      patch: height and width of the pixels that one of its tokens covers.
      positions: of a ViT, a row of positions.POSITIONS.
      pool: what a ViT's summary of a frame is, its "class_token" or the "mean" over tokens.
      time: what sees the frames' vectors; see above.
      time_width: D, of these and of the summary; 0 for what the frames' model gives.
      time_depth: layers or blocks over time; 0 for the row's own.
      time_heads: of attention over time, and of poolers; 0 for heads 64 wide, or the next power of
        two below that divides the width.
      dropout: of a ViT and of a transformer over time as in VideoTransformer; between layers of
        an LSTM or GRU.
      drop_path: of a ViT and of a transformer over time, as in VideoTransformer.
      gelu: of a ViT and of "transformer": "tanh" or "erf".
      norm_eps: of their layer norms.
      dtype: "float32" or "bfloat16", in which matrices are multiplied.
      attention_kernel: "auto" for the best that the platform has, or a row of kernels.KERNELS.
      remat: what the backward pass recomputes of each block of a network on frames or over time, or
        of each step of an LSTM or GRU: "none", "full" (everything) or "dots" (all but dense layers
        and convolutions).
      mean: of each colour, with which uint8 video is normalised; of [0, 1].
      std: likewise.
      filter: of each frame, as in VideoTransformer.
      filter_size: likewise, as the next two.
      filter_sigma: see there.
      difference: see there.

    Raises:
      InputError: a field's value is none of its choices, or contradicts another's.
    """

    frame: str = "resnet18"
    frame_norm: str = "group"
    size: str = "B"
    width: int = 0
    depth: int = 0
    heads: int = 0
    mlp_dim: int = 0
    patch: int = 16
    positions: str = "learned"
    pool: str = "class_token"
    time: str = "lstm"
    time_width: int = 0
    time_depth: int = 0
    time_heads: int = 0
    dropout: float = 0.0
    drop_path: float = 0.0
    gelu: str = "tanh"
    norm_eps: float = 1e-6
    dtype: str = "float32"
    attention_kernel: str = "auto"
    remat: str = "none"
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    filter: str = "none"
    filter_size: int = 3
    filter_sigma: float = 1.0
    difference: str = "none"

    norm_summary = False  # tokens are always normalised

    def __post_init__(self) -> None:
        """Refuses what cannot be built, before anything is."""
        check(self)
        super().__post_init__()

    @property
    def attention(self) -> str:
        """Which tokens see which, in words."""
        return f"{self.frame} then {self.time}"

    @property
    def class_token(self) -> bool:
        """Whether a class token takes part over time."""
        return False

    @property
    def dims(self) -> Size:
        """The numbers of what gives the features: width D, and depth and heads over time."""
        width = self.time_width or self.frame_width
        heads = self.time_heads or width // math.gcd(width, HEAD)
        return Size(width, self.time_depth or TIMES[self.time].depth, heads, 4 * width)

    @property
    def frame_width(self) -> int:
        """Width of a frame's vector."""
        if self.frame == VIT:
            return self.width or SIZES[self.size].width
        return SHAPES[self.frame].width(self.width or resnet.STEM)

    @nn.nowrap
    def grid(self, frames: int, height: int, width: int) -> Axes:
        """Returns (time slots, rows, columns) of a clip's places: each slot is a frame.

        Raises:
          InputError: the patch does not divide the frames.
        """
        if self.frame != VIT:
            return frames, resnet.cells(height), resnet.cells(width)
        for name, pixels in {"height": height, "width": width}.items():
            if pixels < self.patch or pixels % self.patch:
                raise InputError(
                    f"a frame's {name} = {pixels} cannot be cut into patches of model.patch = "
                    f"{self.patch}: choose a multiple of {self.patch}, or another patch."
                )
        return frames, height // self.patch, width // self.patch

    @nn.nowrap
    def every_place(
        self, clips: int, frames: int, height: int, width: int
    ) -> Int[Array, "B N"] | None:
        """Returns what gives a token for every place as `keep`, in place of one for each frame."""
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
          keep: None for one token a frame; or what `every_place` gives, for one for every place:
            the sum of what is seen there in its frame and what time makes of the frame.
          train: whether to drop anything; needs the "dropout" stream where a rate is not 0.

        Returns:
          float32 features.

        Raises:
          InputError: `keep` has fewer places: nothing can be hidden from a model of whole frames.
        """
        clips, frames, height, width = video.shape[:4]
        places = math.prod(self.grid(frames, height, width))
        if keep is not None and keep.shape[1] != places:
            raise InputError(
                f"config.model.name = 'frame_model' sees all {places} places of a clip, and was "
                f"given {keep.shape[1]} to keep: choose 'video_transformer' for what hides some."
            )
        x = constrain(normalise(video, self.mean, self.std), "frames")
        x = prepare(x, self.filter, self.filter_size, self.filter_sigma, self.difference)
        x = constrain(rearrange(x, "b t h w c -> (b t) h w c"), "slots")
        seen = self.frame_model()(x, examples=clips, train=train)
        embed = Dense((self.dims.width,), self.dtype, name="embed")

        def embedded(y: Array) -> Array:
            return y if self.dims.width == self.frame_width else embed(y).astype(jnp.float32)

        slots = rearrange(embedded(seen.summary), "(b t) d -> b t d", b=clips)
        slots = constrain(slots, "clips")
        features = over_time.run(self.time, self.time_fields, slots, train)
        if keep is None:
            return features
        tokens = rearrange(embedded(seen.tokens), "(b t) s d -> b (t s) d", b=clips)
        each = repeat(features.tokens, "b t d -> b (t s) d", s=places // frames)
        return Features(tokens + each, features.summary)

    @nn.nowrap
    def frame_model(self, name: str | None = "frames") -> Resnet | FrameVit:
        """Returns what sees a frame."""
        if self.frame == VIT:
            return FrameVit(self.vit, name=name)
        stem = self.width or resnet.STEM
        return Resnet(self.frame, stem, self.frame_norm, self.dtype, self.remat, name=name)

    @property
    def vit(self) -> partial[VideoTransformer]:
        """The ViT's fields, as a video transformer that does nothing over time."""
        same = ("size", "width", "depth", "heads", "mlp_dim", "positions", "pool", "dropout")
        same += ("drop_path", "gelu", "norm_eps", "dtype", "attention_kernel")
        same += ("remat", "difference")
        return partial(
            VideoTransformer,
            attention="factorised_encoder",
            temporal_depth=0,
            tubelet=(1, self.patch, self.patch),
            **{name: getattr(self, name) for name in same},
        )

    @property
    def time_fields(self) -> OverTime:
        """The fields of the model over time."""
        width, depth, heads, _ = self.dims
        given = (width, depth, heads, self.gelu, self.norm_eps, self.dropout, self.drop_path)
        return OverTime(*given, self.dtype, self.attention_kernel, self.remat)

    @nn.nowrap
    def count(self, counter: Count, frames: int, image_size: int, path: str) -> bool:
        """Counts the products of one clip; see costs.Count.encoder."""
        if self.frame == VIT:
            model = self.vit(parent=None)
            flows = counter.encoder(model, frames, image_size, path=f"{path}/frames")
        else:
            net: Any = self.frame_model(name=None)
            sides = (image_size, channels(self.difference), frames)
            flows = resnet.count(counter, net, *sides, f"{path}/frames")
        width = self.dims.width
        if width != self.frame_width:
            flows = counter.dense(f"{path}/embed", frames, self.frame_width, width, flows)
        return over_time.count(counter, self.time, self.time_fields, frames, flows, f"{path}/time")


def check(model: FrameModel) -> None:
    """Refuses fields that are impossible, alone or together.

    Raises:
      InputError: names the field, its value, and what would do.
    """
    for field, choices in CHOICES.items():
        value = getattr(model, field)
        if value not in choices:
            raise InputError(f"model.{field} = {value!r} is none of {', '.join(choices)}.")
    for field in ("width", "time_width", "time_depth", "time_heads"):
        if getattr(model, field) < 0:
            raise InputError(f"model.{field} = {getattr(model, field)} is below 0.")
    for field in ("dropout", "drop_path"):
        if not 0 <= getattr(model, field) < 1:
            raise InputError(f"model.{field} = {getattr(model, field)} is not in [0, 1).")
    if model.patch < 1:
        raise InputError(f"model.patch = {model.patch}; expected 1 or more pixels.")
    check_filter(model.filter, model.filter_size, model.filter_sigma, model.difference)
    if min(model.std) <= 0:
        raise InputError(f"model.std = {model.std} must be above 0: pixels are divided by it.")
    if model.frame == VIT:
        model.vit(parent=None)  # refuses what it cannot be
    width, _, heads, _ = model.dims
    if width % heads:
        raise InputError(
            f"model.time_heads = {heads} does not divide the width over time, {width}: each head "
            "takes an equal part of it."
        )
