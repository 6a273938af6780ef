import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vivit_jax import config
from vivit_jax.data.augment import make_augment
from vivit_jax.models.video_transformer import CHOICES, VideoTransformer
from vivit_jax.objectives.classify import Classify
from vivit_jax.objectives.latent_prediction import LatentPrediction
from vivit_jax.objectives.masked_pixels import MaskedPixels
from vivit_jax.train_step import init_state, train_step

SHAPE = (8, 4, 16, 16, 3)


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "video": jnp.asarray(rng.integers(0, 256, SHAPE, np.uint8)),
        "label": jnp.arange(8, dtype=jnp.int32) % 3,
        "valid": jnp.ones(8, bool),
        "position": jnp.arange(8, dtype=jnp.uint32),
        "index": jnp.arange(100, 108, dtype=jnp.int32),
    }


def make_objective(attention="joint", **options):
    pool = "mean" if attention.startswith("factorised") else "class_token"
    encoder = VideoTransformer(
        size="mu", tubelet=(2, 8, 8), attention=attention, temporal_depth=1, pool=pool, **options
    )
    return Classify(encoder, (3,))


def make_state(objective, optimizer=None, average=0.0):
    clip = {k: v[:1] for k, v in make_batch().items()}
    params = jax.jit(objective.init)(jax.random.key(0), clip)["params"]
    return init_state(params, optimizer or optax.adam(1e-3), average)


def make_step(objective, optimizer=None, augment=None, **options):
    return jax.jit(
        functools.partial(
            train_step,
            objective=objective,
            optimizer=optimizer or optax.adam(1e-3),
            augment=make_augment(augment or config.Augment(flip=0.0), (0.5,) * 3, (0.5,) * 3),
            seed=0,
            **options,
        )
    )


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


@pytest.fixture(scope="module")
def plain():
    objective = make_objective()
    return objective, make_state(objective), make_step(objective)


QUICK = ("joint", "factorised_encoder")


@pytest.mark.parametrize(
    "attention",
    [pytest.param(x, marks=() if x in QUICK else pytest.mark.slow) for x in CHOICES["attention"]],
)
def test_every_arrangement_learns_a_batch_by_heart(attention):
    objective = make_objective(attention)
    state, step, batch = make_state(objective), make_step(objective), make_batch()
    losses = []
    for _ in range(6):
        state, info = step(state, batch)
        losses.append(float(info.metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(3), abs=1e-5)  # the head starts at zero
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < losses[0] - 0.02


def test_a_batch_in_parts_gives_the_update_of_the_whole(plain):
    objective, state, step = plain
    batch = make_batch()
    batch["valid"] = batch["valid"].at[3].set(False)
    whole, info = step(state, batch)
    parts, of_parts = make_step(objective, accumulate=4)(state, batch)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    assert_equal(info.finite, of_parts.finite)
    for name, value in info.metrics.items():
        assert float(of_parts.metrics[name]) == pytest.approx(float(value), rel=1e-5)


@pytest.mark.slow
def test_a_clipped_part_gives_the_mean_of_clipped_gradients():
    objective, optimizer = make_objective(), optax.sgd(1.0)
    state, most = make_state(objective, optimizer), 2.2
    batch = make_batch()
    batch["valid"] = batch["valid"].at[3].set(False)
    step = make_step(objective, optimizer)
    moved, norms = [], []
    for part in (0, 1):  # neighbours lie in different parts
        own = batch["valid"] & (jnp.arange(8) % 2 == part)
        after, info = step(state, {**batch, "valid": own})
        norms.append(float(info.metrics["grad_norm"]))
        change = jax.tree.map(lambda new, old: new - old, after.params, state.params)
        moved.append(jax.tree.map(lambda x: x * min(1.0, most / norms[-1]), change))
    assert min(norms) < most < max(norms)  # one part is clipped, and one is not
    expected = jax.tree.map(lambda x, a, b: x + a * 4 / 7 + b * 3 / 7, state.params, *moved)
    after, info = make_step(objective, optimizer, accumulate=2, clip_parts=most)(state, batch)
    assert float(info.metrics["grad_norm"]) < most
    for a, b in zip(jax.tree.leaves(after.params), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_part_without_a_readable_video_is_clipped_to_nothing():
    objective, optimizer = make_objective(), optax.sgd(1.0)
    state, batch = make_state(objective, optimizer), make_batch()
    batch["valid"] = jnp.arange(8) % 2 == 0
    after, info = make_step(objective, optimizer, accumulate=2, clip_parts=0.1)(state, batch)
    assert not bool(info.skipped)
    assert float(info.metrics["grad_norm"]) == pytest.approx(0.1, rel=1e-5)


def test_what_is_not_valid_counts_for_nothing(plain):
    _, state, step = plain
    batch = make_batch()
    batch["valid"] = batch["valid"].at[5].set(False)
    after, info = step(state, batch)
    other = {**batch, "video": batch["video"].at[5].set(7), "label": batch["label"].at[5].set(2)}
    same, of_other = step(state, other)
    assert_equal(after, same)
    assert_equal(info.metrics, of_other.metrics)


def test_a_loss_that_is_not_finite_changes_nothing_and_is_named():
    objective = make_objective()
    optimizer = optax.adam(1e-3)
    augment = make_augment(config.Augment(flip=0.0), (0.5,) * 3, (0.5,) * 3)

    def spoil(video, keys):
        clips = augment(video, keys)
        return jnp.where((video == 255).all(axis=(1, 2, 3, 4), keepdims=True), jnp.nan, clips)

    state = make_state(objective, optimizer, average=0.9)
    step = jax.jit(
        functools.partial(
            train_step,
            objective=objective,
            optimizer=optimizer,
            augment=spoil,
            seed=0,
            average=0.9,
        )
    )
    batch = make_batch()
    batch["video"] = batch["video"].at[2].set(255)
    after, info = step(state, batch)
    assert bool(info.skipped)
    assert list(np.asarray(info.index)[~np.asarray(info.finite)]) == [102]
    assert (int(after.step), int(after.skipped)) == (1, 1)
    for name in ("params", "opt_state", "average"):
        assert_equal(getattr(after, name), getattr(state, name))
    later, info = step(after, make_batch())
    assert not bool(info.skipped)
    assert (int(later.step), int(later.skipped)) == (2, 1)


def test_a_batch_without_a_readable_video_changes_nothing(plain):
    _, state, step = plain
    after, info = step(state, {**make_batch(), "valid": jnp.zeros(8, bool)})
    assert bool(info.skipped)
    assert_equal(after.params, state.params)


def test_the_average_follows_the_parameters():
    objective = make_objective()
    before = make_state(objective, average=0.75)
    after, _ = make_step(objective, average=0.75)(before, make_batch())
    expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, before.params, after.params)
    for a, b in zip(jax.tree.leaves(after.average), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_a_teacher_is_the_average_of_the_encoder():
    encoder = VideoTransformer(size="mu", tubelet=(2, 4, 4), pool="mean", positions="sincos_3d")
    objective = LatentPrediction(
        encoder,
        blocks=(3,),
        block_scales=(0.2,),
        predictor_width=16,
        predictor_heads=2,
        predictor_depth=1,
    )
    batch = make_batch()
    streams = {"params": jax.random.key(0), "mask": jax.random.key(1)}
    params = jax.jit(objective.init)(streams, batch)["params"]
    state = init_state(params, optax.adam(1e-3), True)
    step = make_step(objective, average=0.9)
    other = jax.tree.map(lambda x: 1.5 * x, state.average)
    losses = [
        float(step(s, batch)[1].metrics["loss"]) for s in (state, state.replace(average=other))
    ]
    assert losses[0] != losses[1]
    # Only what the encoder's average holds is read.
    other = {**state.average, "predictor": other["predictor"]}
    again = step(state.replace(average=other), batch)[1].metrics["loss"]
    assert float(again) == losses[0]


def test_an_average_s_decay_may_change_with_the_steps():
    objective = make_objective()
    before = make_state(objective, average=0.5).replace(step=jnp.array(3))
    step = make_step(objective, average=lambda done: 0.25 * done)
    after, _ = step(before, make_batch())
    expected = jax.tree.map(lambda old, new: 0.75 * old + 0.25 * new, before.params, after.params)
    for a, b in zip(jax.tree.leaves(after.average), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


def test_masks_are_drawn_by_step_and_not_by_place():
    encoder = VideoTransformer(size="mu", tubelet=(2, 4, 4), pool="mean", positions="sincos_3d")
    objective = MaskedPixels(
        encoder, mask_ratio=0.5, decoder_width=16, decoder_heads=2, decoder_depth=1
    )
    batch = make_batch()
    streams = {"params": jax.random.key(0), "mask": jax.random.key(1)}
    params = jax.jit(objective.init)(streams, batch)["params"]
    state, step = init_state(params, optax.adam(1e-3), False), make_step(objective)

    def loss(state, **changes):
        return float(step(state, {**batch, **changes})[1].metrics["loss"])

    assert loss(state) == loss(state, position=batch["position"] + 8)
    assert loss(state) != loss(state.replace(step=jnp.array(1)))


def test_augmentation_is_drawn_by_position_and_dropout_by_step():
    dropped = make_objective(dropout=0.5)
    augmented = make_objective()
    batch = make_batch()
    later = {"position": batch["position"] + 8}

    def loss(step, state, **changes):
        return float(step(state, {**batch, **changes})[1].metrics["grad_norm"])

    state, step = make_state(dropped), make_step(dropped)
    assert loss(step, state) == loss(step, state) == loss(step, state, **later)
    assert loss(step, state) != loss(step, state.replace(step=jnp.array(1)))
    state = make_state(augmented)
    step = make_step(augmented, augment=config.Augment(flip=0.5))
    assert loss(step, state) == loss(step, state.replace(step=jnp.array(1)))
    assert loss(step, state) != loss(step, state, **later)
