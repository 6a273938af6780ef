"""What counts for a class is found where it is, and sums to what it must."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vivit_jax import train
from vivit_jax.analysis import attribution, deletion
from vivit_jax.analysis.choices import METHODS, REMOVED
from vivit_jax.observer import Observer

AXES = (2, 2, 2)


@pytest.fixture(scope="module")
def observer(tiny_videos, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    model = {"attention": "factorised_encoder", "temporal_depth": 1, "scan": True}
    given = {"data": {"root": str(tiny_videos)}, "model": model, "train": {"evaluate": False}}
    train.run(tiny.experiment(**given), workdir)
    return Observer(str(workdir), at_once=2)


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(0).integers(0, 256, (5, 1, 4, 16, 16, 3), np.uint8)


def test_gradients_of_a_polynomial_are_integrated_to_its_difference():
    clip = jax.random.normal(jax.random.key(0), (2, 2, 4, 4, 3))
    weights = jax.random.normal(jax.random.key(1), clip.shape[1:])

    def score(video):
        linear = (video * weights[None]).sum(axis=(1, 2, 3, 4))
        return 0.1 * linear**3 - linear**2 + linear

    start = jnp.full((1, 1, 1, 1, 3), -0.5)
    added, missing = jax.jit(lambda x: attribution.integrate(score, x, start, 64))(clip)
    wanted = score(clip) - score(jnp.broadcast_to(start, clip.shape))
    np.testing.assert_allclose(added.sum(axis=(1, 2, 3, 4)), wanted, rtol=2e-3)
    assert (missing < 2e-3).all()
    # Of one product of all values, each has the share that it has of the product.
    shares = (clip - start) * weights[None]
    shares /= shares.sum(axis=(1, 2, 3, 4), keepdims=True)
    whole = added / added.sum(axis=(1, 2, 3, 4), keepdims=True)
    np.testing.assert_allclose(whole, shares, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_names_the_models_own_class_and_score(observer, clips, method):
    found = attribution.attribute(observer, method, steps=4)(clips)
    scores = observer.scores(clips)
    np.testing.assert_array_equal(found.classes, scores.argmax(axis=1))
    np.testing.assert_allclose(found.scores, scores.max(axis=1), atol=1e-5)
    assert found.tubelets.shape == (5, *AXES)
    assert np.ptp(found.tubelets) > 0
    positive = attribution.shares(found.tubelets)
    np.testing.assert_allclose(positive.sum(axis=(1, 2, 3)), 1, atol=1e-5)
    assert np.isnan(found.gaps).all() == (method != "integrated_gradients")


@pytest.mark.slow
def test_integrated_gradients_are_complete_on_a_model(observer, clips):
    found = attribution.attribute(observer, "integrated_gradients", steps=64)(clips)
    assert found.gaps.max() < 0.02


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS[1:])
def test_another_class_is_explained_by_other_tubelets(observer, clips, method):
    first, second = (attribution.attribute(observer, method, k, 4)(clips) for k in (0, 1))
    assert (first.classes == 0).all()
    assert (second.classes == 1).all()
    assert not np.allclose(first.tubelets, second.tubelets)


def test_what_no_pixel_of_changes_the_class_counts_nothing():
    objective = _OfOnePlace()
    variables = {"params": {}}
    video = jax.random.normal(jax.random.key(0), (1, 4, 16, 16, 3))

    def score(video):
        logits: Any = objective.apply(variables, {"video": video}, method="predict")
        return logits[:, 0]

    added, _ = attribution.integrate(score, video, jnp.zeros((1, 1, 1, 1, 3)), 4)
    elsewhere = np.asarray(added).copy()
    elsewhere[:, 2:, 8:, :8] = 0
    assert not elsewhere.any()
    assert np.asarray(added)[:, 2:, 8:, :8].all()


class _OfOnePlace(nn.Module):
    """A class that is one tubelet's brightness."""

    def predict(self, batch):
        return batch["video"][:, 2:, 8:, :8].sum(axis=(1, 2, 3, 4))[:, None]


@pytest.mark.slow
@pytest.mark.parametrize("removed", REMOVED)
def test_to_delete_in_an_order_is_to_insert_in_the_opposite_one(observer, clips, removed):
    order = np.random.default_rng(0).permutation(8)
    there, back = deletion.areas(observer, clips[0, 0], 1, [order, order[::-1]], removed)
    assert there.deletion == pytest.approx(back.insertion, abs=1e-6)
    assert there.insertion == pytest.approx(back.deletion, abs=1e-6)


def test_what_is_there_is_the_clip_and_what_is_not_is_what_is_left(clips):
    clip = clips[0, 0]
    left = deletion.without(clip, AXES, "mean")
    np.testing.assert_allclose(left[0, 0, 0], clip.mean(axis=(0, 1, 2)), atol=0.5)
    there = np.zeros(AXES, bool)
    there[1, 0, 1] = True
    mixed = deletion.mixed(clip, left, there)
    np.testing.assert_array_equal(mixed[2:, :8, 8:], clip[2:, :8, 8:])
    np.testing.assert_array_equal(mixed[:2], left[:2])
    blurred = deletion.without(clip, AXES)
    assert blurred.std() < 0.1 * clip.std()
