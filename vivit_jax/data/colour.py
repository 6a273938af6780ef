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
    value = clip.max(axis=-1, keepdims=True)
    chroma = value - clip.min(axis=-1, keepdims=True)
    most = value / jnp.maximum(chroma, 1e-6)  # at which saturation is 1
    return jnp.clip(value - (value - clip) * jnp.minimum(factor, most), 0, 1)


def adjust_contrast(clip: Clip, factor: Scalar) -> Clip:
    """Returns the clip with distances from each frame's and channel's mean times `factor`."""
    mean = clip.mean(axis=(1, 2), keepdims=True)
    return jnp.clip(mean + (clip - mean) * factor, 0, 1)


def adjust_hue(clip: Clip, turn: Scalar) -> Clip:
    """Returns the clip with HSV hue advanced by `turn` of the colour circle."""
    red, green, blue = jnp.moveaxis(clip, -1, 0)
    value = clip.max(axis=-1)
    chroma = value - clip.min(axis=-1)
    safe = jnp.maximum(chroma, 1e-6)
    sextant = jnp.where(
        value == red,
        (green - blue) / safe,
        jnp.where(value == green, 2 + (blue - red) / safe, 4 + (red - green) / safe),
    )
    sextant = sextant + 6 * turn

    def channel(n: int) -> Float[Array, "T H W"]:
        k = (n + sextant) % 6
        return value - chroma * jnp.clip(jnp.minimum(k, 4 - k), 0, 1)

    return jnp.stack([channel(5), channel(3), channel(1)], axis=-1)


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
    grey = (clip * jnp.array(LUMA).reshape(1, 1, 1, 3)).sum(axis=-1, keepdims=True)
    return jnp.where(jax.random.bernoulli(key, probability), grey, clip)
