"""What the device does to a training clip, inside the jitted step: uint8 in, normalised floats out.

Every draw is one for all frames of a clip, and comes from the clip's own key, so what happens to a
clip does not depend on the batch or the device that it is on. A step whose probability is 0 adds
nothing to the compiled program. The order is that of ViViT's loader (flip, RandAugment, colour)
with VideoMAE's erasing after normalisation.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key, UInt8

from vivit_jax.config import Augment
from vivit_jax.data.colour import colour_jitter, drop_colour
from vivit_jax.data.randaugment import rand_augment

STEPS = ("flip", "rand_augment", "colour_jitter", "grey", "erase")  # each with its own key
ERASE_ASPECT = (0.3, 1 / 0.3)  # height over width (Zhong et al. 2020)
ERASE_TRIES = 10  # boxes drawn; the first that fits into the picture is erased

Clip = Float[Array, "T H W 3"]
AugmentFn = Callable[[UInt8[Array, "B T H W 3"], Key[Array, " B"]], Float[Array, "B T H W 3"]]


def make_augment(augment: Augment, mean: Sequence[float], std: Sequence[float]) -> AugmentFn:
    """Returns the function from clips and a key for each to augmented, normalised clips.

    Args:
      augment: what to do, and how often.
      mean: of each colour, of [0, 1].
      std: likewise; what comes back is (x / 255 - mean) / std.
    """

    def augment_clip(clip: UInt8[Array, "T H W 3"], key: Key[Array, ""]) -> Clip:
        keys = {name: jax.random.fold_in(key, i) for i, name in enumerate(STEPS)}
        if augment.flip:
            clip = jnp.where(
                jax.random.bernoulli(keys["flip"], augment.flip), clip[:, :, ::-1], clip
            )
        pixels = clip.astype(jnp.float32)
        if augment.randaugment_layers:
            pixels = rand_augment(pixels, keys["rand_augment"], augment)
        pixels /= 255
        if augment.colour_jitter:
            pixels = colour_jitter(pixels, keys["colour_jitter"], augment)
        if augment.grey:
            pixels = drop_colour(pixels, keys["grey"], augment.grey)
        centre, scale = (jnp.asarray(x, jnp.float32).reshape(1, 1, 1, 3) for x in (mean, std))
        pixels = (pixels - centre) / scale
        return erase(pixels, keys["erase"], augment) if augment.erase else pixels

    return jax.vmap(augment_clip)


def erase(clip: Clip, key: Key[Array, ""], augment: Augment) -> Clip:
    """Returns the clip with noise in one box, at the same place in all frames (VideoMAE's form).

    The noise is N(0, 1) and new for each pixel of each frame.
    """
    height, width = clip.shape[1:3]
    happens, area, aspect, place, noise = jax.random.split(key, 5)
    low, high = augment.erase_area
    pixels = height * width * jax.random.uniform(area, (ERASE_TRIES,), minval=low, maxval=high)
    low, high = (jnp.log(x) for x in ERASE_ASPECT)
    ratio = jnp.exp(jax.random.uniform(aspect, (ERASE_TRIES,), minval=low, maxval=high))
    sides = jnp.rint(jnp.stack([jnp.sqrt(pixels * ratio), jnp.sqrt(pixels / ratio)], axis=1))
    fits = (sides[:, 0] < height) & (sides[:, 1] < width)
    sides = sides[jnp.argmax(fits)]
    room = jnp.array([height, width], jnp.float32) - sides + 1
    start = jnp.floor(jax.random.uniform(place, (2,)) * room)
    rows, columns = (
        (jnp.arange(n) >= a) & (jnp.arange(n) < a + side)
        for n, a, side in zip((height, width), start, sides, strict=True)
    )
    happens = jax.random.bernoulli(happens, augment.erase) & fits.any()
    box = happens & rows[:, None] & columns[None, :]
    return jnp.where(box[None, :, :, None], jax.random.normal(noise, clip.shape), clip)
