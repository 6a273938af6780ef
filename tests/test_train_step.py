import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vivit_jax import config, sharding
from vivit_jax.data.augment import make_augment
from vivit_jax.models.video_transformer import CHOICES, VideoTransformer
from vivit_jax.objectives.base import Outcome
from vivit_jax.objectives.classify import Classify
from vivit_jax.objectives.latent_prediction import LatentPrediction
from vivit_jax.objectives.masked_pixels import MaskedPixels
from vivit_jax.train_step import init_state, train_step
from vivit_jax.trees import by_path

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


def spoilt(augment):
    """Returns an augmentation that makes NaN of a clip that is all white."""

    def spoil(video, keys):
        white = (video == 255).all(axis=(1, 2, 3, 4), keepdims=True)
        return jnp.where(white, jnp.nan, augment(video, keys))

    return spoil


def latent():
    encoder = VideoTransformer(size="mu", tubelet=(2, 4, 4), pool="mean", positions="sincos_3d")
    small = {"predictor_width": 16, "predictor_heads": 2, "predictor_depth": 1}
    return LatentPrediction(encoder, blocks=(3,), block_scales=(0.2,), **small)


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

    state = make_state(objective, optimizer, average=0.9)
    step = jax.jit(
        functools.partial(
            train_step,
            objective=objective,
            optimizer=optimizer,
            augment=spoilt(augment),
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


@pytest.mark.slow
def test_a_teacher_is_the_average_of_the_encoder():
    objective = latent()
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


@pytest.mark.slow
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


@pytest.mark.slow
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


def mixing():
    encoder = VideoTransformer(size="mu", tubelet=(2, 8, 8), dtype="bfloat16", dropout=0.1)
    return Classify(encoder, (3,), mixup=0.8, cutmix=1.0)


PARTS = {"accumulate": 2, "clip_parts": 0.5}
CASES = {  # objective, options of the step, sizes of the mesh, which clips a white third one spoils
    "parts, mixing and bfloat16 on 8 devices": (mixing, PARTS, {"data": 4, "fsdp": 2}, (2, 12)),
    "a teacher": (latent, {}, None, (2,)),
    "mixing": (mixing, {}, None, (2, 13)),
    "a teacher and parts on 8 devices": (latent, PARTS, {"data": 1, "fsdp": 8}, (2,)),
}
QUICK_CASES = [*CASES][:1]


@pytest.mark.parametrize(
    "case", [pytest.param(c, marks=() if c in QUICK_CASES else pytest.mark.slow) for c in CASES]
)
@pytest.mark.parametrize("at", [0, 2], ids=["in the warm-up", "later"])
def test_a_step_that_is_left_out_changes_nothing_of_those_after_it(case, at):
    make, options, sizes, guilty = CASES[case]
    objective, schedule = make(), optax.linear_schedule(0.0, 1e-2, 2)
    optimizer, average = optax.adam(schedule), 0.9
    mesh = sharding.make_mesh(config.Mesh(**(sizes or {})), None if sizes else jax.devices()[:1])
    step = functools.partial(
        train_step,
        objective=objective,
        optimizer=optimizer,
        augment=spoilt(make_augment(config.Augment(), (0.5,) * 3, (0.5,) * 3)),
        seed=0,
        average=average,
        spike=10.0,
        **options,
    )

    def batch(number, white=False):
        pair = [make_batch(2 * number), make_batch(2 * number + 1)]
        both = {name: np.concatenate([one[name] for one in pair]) for name in pair[0]}
        both["position"] = np.arange(16, dtype=np.uint32) + 16 * number
        both["index"] = np.arange(16, dtype=np.int32)
        if white:
            both["video"][2] = 255
        return sharding.to_devices(both, mesh)

    def init():
        streams = {"params": jax.random.key(0), "mask": jax.random.key(1)}
        clip = {k: v[:1] for k, v in make_batch().items()}
        return init_state(objective.init(streams, clip)["params"], optimizer, True, (), 16)

    places = sharding.shardings(jax.eval_shape(init), mesh)
    outputs = (places, sharding.replicated(mesh))
    step = jax.jit(step, out_shardings=outputs)
    state = by_hand = jax.jit(init, out_shardings=places)()
    with jax.set_mesh(mesh):
        for number in range(at + 3):
            state, info = step(state, batch(number, number == at))
            if number != at:
                by_hand, _ = step(by_hand, batch(number))
                assert not bool(info.skipped)
                continue
            by_hand = by_hand.replace(step=by_hand.step + 1, skipped=by_hand.skipped + 1)
            assert bool(info.skipped)
            assert not bool(info.spike)
            assert tuple(np.asarray(info.index)[~np.asarray(info.finite)]) == guilty
            assert_equal(state, by_hand)
    assert_equal(state, by_hand)
    assert int(state.skipped) == 1


def test_a_spike_is_left_out_and_a_new_level_is_not():
    objective, optimizer = make_objective(), optax.sgd(1e-4)
    clip = {k: v[:1] for k, v in make_batch().items()}
    params = jax.jit(objective.init)(jax.random.key(0), clip)["params"]
    state = init_state(params, optimizer, False, (), 16)

    class Louder(Classify):
        """Multiplies losses by what a batch says."""

        def __call__(self, batch, *, train=False):
            losses, metrics = super().__call__(batch, train=train)
            return Outcome(losses * batch["times"], metrics)

    step = make_step(Louder(objective.encoder, (3,)), optimizer, spike=10.0)
    found = []
    for number in range(30):
        times = 1e4 if number == 18 or number >= 22 else 1.0
        before = state
        state, info = step(state, {**make_batch(number), "times": jnp.full(8, times)})
        found.append(bool(info.spike))
        if info.spike:
            assert bool(info.skipped)
            assert_equal((state.params, state.opt_state), (before.params, before.opt_state))
    assert np.flatnonzero(found).tolist() == [18, *range(22, 27)]
    assert int(state.skipped) == 6


def test_a_state_without_the_rule_for_spikes_holds_what_it_always_held():
    state = make_state(make_objective())
    assert state.history == {}
    paths = {path.split("/")[0] for path in by_path(state)}
    assert paths == {"step", "skipped", "params", "opt_state"}


def test_a_part_whose_norm_overflows_is_not_taken_for_nothing():
    objective, optimizer = make_objective(), optax.sgd(1.0)
    state, batch = make_state(objective, optimizer), make_batch()
    head = state.params["head"]
    wild = 1e25 * jax.random.normal(jax.random.key(0), head["kernel"].shape)
    huge = {**state.params, "head": {**head, "kernel": wild}}
    after, info = make_step(objective, optimizer, accumulate=2, clip_parts=0.1)(
        state.replace(params=huge), batch
    )
    assert np.isfinite(info.metrics["loss"])
    assert bool(info.skipped)
    assert_equal(after.params, huge)
