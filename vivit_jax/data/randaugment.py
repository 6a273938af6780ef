"""RandAugment (Cubuk et al. 2020) of whole clips, on the device.

The fifteen operations and their strengths are the "increasing" set that VideoMAE fine-tunes with
(rand-m7-n4-mstd0.5-inc1), each equal to Pillow's up to a level of rounding. On a device every
branch of a choice is computed, so the operations are brought into three families and each layer
runs each family once, with numbers that leave the clip as it is where none of it was drawn:

  a warp        one affine map           rotate, shear, translate
  a table       256 entries a channel    all that maps a level to a level
  a blend       with a degenerate clip   colour (grey), sharpness (smoothed)

Pixels are whole numbers in float32, 0 to 255. A departure from VideoMAE: bilinear, not bicubic.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from vivit_jax.config import Augment

OPERATIONS = (
    "rotate",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "autocontrast",
    "equalize",
    "invert",
    "posterize",
    "solarize",
    "solarize_add",
    "brightness",
    "contrast",
    "colour",
    "sharpness",
)
LARGEST = {  # at strength 1; the sign is drawn
    "rotate": 30.0,  # degrees
    "shear_x": 0.3,
    "shear_y": 0.3,
    "translate_x": 0.45,  # of the width
    "translate_y": 0.45,  # of the height
}
FILL = 128.0  # what comes in from outside the picture

Clip = Float[Array, "T H W 3"]
Scalar = Float[Array, ""]
Choice = Int[Array, ""]  # a place in OPERATIONS, or -1 for none


def rand_augment(clip: Clip, key: Key[Array, ""], augment: Augment) -> Clip:
    """Returns the clip after `augment.randaugment_layers` operations, drawn with replacement.

    Args:
      clip: whole numbers, 0 to 255.
      key: of everything drawn; all frames share it.
      augment: strengths and probability.
    """

    def layer(clip: Clip, key: Key[Array, ""]) -> tuple[Clip, None]:
        which, happens, strength, sign = jax.random.split(key, 4)
        choice = jax.random.randint(which, (), 0, len(OPERATIONS))
        choice = jnp.where(
            jax.random.bernoulli(happens, augment.randaugment_probability), choice, -1
        )
        level = (
            jax.random.normal(strength) * augment.randaugment_std + augment.randaugment_magnitude
        )
        level = jnp.clip(level, 0, 10) / 10
        return operate(clip, choice, level, jax.random.rademacher(sign, (), jnp.float32)), None

    keys = jax.random.split(key, augment.randaugment_layers)
    return jax.lax.scan(layer, clip, keys)[0]


def operate(clip: Clip, choice: Choice, strength: Scalar, sign: Scalar) -> Clip:
    """Returns the clip after the chosen operation.

    Args:
      clip: whole numbers, 0 to 255.
      choice: a place in OPERATIONS; -1 leaves the clip as it is.
      strength: 0 to 1.
      sign: 1 or -1: to which side, or more or less.
    """
    clip = warp(clip, choice, sign * strength)
    factor = jnp.maximum(1 + sign * strength * 0.9, 0.1)
    clip = look_up(clip, choice, strength, factor)
    return blend(clip, choice, factor)


def is_drawn(choice: Choice, name: str) -> jax.Array:
    """Whether the choice is the operation of this name."""
    return choice == OPERATIONS.index(name)


def warp(clip: Clip, choice: Choice, amount: Scalar) -> Clip:
    """Returns the clip rotated, sheared or translated, sampled bilinearly."""
    height, width = clip.shape[1:3]
    turn, shear_x, shear_y, right, down = (
        jnp.where(is_drawn(choice, name), amount * largest, 0.0)
        for name, largest in LARGEST.items()
    )
    cos, sin = jnp.cos(jnp.deg2rad(turn)), jnp.sin(jnp.deg2rad(turn))
    y, x = (jnp.arange(n) + 0.5 for n in (height, width))
    y, x = y[:, None], x[None, :]
    up, left = y - height / 2, x - width / 2
    source_x = cos * left - sin * up + shear_x * y + width * (0.5 + right)
    source_y = sin * left + cos * up + shear_y * x + height * (0.5 + down)
    warped = sample(clip, source_y - 0.5, source_x - 0.5)
    inside = (source_x >= 0) & (source_x < width) & (source_y >= 0) & (source_y < height)
    warped = jnp.where(inside[None, :, :, None], warped, FILL)
    return jnp.where((choice >= 0) & (choice < len(LARGEST)), warped, clip)


def sample(clip: Clip, y: Float[Array, "H W"], x: Float[Array, "H W"]) -> Clip:
    """Returns the clip at rows y and columns x, rounded; outside it its border goes on."""
    height, width = clip.shape[1:3]
    top, left = jnp.floor(y), jnp.floor(x)
    below, right = ((a - b)[None, :, :, None] for a, b in ((y, top), (x, left)))

    def at(row: Float[Array, "H W"], column: Float[Array, "H W"]) -> Clip:
        row = jnp.clip(row, 0, height - 1).astype(jnp.int32)
        column = jnp.clip(column, 0, width - 1).astype(jnp.int32)
        return clip[:, row, column]

    upper = at(top, left) * (1 - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (1 - right) + at(top + 1, left + 1) * right
    return jnp.rint(upper * (1 - below) + lower * below)


def look_up(clip: Clip, choice: Choice, strength: Scalar, factor: Scalar) -> Clip:
    """Returns the clip with every level replaced by the chosen operation's table."""
    levels = clip.astype(jnp.int32).reshape(len(clip), -1, 3)
    ramp = jnp.arange(256)[None, :, None]  # [1 256 1]: frames, levels, channels
    bits = 4 - (strength * 4).astype(jnp.int32)
    threshold = 256 - (strength * 256).astype(jnp.int32)
    added = (strength * 110).astype(jnp.int32)
    mean = jnp.floor(grey(clip).mean(axis=(1, 2, 3)) + 0.5)[:, None, None]
    tables = {
        "autocontrast": autocontrast_table(levels, ramp),
        "equalize": equalize_table(levels),
        "invert": 255 - ramp,
        "posterize": (ramp >> (8 - bits)) << (8 - bits),
        "solarize": jnp.where(ramp < threshold, ramp, 255 - ramp),
        "solarize_add": jnp.where(ramp < 128, jnp.minimum(ramp + added, 255), ramp),
        "brightness": mix(jnp.zeros_like(mean), ramp, factor),
        "contrast": mix(mean, ramp, factor),
    }
    shape = (len(clip), 256, 3)
    table = jnp.select(
        [is_drawn(choice, name) for name in tables],
        [jnp.broadcast_to(t, shape).astype(jnp.float32) for t in tables.values()],
        jnp.broadcast_to(ramp, shape).astype(jnp.float32),
    )
    return jnp.take_along_axis(table, levels, axis=1).reshape(clip.shape)


def autocontrast_table(
    levels: Int[Array, "T P 3"], ramp: Int[Array, "1 256 1"]
) -> Int[Array, "T 256 3"]:
    """Returns what stretches each frame's and channel's levels to reach 0 and 255."""
    low, high = levels.min(axis=1, keepdims=True), levels.max(axis=1, keepdims=True)
    stretched = jnp.clip((ramp - low) * 255 // jnp.maximum(high - low, 1), 0, 255)
    return jnp.where(high > low, stretched, ramp)


def equalize_table(levels: Int[Array, "T P 3"]) -> Int[Array, "T 256 3"]:
    """Returns what makes each frame's and channel's levels equally frequent, as Pillow does."""
    by_channel = jnp.moveaxis(levels, 2, 1)  # [T 3 P]
    count = jax.vmap(jax.vmap(lambda x: jnp.zeros(256, jnp.int32).at[x].add(1)))(by_channel)
    last = jnp.take_along_axis(count, by_channel.max(axis=2, keepdims=True), axis=2)
    step = (levels.shape[1] - last) // 255
    below = jnp.cumsum(count, axis=2) - count
    table = jnp.minimum((step // 2 + below) // jnp.maximum(step, 1), 255)
    ramp = jnp.arange(256)[None, None, :]
    return jnp.moveaxis(jnp.where(step > 0, table, ramp), 1, 2)


def blend(clip: Clip, choice: Choice, factor: Scalar) -> Clip:
    """Returns the clip with more or less colour or sharpness."""
    degenerate = jnp.where(is_drawn(choice, "colour"), grey(clip), smooth(clip))
    drawn = is_drawn(choice, "colour") | is_drawn(choice, "sharpness")
    return jnp.where(drawn, mix(degenerate, clip, factor), clip)


def mix(degenerate: jax.Array, pixels: jax.Array, factor: Scalar) -> jax.Array:
    """Returns what lies `factor` of the way from the degenerate to the pixels, as whole numbers."""
    return jnp.floor(jnp.clip(degenerate + factor * (pixels - degenerate), 0, 255))


def grey(clip: Clip) -> Float[Array, "T H W 1"]:
    """Returns the luma, in Pillow's integer arithmetic (which float32 holds exactly)."""
    weights = jnp.array([19595.0, 38470.0, 7471.0]).reshape(1, 1, 1, 3)
    return jnp.floor(((clip * weights).sum(axis=-1, keepdims=True) + 32768) / 65536)


def smooth(clip: Clip) -> Clip:
    """Returns each pixel averaged with its neighbours, itself five times; the border stays."""
    rows = clip[:, :-2] + clip[:, 1:-1] + clip[:, 2:]
    box = rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    inner = jnp.floor((box + 4 * clip[:, 1:-1, 1:-1]) / 13 + 0.5)
    return clip.at[:, 1:-1, 1:-1].set(inner)
