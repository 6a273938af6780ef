"""How alike two pictures are: the peak signal-to-noise ratio, and the structural similarity.

Source: Wang et al. 2004, section III: windows of 11 x 11 under a Gaussian of 1.5 pixels, K1 = 0.01,
K2 = 0.03, biased moments; each colour apart, then the mean. Legend: any number of pictures in
front of H rows, W columns and c colours.
"""

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float

_RADIUS, _SIGMA = 5, 1.5  # pixels: half of a window, and of its Gaussian
_K1, _K2 = 0.01, 0.03
Pictures = Float[np.ndarray, "*n H W c"]
Pixels = Bool[np.ndarray, "*n H W"]


def psnr(
    first: Pictures, second: Pictures, where: Pixels | None = None, peak: float = 1.0
) -> float:
    """Returns the peak signal-to-noise ratio in dB; infinite of equal pictures, NaN of no pixel.

    Args:
      first: pixels from 0 to `peak`.
      second: likewise.
      where: which pixels count; None for all.
      peak: the largest value a pixel can have.
    """
    error = (np.asarray(first, np.float64) - np.asarray(second, np.float64)) ** 2
    if where is not None:
        error = error[where]
    return of_error(float(error.mean()) if error.size else np.nan, peak)


def of_error(mean_squared_error: float, peak: float = 1.0) -> float:
    """Returns the peak signal-to-noise ratio of a mean squared error, dB."""
    if mean_squared_error == 0:
        return float("inf")
    return float(10 * np.log10(peak**2 / mean_squared_error))


def ssim(
    first: Pictures, second: Pictures, where: Pixels | None = None, peak: float = 1.0
) -> float:
    """Returns the mean structural similarity, at most 1; NaN of no pixel.

    Args:
      first: pixels from 0 to `peak`, at least 11 rows and columns.
      second: likewise.
      where: pixels whose windows count, up to the border, where pictures are mirrored; None for
        every window that lies within, as the paper has it.
      peak: the largest value a pixel can have.
    """
    each = ssim_map(first, second, peak)
    if where is None:
        inner = slice(_RADIUS, -_RADIUS)
        return float(each[..., inner, inner, :].mean())
    return float(each[where].mean()) if where.any() else float("nan")


def ssim_map(first: Pictures, second: Pictures, peak: float = 1.0) -> Pictures:
    """Returns the structural similarity of the windows around every pixel.

    Args:
      first: pixels from 0 to `peak`; mirrored at the border.
      second: likewise.
      peak: the largest value a pixel can have.

    Raises:
      ValueError: they are not of one shape, or smaller than a window.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if x.shape != y.shape:
        raise ValueError(f"Pictures of shapes {x.shape} and {y.shape}.")
    if min(x.shape[-3:-1]) < 2 * _RADIUS + 1:
        raise ValueError(f"Pictures of {x.shape[-3:-1]} pixels; a window has 11 x 11.")
    c1, c2 = (_K1 * peak) ** 2, (_K2 * peak) ** 2
    mean_x, mean_y = _blurred(x), _blurred(y)
    variance_x = _blurred(x * x) - mean_x**2
    variance_y = _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    alike = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return alike / ((mean_x**2 + mean_y**2 + c1) * (variance_x + variance_y + c2))


def _blurred(x: Pictures) -> Pictures:
    """Returns the means under the window around every pixel."""
    taps = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    taps /= taps.sum()
    for axis in (-3, -2):
        x = scipy.ndimage.correlate1d(x, taps, axis=axis, mode="reflect")
    return x
