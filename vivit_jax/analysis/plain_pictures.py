"""Restoring pictures without a model: what anybody would try first, and what a model is beside.

Clips are float32 [n T H W 3], black 0 and white 1; what is hidden in them may hold anything.
"""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float

SIDE = 1.0  # pixels: standard deviation of the Gaussian that smooths, in rows and columns
Clips = Float[np.ndarray, "n T H W 3"]


def between_frames(clips: Clips, hidden: Bool[np.ndarray, " T"]) -> Clips:
    """Returns clips whose hidden frames are linear in time between those around them.

    Before the first frame that is there and after the last, these are held.
    """
    there = np.flatnonzero(~hidden)
    moments = np.arange(len(hidden))
    after = np.searchsorted(there, moments).clip(0, len(there) - 1)
    before = (np.searchsorted(there, moments, side="right") - 1).clip(0)
    low, high = there[before], there[after]
    share = np.where(high > low, (moments - low) / np.maximum(high - low, 1), 0.0)
    share = share.clip(0, 1).astype(np.float32)[None, :, None, None, None]
    return (1 - share) * clips[:, low] + share * clips[:, high]


def between_borders(clips: Clips, hidden: Bool[np.ndarray, "H W"]) -> Clips:
    """Returns clips whose hidden pixels are made of the nearest that are there.

    Of a pixel's four: those met first upwards, downwards, to the left and to the right, weighted by
    one over the distance. Between two borders this is linear.
    """
    total = np.zeros((*hidden.shape, 1), np.float32)
    made = np.zeros_like(clips)
    height, width = hidden.shape
    rows, columns = np.mgrid[:height, :width]
    for axis, backwards in ((0, False), (0, True), (1, False), (1, True)):
        there, found = _nearest(hidden, axis, backwards)
        at = (found, columns) if axis == 0 else (rows, found)
        distance = np.abs(found - (rows if axis == 0 else columns))
        weight = np.where(there & hidden, 1 / np.maximum(distance, 1), 0.0)
        weight = weight.astype(np.float32)[..., None]
        made += clips[:, :, at[0], at[1]] * weight
        total += weight
    places = np.argwhere(hidden & (total[..., 0] == 0))  # whose rows and columns are all hidden
    if len(places):
        nearest = scipy.ndimage.distance_transform_edt(
            hidden, return_distances=False, return_indices=True
        )
        assert nearest is not None
        row, column = places.T
        made[:, :, row, column] = clips[:, :, *(x[row, column] for x in nearest)]
        total[row, column] = 1
    return np.where(hidden[..., None], made / np.maximum(total, 1e-9), clips)


def smoothed(clips: Clips) -> Clips:
    """Returns clips under a Gaussian in rows and columns."""
    return scipy.ndimage.gaussian_filter(clips, (0, 0, SIDE, SIDE, 0), mode="nearest")


def own_share() -> float:
    """Returns what of a pixel is left at its place by `smoothed`."""
    impulse = np.zeros((1, 1, 15, 15, 1), np.float32)
    impulse[0, 0, 7, 7] = 1
    return float(smoothed(impulse)[0, 0, 7, 7, 0])


def noise_of(clips: Clips) -> float:
    """Returns the standard deviation of the noise in clips, as far as they tell it.

    What is left when everything that is linear in time, rows or columns is taken out; the median of
    its size does not mind edges, as long as they are few. Texture that is as fine as a pixel and
    does not stay still counts as noise.
    """
    left = clips
    for axis in (1, 2, 3):
        left = np.diff(left, 2, axis=axis) / np.sqrt(6)
    return float(np.median(np.abs(left)) / 0.6745)


def _nearest(
    hidden: Bool[np.ndarray, "H W"], axis: int, backwards: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Returns whether a pixel has one that is there on one side of it, and that one's place."""
    there = ~hidden.swapaxes(0, axis)
    there = there[::-1] if backwards else there
    places = np.where(there, np.arange(len(there))[:, None], -1)
    places = np.maximum.accumulate(places, axis=0)
    found = places >= 0
    places = places.clip(0)
    if backwards:
        found, places = found[::-1], len(there) - 1 - places[::-1]
    return found.swapaxes(0, axis), places.swapaxes(0, axis)
