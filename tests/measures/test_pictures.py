"""PSNR and SSIM are the papers', by a loop over windows and by scikit-image."""

import numpy as np
import pytest

from vivit_jax.measures import pictures

Y, X = np.mgrid[:24, :31]
FIRST = np.stack([0.5 + 0.4 * np.sin(X / 3 + Y / 5 + c) for c in range(3)], -1)
SECOND = np.clip(FIRST + 0.1 * np.cos(X * Y / 17.0)[..., None], 0, 1)
# scikit-image 0.26.0: structural_similarity(FIRST, SECOND, data_range=1, gaussian_weights=True,
# sigma=1.5, use_sample_covariance=False, channel_axis=-1), the same of (FIRST, 1 - FIRST), and
# peak_signal_noise_ratio(FIRST, SECOND, data_range=1).
SSIM, OPPOSITE, PSNR = 0.8842176857593055, -0.6287118514847948, 22.778268301262084


def looped(x, y):
    """The mean over all windows of one colour, as section III has it."""
    at = np.arange(-5, 6)
    weights = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for i in range(5, x.shape[0] - 5):
        for j in range(5, x.shape[1] - 5):
            p, q = (z[i - 5 : i + 6, j - 5 : j + 6] for z in (x, y))
            mean_p, mean_q = (weights * p).sum(), (weights * q).sum()
            var_p, var_q = ((weights * (z - m) ** 2).sum() for z, m in ((p, mean_p), (q, mean_q)))
            both = (weights * (p - mean_p) * (q - mean_q)).sum()
            alike = (2 * mean_p * mean_q + 0.01**2) * (2 * both + 0.03**2)
            found.append(alike / ((mean_p**2 + mean_q**2 + 1e-4) * (var_p + var_q + 9e-4)))
    return np.mean(found)


def test_ssim_is_a_loops_over_windows():
    each = [looped(FIRST[..., c], SECOND[..., c]) for c in range(3)]
    assert pictures.ssim(FIRST, SECOND) == pytest.approx(np.mean(each), abs=1e-12)


def test_ssim_and_psnr_are_scikit_images_whatever_the_peak():
    assert pictures.ssim(FIRST, SECOND) == pytest.approx(SSIM, abs=1e-9)
    assert pictures.ssim(255 * FIRST, 255 * SECOND, peak=255) == pytest.approx(SSIM, abs=1e-9)
    assert pictures.ssim(FIRST, 1 - FIRST) == pytest.approx(OPPOSITE, abs=1e-9)
    assert pictures.psnr(FIRST, SECOND) == pytest.approx(PSNR, abs=1e-9)
    assert pictures.psnr(255 * FIRST, 255 * SECOND, peak=255) == pytest.approx(PSNR, abs=1e-9)


def test_a_picture_is_most_like_itself():
    assert pictures.psnr(FIRST, FIRST) == np.inf
    assert pictures.ssim(FIRST, FIRST) == pytest.approx(1)
    film = np.stack([FIRST, FIRST])
    assert pictures.ssim(film, np.stack([FIRST, SECOND])) == pytest.approx((1 + SSIM) / 2)


def test_only_the_pixels_that_are_asked_for_count():
    where = np.zeros(FIRST.shape[:2], bool)
    where[3:9, 4:20] = True
    worse = np.where(where[..., None], SECOND, 0.0)
    part = pictures.psnr(FIRST[3:9, 4:20], SECOND[3:9, 4:20])
    assert pictures.psnr(FIRST, worse, where) == pytest.approx(part)
    each = pictures.ssim_map(FIRST, SECOND)[where].mean()
    assert pictures.ssim(FIRST, SECOND, where) == pytest.approx(each)
    nothing = np.zeros_like(where)
    assert np.isnan(pictures.psnr(FIRST, SECOND, nothing))
    assert np.isnan(pictures.ssim(FIRST, SECOND, nothing))


def test_pictures_that_cannot_be_compared_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        pictures.ssim(FIRST, SECOND[1:])
    with pytest.raises(ValueError, match="a window has 11 x 11"):
        pictures.ssim(FIRST[:10], SECOND[:10])
