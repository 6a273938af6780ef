"""Colour augmentation of clips with values in [0, 1] (ViViT's: Arnab et al. 2021, supplement).

After each change values are cut to [0, 1], so that each starts from a picture that could be seen;
the reference cuts only at the end.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from vivit_jax.config import Augment

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601

Clip = Float[Array, "T H W 3"]
Scalar = Float[Array, ""] | float


def adjust_brightness(clip: Clip, shift: Scalar) -> Clip:
    """Returns the clip, lighter by `shift` of the full range."""
    return jnp.clip(clip + shift, 0, 1)


def adjust_saturation(clip: Clip, factor: Scalar) -> Clip:
    """Returns the clip with HSV saturation times `factor`: the largest channel stays as it is."""
    value, chroma = _value_and_chroma(clip)
    most = value / jnp.maximum(chroma, 1e-6)  # at which saturation is 1
    return jnp.clip(value - (value - clip) * jnp.minimum(factor, most), 0, 1)


def adjust_contrast(clip: Clip, factor: Scalar) -> Clip:
    """Returns the clip with distances from each frame's and channel's mean times `factor`."""
    mean = clip.mean(axis=(1, 2), keepdims=True)
    return jnp.clip(mean + (clip - mean) * factor, 0, 1)


def adjust_hue(clip: Clip, turn: Scalar) -> Clip:
    """Returns the clip with HSV hue advanced by `turn` of the colour circle."""
    red, green, blue = _channels(clip)
    value, chroma = _value_and_chroma(clip)
    safe = jnp.maximum(chroma, 1e-6)
    sextant = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sextant = sextant + 6 * turn

    def channel(n: int) -> Float[Array, "T H W 1"]:
        k = (n + sextant) % 6
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.concatenate([channel(5), channel(3), channel(1)], axis=-1)


def colour_jitter(clip: Clip, key: Key[Array, ""], augment: Augment) -> Clip:
    """Returns the clip, changed with probability `augment.colour_jitter`, all frames alike."""
    happens, *keys = jax.random.split(key, 5)

    def draw(key: Key[Array, ""], centre: float, reach: float) -> Float[Array, ""]:
        return jax.random.uniform(key, minval=centre - reach, maxval=centre + reach)

    jittered = clip
    for adjust, key, centre, reach in zip(
        (adjust_brightness, adjust_saturation, adjust_contrast, adjust_hue),
        keys,
        (0.0, 1.0, 1.0, 0.0),
        (augment.brightness, augment.saturation, augment.contrast, augment.hue),
        strict=True,
    ):
        if reach:
            jittered = adjust(jittered, draw(key, centre, reach))
    return jnp.where(jax.random.bernoulli(happens, augment.colour_jitter), jittered, clip)


def drop_colour(clip: Clip, key: Key[Array, ""], probability: float) -> Clip:
    """Returns the clip in grey with `probability`."""
    red, green, blue = (weight * x for weight, x in zip(LUMA, _channels(clip), strict=True))
    return jnp.where(jax.random.bernoulli(key, probability), red + green + blue, clip)


def _channels(clip: Clip) -> list[Float[Array, "T H W 1"]]:
    """Returns red, green and blue: sums of them are fused, and reductions of an axis are not."""
    return jnp.split(clip, 3, axis=-1)


def _value_and_chroma(clip: Clip) -> tuple[Float[Array, "T H W 1"], Float[Array, "T H W 1"]]:
    """Returns HSV's value, which is the largest channel, and how far the smallest is below it."""
    red, green, blue = _channels(clip)
    value = jnp.maximum(jnp.maximum(red, green), blue)
    return value, value - jnp.minimum(jnp.minimum(red, green), blue)
