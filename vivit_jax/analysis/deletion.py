"""Whether what is said to count does count: tubelets taken away, or given, in that order.

Deletion takes tubelets out of a clip, the most important first; insertion gives them back to what
is left when all are gone. The curve is the probability of the class by the share of tubelets that
are there; the less is under deletion's, and the more under insertion's, the better the order. What
is not there is the clip blurred in space and time, or its mean colour, so that no edges are made
that mean something to the model. A random order says what both are worth for nothing.

Source: Petsiuk et al. 2018 (RISE), section 4.3.
"""

from typing import NamedTuple

import numpy as np
import scipy.ndimage
from einops import repeat
from jaxtyping import Bool, Float, Int, UInt8

from vivit_jax.analysis.attribution import axes_of
from vivit_jax.observer import Observer

LEVELS = 16  # steps from nothing to everything
_SIDES = 1.0  # standard deviations of the blur, sides of a tubelet
Clip = UInt8[np.ndarray, "T H W 3"]
Order = Int[np.ndarray, " N"]


class Areas(NamedTuple):
    """What an order of tubelets is worth.

    Attributes:
      deletion: area under the curve, 0 to 1; lower is better.
      insertion: likewise; higher is better.
    """

    deletion: float
    insertion: float


def without(clip: Clip, axes: tuple[int, int, int], removed: str = "blurred") -> Clip:
    """Returns what is left of a clip when no tubelet is there.

    Args:
      clip: whose.
      axes: of its tubelets.
      removed: one of choices.REMOVED.
    """
    pixels = clip.astype(np.float32)
    if removed == "mean":
        left = np.broadcast_to(pixels.mean(axis=(0, 1, 2)), clip.shape)
    else:
        sides = [_SIDES * length / count for length, count in zip(clip.shape, axes, strict=False)]
        left = scipy.ndimage.gaussian_filter(pixels, [*sides, 0], mode="nearest")
    return np.round(left).astype(np.uint8)


def ranked(tubelets: Float[np.ndarray, "t h w"]) -> Order:
    """Returns the tubelets' numbers, the most important first."""
    return np.argsort(-tubelets.ravel(), kind="stable")


def areas(
    observer: Observer, clip: Clip, chosen: int, orders: list[Order], removed: str = "blurred"
) -> list[Areas]:
    """Returns what orders of a clip's tubelets are worth.

    Args:
      observer: a classifier.
      clip: whose tubelets.
      chosen: class, counted over all heads.
      orders: of all tubelets.
      removed: one of choices.REMOVED.
    """
    axes = axes_of(observer.encoder[0], len(clip), clip.shape[1])
    left = without(clip, axes, removed)
    counts = np.round(np.linspace(0, np.prod(axes), LEVELS + 1)).astype(int)
    found = []
    for order in orders:
        ranks = np.argsort(order)
        there = [ranks < count for count in counts] + [ranks >= count for count in counts]
        clips = np.stack([mixed(clip, left, one.reshape(axes)) for one in there])
        curves = observer.scores(clips[:, None])[:, chosen].reshape(2, LEVELS + 1)
        inserted, deleted = (float(np.trapezoid(curve, counts) / counts[-1]) for curve in curves)
        found.append(Areas(deleted, inserted))
    return found


def mixed(clip: Clip, left: Clip, there: Bool[np.ndarray, "t h w"]) -> Clip:
    """Returns a clip where tubelets are there, and what is left of it elsewhere."""
    f, r, c = (length // count for length, count in zip(clip.shape, there.shape, strict=False))
    pixels = repeat(there, "t h w -> (t f) (h r) (w c) 1", f=f, r=r, c=c)
    return np.where(pixels, clip, left)


def at_random(count: int, tubelets: int, seed: int = 0) -> list[Order]:
    """Returns random orders of tubelets."""
    rng = np.random.default_rng(seed)
    return [rng.permutation(tubelets) for _ in range(count)]


def mean_of(found: list[Areas]) -> Areas:
    """Returns the mean of several."""
    return Areas(*np.mean(np.asarray(found), axis=0).tolist())
