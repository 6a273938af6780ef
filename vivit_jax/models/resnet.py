"""ResNets: what saw pictures before transformers did, in the form that published weights have.

The stride of a bottleneck is in its 3 x 3 convolution ("v1.5"), as in torchvision, timm and Hugging
Face; everything is float32 but the convolutions, which are in `dtype`.

A clip's frames are no batch of independent pictures, and the statistics of a few clips no estimate
of anything; so nothing here depends on a batch. With norm="batch" each channel's mean and variance
are those that the weights were trained with, and stay: frozen batch norm, as is usual where video
models start from pictures. They lie among the parameters, and freeze.py keeps them from being
learnt or decayed. From random weights use norm="group".

Sources: He et al. 2016 (1512.03385); Wu and He 2018 (1803.08494), group norm.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from vivit_jax.models.costs import Count
from vivit_jax.models.layers import Features
from vivit_jax.models.token_encoder import recomputed

EPS = 1e-5
EXPANSION = 4  # channels out of a bottleneck over those within
GROUPS, OF_GROUP = 32, 16  # groups, and channels of each at least
STEM = 64  # channels
HALVINGS = 5  # of the picture's sides, by the stem, its pooling, and three of four stages
conv_init = nn.initializers.variance_scaling(2.0, "fan_out", "truncated_normal")


class Shape(NamedTuple):
    """What a name stands for: blocks of each stage, and whether they are bottlenecks."""

    blocks: tuple[int, ...]
    bottleneck: bool

    def width(self, stem: int) -> int:
        """Returns the channels that come out, for so many of the stem."""
        return stem * 2 ** (len(self.blocks) - 1) * (EXPANSION if self.bottleneck else 1)


SHAPES = {
    "resnet18": Shape((2, 2, 2, 2), False),
    "resnet34": Shape((3, 4, 6, 3), False),
    "resnet50": Shape((3, 4, 6, 3), True),
    "resnet101": Shape((3, 4, 23, 3), True),
    "resnet152": Shape((3, 8, 36, 3), True),
}


class FrozenBatchNorm(nn.Module):
    """Each channel normalised by a mean and a variance that are kept, not measured."""

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Returns the normalised channels, in float32."""

        def channels(name: str, init: nn.initializers.Initializer) -> jax.Array:
            return self.param(name, init, x.shape[-1:]).reshape(1, 1, 1, -1)

        scale, bias = (
            channels("scale", nn.initializers.ones),
            channels("bias", nn.initializers.zeros),
        )
        mean = channels("running_mean", nn.initializers.zeros)
        factor = scale * jax.lax.rsqrt(channels("running_var", nn.initializers.ones) + EPS)
        return x.astype(jnp.float32) * factor + (bias - mean * factor)


class GroupNorm(nn.Module):
    """Channels normalised in groups, each picture by itself.

    There are GROUPS of them, or fewer where each would have less than OF_GROUP channels: of small
    pictures the last stages have so few cells that a narrow group would keep nothing.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        """Returns the normalised channels, in float32."""
        channels = x.shape[-1]
        groups = math.gcd(GROUPS, max(channels // OF_GROUP, 1))
        scale = self.param("scale", nn.initializers.ones, (channels,)).reshape(1, 1, 1, -1)
        bias = self.param("bias", nn.initializers.zeros, (channels,)).reshape(1, 1, 1, -1)
        parts = rearrange(x.astype(jnp.float32), "b h w (g c) -> b h w g c", g=groups)
        parts = jax.nn.standardize(parts, axis=(1, 2, 4), epsilon=EPS)
        return rearrange(parts, "b h w g c -> b h w (g c)") * scale + bias


NORMS: dict[str, Any] = {"batch": FrozenBatchNorm, "group": GroupNorm}


class Block(nn.Module):
    """Convolutions beside the identity, or beside a projection where the shape changes.

    Attributes:
      width: channels of its 3 x 3 convolutions.
      stride: of the first of these.
      bottleneck: a 1 x 1 convolution before and after one of 3 x 3, in place of two of 3 x 3.
      norm: a row of NORMS.
      dtype: of the convolutions.
    """

    width: int
    stride: int
    bottleneck: bool
    norm: str
    dtype: str

    @nn.compact
    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B h w c"]:
        """Returns what follows, in float32."""
        layers = layers_of(self.width, self.stride, self.bottleneck)
        y = x
        for i, (side, channels, stride) in enumerate(layers):
            y = self.layer(f"_{i}", y, side, channels, stride)
            if i + 1 < len(layers):
                y = nn.relu(y)
        if y.shape != x.shape:
            x = self.layer("_beside", x, 1, y.shape[-1], self.stride)
        return nn.relu(x + y)

    @nn.nowrap
    def layer(self, name: str, x: jax.Array, side: int, channels: int, stride: int) -> jax.Array:
        """Returns a convolution and its norm."""
        y = convolution(f"conv{name}", side, channels, stride, self.dtype)(x)
        return NORMS[self.norm](name=f"norm{name}")(y)


def layers_of(width: int, stride: int, bottleneck: bool) -> list[tuple[int, int, int]]:
    """Returns (side of the kernel, channels, stride) of a block's convolutions, in their order."""
    if bottleneck:
        return [(1, width, 1), (3, width, stride), (1, EXPANSION * width, 1)]
    return [(3, width, stride), (3, width, 1)]


def convolution(name: str, side: int, channels: int, stride: int, dtype: str) -> nn.Conv:
    """Returns a convolution as PyTorch has it: padded alike on both sides, without a bias."""
    return nn.Conv(
        channels,
        (side, side),
        stride,
        padding=side // 2,
        use_bias=False,
        dtype=dtype,
        kernel_init=conv_init,
        name=name,
    )


class Resnet(nn.Module):
    """Encodes pictures, each by itself.

    Attributes:
      shape: a row of SHAPES.
      width: channels of the stem, from which all others follow.
      norm: a row of NORMS.
      dtype: of the convolutions.
      remat: a row of token_encoder.REMATS.
    """

    shape: str
    width: int
    norm: str
    dtype: str
    remat: str

    @nn.compact
    def __call__(
        self, x: Float[Array, "B H W ch"], *, examples: int = 0, train: bool = False
    ) -> Features:
        """Returns the cells of the last stage as tokens [B S D], and their mean, in float32."""
        del examples, train  # nothing is dropped
        x = convolution("stem_conv", 7, self.width, 2, self.dtype)(x)
        x = nn.relu(NORMS[self.norm](name="stem_norm")(x))
        pads: Any = ((1, 1), (1, 1))  # which flax takes, and does not annotate
        x = nn.max_pool(x, (3, 3), (2, 2), pads)
        made = recomputed(self.remat, nn.remat, Block)
        for name, width, stride in blocks_of(self.shape, self.width):
            block = partial(made, width, stride, SHAPES[self.shape].bottleneck)
            x = block(self.norm, self.dtype, name=name)(x)
        return Features(rearrange(x, "b h w c -> b (h w) c"), x.mean(axis=(1, 2)))


def blocks_of(shape: str, stem: int) -> list[tuple[str, int, int]]:
    """Returns (name, channels of the 3 x 3 convolutions, stride) of all blocks, in their order."""
    return [
        (f"stage_{stage}_block_{i}", stem * 2**stage, 2 if stage and not i else 1)
        for stage, count in enumerate(SHAPES[shape].blocks)
        for i in range(count)
    ]


def cells(pixels: int) -> int:
    """Returns how many cells of the last stage lie along so many pixels."""
    return math.ceil(pixels / 2**HALVINGS)


def count(counter: Count, net: Resnet, pixels: int, values: int, pictures: int, path: str) -> bool:
    """Counts a ResNet on square pictures; returns whether a gradient flows into what it gives.

    Args:
      counter: to which it is added.
      net: which.
      pixels: height and width of a picture.
      values: numbers of a pixel.
      pictures: of a clip.
      path: of the parameters.
    """

    def layer(name: str, side: int, shape: tuple[int, int], cells: int, flows: bool) -> bool:
        rows, (inputs, outputs) = pictures * cells**2, shape
        at = f"{path}/{name.format('conv')}"
        flows = counter.dense(at, rows, side * side * inputs, outputs, flows)
        return flows or counter.learns(f"{path}/{name.format('norm')}")

    here = math.ceil(pixels / 2)
    flows = layer("stem_{}", 7, (values, net.width), here, flows=False)
    here, inputs = math.ceil(here / 2), net.width
    bottleneck = SHAPES[net.shape].bottleneck
    for name, width, stride in blocks_of(net.shape, net.width):
        before, given = counter.forward, flows
        there, channels, at = math.ceil(here / stride), inputs, here
        for i, (side, outputs, step) in enumerate(layers_of(width, stride, bottleneck)):
            at = math.ceil(at / step)
            flows = layer(f"{name}/{{}}_{i}", side, (channels, outputs), at, flows)
            channels = outputs
        if stride > 1 or inputs != channels:
            beside = layer(f"{name}/{{}}_beside", 1, (inputs, channels), there, given)
            flows = flows or beside
        flows, here, inputs = flows or given, there, channels
        counter.blocks += (counter.forward - before) * flows
    return flows
