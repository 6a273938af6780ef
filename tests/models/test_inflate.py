"""Inflation is over the frames of a tubelet, and over nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.models.inflate import TUBELET_INITS, average, central_frame

KERNEL = jax.random.normal(jax.random.key(0), (4, 5, 3, 8))


def test_average_gives_a_still_clip_what_its_picture_gives():
    inflated = average(KERNEL, 3)
    picture = jax.random.normal(jax.random.key(1), (4, 5, 3))
    clip = jnp.broadcast_to(picture[None], (3, 4, 5, 3))
    np.testing.assert_allclose(
        jnp.einsum("thwc,thwcd->d", clip, inflated),
        jnp.einsum("hwc,hwcd->d", picture, KERNEL),
        rtol=1e-4,
    )


@pytest.mark.parametrize(("frames", "central"), [(1, 0), (2, 1), (4, 2), (5, 2)])
def test_central_frame_zeroes_every_frame_but_one(frames, central):
    inflated = central_frame(KERNEL, frames)
    assert inflated.shape == (frames, 4, 5, 3, 8)
    for frame in range(frames):
        np.testing.assert_array_equal(inflated[frame], KERNEL if frame == central else 0)


def test_initialisers_inflate_over_time_and_not_over_columns():
    shape, key = (2, 4, 5, 3, 64), jax.random.key(0)
    averaged = TUBELET_INITS["average"](key, shape)
    np.testing.assert_array_equal(averaged[0], averaged[1])
    centred = TUBELET_INITS["central_frame"](key, shape)
    np.testing.assert_array_equal(centred[0], 0)
    assert (np.abs(centred[1]).sum(axis=(0, 2, 3)) > 0).all()
    # Each image kernel has the variance 1 / (rows * columns * channels).
    np.testing.assert_allclose(float(centred[1].std()), (4 * 5 * 3) ** -0.5, rtol=0.05)
    np.testing.assert_allclose(averaged.sum(axis=0), centred.sum(axis=0), rtol=1e-6)
