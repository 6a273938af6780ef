"""Mixup and CutMix: shares of pixels and of labels agree."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.objectives.mixup import mix

B, T, H, W = 6, 2, 20, 24
ALPHAS = {"mixup": (0.8, 0.0), "cutmix": (0.0, 1.0), "both": (0.8, 1.0)}


@pytest.fixture(scope="module")
def video() -> jax.Array:
    """Clip i is all i."""
    return jnp.broadcast_to(
        jnp.arange(B, dtype=jnp.float32).reshape(B, 1, 1, 1, 1), (B, T, H, W, 3)
    )


@cache
def compiled(alphas):
    return jax.jit(partial(mix, mixup_alpha=alphas[0], cutmix_alpha=alphas[1]))


def run(video, key, alphas, valid=None):
    valid = jnp.ones(B, bool) if valid is None else valid
    return [np.asarray(x) for x in compiled(alphas)(video, jnp.eye(B), valid, key)]


@pytest.mark.parametrize("alphas", ALPHAS.values(), ids=ALPHAS)
def test_labels_are_mixed_in_the_shares_of_the_pixels(video, alphas):
    for seed in range(8):
        mixed, targets = run(video, jax.random.key(seed), alphas)
        np.testing.assert_allclose(targets.sum(axis=1), 1, atol=1e-6)
        for i in range(B):
            own = targets[i, i]
            np.testing.assert_allclose(targets[i, B - 1 - i], 1 - own, atol=1e-6)
            pixels = own * i + (1 - own) * (B - 1 - i)
            np.testing.assert_allclose(mixed[i].mean(), pixels, atol=1e-4)


def test_cutmix_takes_one_box_for_all_frames_and_mixup_the_whole_picture(video):
    mixed, targets = run(video, jax.random.key(1), ALPHAS["cutmix"])
    cut = mixed[0] == B - 1
    assert ((mixed[0] == 0) | cut).all()
    assert (cut == cut[:1]).all()
    rows, columns = cut[0, :, :, 0].any(axis=1), cut[0, :, :, 0].any(axis=0)
    assert cut[0, :, :, 0].sum() == rows.sum() * columns.sum()
    assert 0 < cut.mean() < 1
    assert np.ptp(run(video, jax.random.key(1), ALPHAS["mixup"])[0][0]) == 0


def test_both_on_chooses_each_about_half_of_the_time(video):
    mixed = np.array([run(video, jax.random.key(i), ALPHAS["both"])[0][0] for i in range(200)])
    mixup = ~np.isin(mixed, [0, B - 1]).all(axis=(1, 2, 3, 4))
    assert 0.38 < mixup.mean() < 0.62


@pytest.mark.parametrize("alphas", ALPHAS.values(), ids=ALPHAS)
def test_padding_and_its_partner_stay_as_they_are(video, alphas):
    valid = jnp.array([True, True, True, True, False, False])
    mixed, targets = run(video, jax.random.key(2), alphas, valid)
    unmixed = [0, 1, 4, 5]
    np.testing.assert_array_equal(mixed[unmixed], video[jnp.array(unmixed)])
    np.testing.assert_array_equal(targets[unmixed], np.eye(B)[unmixed])
    assert targets[2, 2] < 1


def test_a_key_gives_the_same_mixture_again_and_another_key_another(video):
    first, second = (run(video, jax.random.key(3), ALPHAS["both"])[0] for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert (run(video, jax.random.key(4), ALPHAS["both"])[0] != first).any()


def test_with_both_off_nothing_is_drawn(video):
    program = jax.make_jaxpr(partial(mix, mixup_alpha=0.0, cutmix_alpha=0.0))(
        video, jnp.eye(B), jnp.ones(B, bool), jax.random.key(0)
    )
    assert not program.eqns
