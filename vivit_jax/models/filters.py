"""What is done to a clip before it is cut into tubelets: noise filtered out, motion made visible.

All of it is arithmetic on normalised frames, on the device, in float32. As the encoder itself does
it, a clip is seen alike in training, where it comes after augmentation and mixing, and by whatever
judges or observes. A filter sees one frame at a time and one colour at a time; beyond the border
the outermost pixel goes on (SciPy's mode "nearest").
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from vivit_jax.errors import InputError
from vivit_jax.options import choose

FILTERS = ("none", "median", "gaussian")
DIFFERENCES = ("none", "appended", "only")
MEDIAN_SIZES = (3, 5)  # pixels a side
TRUNCATE = 4.0  # standard deviations after which the Gaussian is cut off, as SciPy does
MOST_SIGMA = 8.0  # pixels; what is cut off is then 32 pixels away
Clip = Float[Array, "B T H W c"]


def prepare(
    video: Float[Array, "B T H W 3"], kind: str, size: int, sigma: float, difference: str
) -> Float[Array, "B T H W ch"]:
    """Returns normalised clips as they are cut into tubelets.

    Args:
      video: their colours.
      kind: a row of FILTERS.
      size: rows and columns of the median.
      sigma: standard deviation of the Gaussian, pixels.
      difference: "appended", three channels more, each frame less the one before it (the first
        frame's are zero); "only", these three in place of the colours; or "none".
    """
    if kind == "median":
        video = median(video, size)
    elif kind == "gaussian":
        video = gaussian(video, sigma)
    if difference == "none":
        return video
    before = jnp.concatenate([video[:, :1], video[:, :-1]], axis=1)
    changes = video - before
    return changes if difference == "only" else jnp.concatenate([video, changes], axis=-1)


def channels(difference: str) -> int:
    """Returns how many channels `prepare` gives."""
    return 6 if difference == "appended" else 3


def median(video: Clip, size: int) -> Clip:
    """Returns the median of the size x size pixels around each pixel.

    The columns are sorted once and then merged, by exchanges that do not depend on the values
    (Batcher 1968); what the middle one does not depend on, the compiler leaves out.
    """
    rows = _sorted(*([x] for x in _shifted(video, 2, size)))
    columns = zip(*(_shifted(row, 3, size) for row in rows), strict=True)
    return _sorted(*map(list, columns))[size * size // 2]


def gaussian(video: Clip, sigma: float) -> Clip:
    """Returns the weighted mean around each pixel, along rows and then along columns."""
    radius = int(TRUNCATE * sigma + 0.5)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    weights = (weights / weights.sum()).tolist()
    for axis in (2, 3):
        moved = _shifted(video, axis, len(weights))
        video = sum((w * x for w, x in zip(weights, moved, strict=True)), jnp.zeros_like(video))
    return video


def check_filter(kind: str, size: int, sigma: float, difference: str) -> None:
    """Refuses what cannot be done.

    Raises:
      InputError: names the field of config.model.
    """
    choose("model.filter", kind, FILTERS)
    choose("model.difference", difference, DIFFERENCES)
    if size not in MEDIAN_SIZES:
        sizes = " or ".join(map(str, MEDIAN_SIZES))
        raise InputError(f"model.filter_size = {size}; expected {sizes}, pixels a side.")
    if not 0 < sigma <= MOST_SIGMA:
        raise InputError(
            f"model.filter_sigma = {sigma}; expected pixels, above 0 and up to {MOST_SIGMA:g}."
        )


def _shifted(video: Clip, axis: int, size: int) -> list[Clip]:
    """Returns a clip moved by each of -(size // 2) to size // 2 pixels along an axis."""
    length, reach = video.shape[axis], size // 2
    margins = [(reach, reach) if i == axis else (0, 0) for i in range(video.ndim)]
    wide = jnp.pad(video, margins, mode="edge")
    before = (slice(None),) * axis
    return [wide[(*before, slice(i, i + length))] for i in range(size)]


def _merge(one: Sequence[Clip], other: Sequence[Clip]) -> list[Clip]:
    """Returns two sorted lists as one, element by element of the arrays."""
    if not one or not other:
        return [*one, *other]
    if len(one) == len(other) == 1:
        return [jnp.minimum(one[0], other[0]), jnp.maximum(one[0], other[0])]
    first, *even = _merge(one[::2], other[::2])
    odd = _merge(one[1::2], other[1::2])
    found = [first]
    for x, y in zip(odd, even, strict=False):
        found += [jnp.minimum(x, y), jnp.maximum(x, y)]
    pairs = min(len(odd), len(even))
    return [*found, *odd[pairs:], *even[pairs:]]


def _sorted(*lists: list[Clip]) -> list[Clip]:
    """Returns sorted lists of arrays as one."""
    if len(lists) == 1:
        return lists[0]
    half = len(lists) // 2
    return _merge(_sorted(*lists[:half]), _sorted(*lists[half:]))
