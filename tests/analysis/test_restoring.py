"""What is hidden is never read, what is there never changed, and what is mixed is the best mix."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from faults import runs as tiny_runs

from vivit_jax import train
from vivit_jax.analysis import plain_pictures
from vivit_jax.analysis.blending import Denoising, Trust, shepard
from vivit_jax.analysis.holes import Fill, Interpolate, moved
from vivit_jax.analysis.inpainting import Inpainter
from vivit_jax.analysis.restoring import Denoise, turns
from vivit_jax.analysis.stitching import Stitcher
from vivit_jax.errors import InputError
from vivit_jax.models.layers import take
from vivit_jax.models.video_transformer import normalise
from vivit_jax.objectives.masked_pixels import Drawn
from vivit_jax.observer import Observer

RNG = np.random.default_rng(0)
AXES = (4, 4, 4)


def test_linear_in_time_is_exact_where_all_moves_evenly_and_holds_at_the_ends():
    ramp = np.linspace(0, 1, 8, dtype=np.float32).reshape(1, 8, 1, 1, 1)
    clips = np.broadcast_to(ramp, (1, 8, 3, 4, 3))
    hidden = np.isin(np.arange(8), [2, 3, 5, 7])
    spoilt = np.where(hidden[None, :, None, None, None], np.float32(9), clips)
    found = plain_pictures.between_frames(spoilt, hidden)
    np.testing.assert_allclose(found[:, :7], clips[:, :7], atol=1e-6)
    np.testing.assert_array_equal(found[:, 7], clips[:, 6])


def test_between_borders_is_by_the_distance_to_each_of_four():
    clips = RNG.random((1, 1, 7, 9, 3)).astype(np.float32)
    hidden = np.zeros((7, 9), bool)
    hidden[2:5, 3:8] = True
    spoilt = np.where(hidden[..., None], np.float32(9), clips)
    found = plain_pictures.between_borders(spoilt, hidden)
    np.testing.assert_array_equal(found[:, :, ~hidden], clips[:, :, ~hidden])
    nearest = {(1, 4): 2, (5, 4): 2, (3, 2): 2, (3, 8): 4}  # of (3, 4), and how far
    weights = {at: 1 / far for at, far in nearest.items()}
    wanted = sum(w * clips[0, 0][at] for at, w in weights.items()) / sum(weights.values())
    np.testing.assert_allclose(found[0, 0, 3, 4], wanted, atol=1e-6)


def test_a_corner_is_filled_from_the_sides_that_it_has_and_a_frame_from_the_nearest():
    clips = np.full((1, 1, 6, 6, 3), 0.25, np.float32)
    corner = np.zeros((6, 6), bool)
    corner[:3, 4:] = True
    whole = np.ones((6, 6), bool)
    whole[2, 2] = False
    for hidden in (corner, whole):
        spoilt = np.where(hidden[..., None], np.float32(9), clips)
        np.testing.assert_allclose(plain_pictures.between_borders(spoilt, hidden), clips)


@pytest.mark.parametrize("noise", [0.01, 0.05])
def test_noise_is_measured_in_what_moves(noise):
    t, y, x = np.mgrid[:12, :32, :32]
    smooth = 0.5 + 0.3 * np.sin((x + t) / 5 + y / 7)
    clips = np.repeat(smooth[None, ..., None], 3, axis=-1).astype(np.float32)
    assert plain_pictures.noise_of(clips) < 0.002
    noisy = clips + noise * RNG.standard_normal(clips.shape, np.float32)
    assert plain_pictures.noise_of(noisy) == pytest.approx(noise, rel=0.05)


def test_the_shares_of_noisy_things_are_the_best_there_are():
    truth = RNG.random((4, 16, 32, 32, 3), np.float32)
    truth = plain_pictures.smoothed(plain_pictures.smoothed(truth))
    noise = 0.1
    seen = truth + noise * RNG.standard_normal(truth.shape, np.float32)
    model = truth + 0.06 * RNG.standard_normal(truth.shape, np.float32)
    filtered = plain_pictures.smoothed(seen)
    learnt = Denoising(plain_pictures.own_share())
    learnt.learn(seen, model, filtered, noise)
    found = learnt.shares

    def error(a, b):
        return np.square(seen + a * (model - seen) + b * (filtered - seen) - truth).mean()

    grid = np.linspace(0, 1, 21)
    errors = {(a, b): error(a, b) for a in grid for b in grid if a + b <= 1}
    best = min(errors, key=errors.__getitem__)
    assert error(*found) < 1.01 * errors[best]
    assert found == pytest.approx(best, abs=0.06)


def test_beside_a_filter_that_hardly_helps_shares_are_by_inverse_variance():
    truth = RNG.random((1, 16, 64, 64, 3), np.float32)  # which a Gaussian destroys
    seen = truth + 0.1 * RNG.standard_normal(truth.shape, np.float32)
    model = truth + 0.2 * RNG.standard_normal(truth.shape, np.float32)
    learnt = Denoising(plain_pictures.own_share())
    learnt.learn(seen, model, plain_pictures.smoothed(seen), 0.1)
    assert learnt.shares.model == pytest.approx(0.1**2 / (0.1**2 + 0.2**2), abs=0.02)


@pytest.mark.parametrize(("of_model", "of_plain"), [(0.02, 0.1), (0.1, 0.02), (0.05, 0.05)])
def test_trust_is_the_share_with_the_least_error(of_model, of_plain):
    truth = RNG.random((8, 20, 96))
    model, plain = (truth + s * RNG.standard_normal(truth.shape) for s in (of_model, of_plain))
    trust, known = Trust(), np.ones(truth.shape[1:], bool)
    trust.learn(model, plain, truth, known)
    wanted = of_plain**2 / (of_model**2 + of_plain**2)
    assert trust.share == pytest.approx(wanted, abs=0.02)
    np.testing.assert_allclose(trust.shares(model, plain, known), wanted, atol=0.1)


def test_trust_is_its_own_where_the_two_differ_more():
    truth = RNG.random((8, 40, 96))
    model, plain = truth + 0.02, truth.copy()  # nothing moves in the first tokens
    plain[:, 20:] += 0.3 * RNG.standard_normal(plain[:, 20:].shape)
    trust, known = Trust(), np.ones(truth.shape[1:], bool)
    trust.learn(model, plain, truth, known)
    shares = trust.shares(model, plain, known)[0, :, 0]
    assert (shares[:20] < 0.05).all()
    assert (shares[20:] > 0.95).all()
    assert Trust().share == 0.5


def test_of_several_checks_the_one_that_trusts_the_model_least_decides():
    truth = RNG.random((8, 20, 96))
    near, far = (truth + s * RNG.standard_normal(truth.shape) for s in (0.02, 0.1))
    trust, known = Trust(3), np.ones(truth.shape[1:], bool)
    trust.learn(near, far, truth, known, 0)
    assert trust.share > 0.9
    trust.learn(far, near, truth, known, 2)
    assert trust.share < 0.1
    assert (trust.shares(near, far, known) < 0.1).all()


def test_shepards_weights_sum_to_one_and_prefer_what_is_near():
    there = np.ones(64, bool)
    there[21] = False
    (weights,) = shepard(there, AXES)
    assert weights.sum() == pytest.approx(1)
    near = np.flatnonzero(weights == weights.max())
    places = np.flatnonzero(there)[near]
    assert set(places) == {21 - 16, 21 + 16, 21 - 4, 21 + 4, 21 - 1, 21 + 1}


def test_windows_that_overlap_are_put_together_as_they_were():
    film = RNG.random((20, 3)).astype(np.float32)
    stitcher, found = Stitcher(), {}
    for start in (0, 4, 14):
        stitcher.add(start, film[start : start + 6], np.ones(6, np.float32))
        found |= dict(stitcher.before(start))
    found |= dict(stitcher.before(20))
    assert sorted(found) == [*range(20)]
    for i in range(20):
        if 10 <= i < 14:
            assert found[i] is None
        else:
            np.testing.assert_allclose(found[i], film[i], rtol=1e-5)


def test_what_is_not_trusted_has_hardly_a_part():
    stitcher = Stitcher()
    stitcher.add(0, np.zeros((4, 1)), np.ones(4))
    stitcher.add(2, np.ones((4, 1)), np.array([1e-3, 1, 1, 1]))
    found = dict(stitcher.before(6))
    assert found[2] == pytest.approx(0, abs=1e-3)
    assert found[3] == pytest.approx(0.75)


@pytest.mark.parametrize("mask", ["tube", "slots", "random"])
@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.9])
def test_every_token_is_hidden_as_often_as_any_other(mask, ratio):
    masks = np.array(turns((3, 4, 5), mask, ratio))
    times = masks.sum(axis=0)
    assert (times == times[0]).all()
    assert masks.mean() == pytest.approx(ratio, abs=0.02)
    by_slot = masks.reshape(len(masks), 3, 20)
    assert (by_slot == by_slot[:, :1]).all() == (mask == "tube")
    assert np.ptp(by_slot.sum(axis=2), axis=1).max() == 0


def test_a_region_is_moved_by_tokens_to_where_it_has_the_same_borders():
    region = np.zeros((48, 48), bool)
    region[17:22, 18:30] = True
    found = moved(region, (8, 8), 3)
    assert len(found) == 3
    for place in found:
        assert place.sum() == region.sum()
        assert not (place & region).any()
        assert place[1:-1, 1:-1].sum() == place.sum()
        shift = np.argwhere(place).min(axis=0) - np.argwhere(region).min(axis=0)
        assert (shift % 8 == 0).all()
    assert moved(np.ones((16, 16), bool), (8, 8), 3) == []


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return tiny_runs.videos(tmp_path_factory.mktemp("videos"), 4, 0)


def masked_run(videos, folder, model=None, **objective):
    given = {"name": "masked_pixels", "decoder_width": 24, "decoder_depth": 1, "decoder_heads": 2}
    given |= {"mask": "random", "mask_ratio": 0.5, "target_normalised": "none", **objective}
    model = {"tubelet": (2, 4, 4), "pool": "mean", "positions": "sincos_3d", **(model or {})}
    data = {"root": str(videos), "labels": "none", "frames": 8}
    train.run(
        tiny.experiment(
            data=data,
            model=model,
            objective=given,
            optim={"learning_rate": 1e-3},
            train={"steps": 1, "evaluate": False},
        ),
        folder,
    )
    return Observer(str(folder))


@pytest.fixture(scope="module")
def observer(videos, tmp_path_factory):
    return masked_run(videos, tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def clips():
    return RNG.integers(0, 256, (3, 8, 16, 16, 3), np.uint8)


@pytest.mark.slow
def test_a_prediction_is_the_objectives_own_and_reads_nothing_that_is_hidden(observer, clips):
    inpainter, hidden = Inpainter(observer), RNG.random(64) < 0.4
    plain = RNG.random(clips.shape, np.float32)
    found = inpainter.fill(clips, plain, hidden)
    at = inpainter.by_frame(hidden[None, :, None])[0, ..., 0]
    spoilt = np.where(at[None, ..., None], 255 - clips, clips)
    np.testing.assert_array_equal(found, inpainter.fill(spoilt, plain, hidden))
    np.testing.assert_allclose(found[:, ~at], plain[:, ~at], atol=1e-6)

    objective, params = observer.objective
    video = normalise(jnp.asarray(clips), objective.encoder.mean, objective.encoder.std)
    places = (np.flatnonzero(x)[None].repeat(3, axis=0) for x in (~hidden, hidden))
    visible, masked = (jnp.asarray(x, jnp.int32) for x in places)
    drawn = Drawn(visible, masked, jnp.ones(masked.shape))

    @jax.jit
    def expected(params):
        predicted = objective.apply({"params": params}, video, drawn, method="fill_in")
        return objective.pixels(predicted, video, masked)

    true = np.asarray(expected(params)).clip(0, 1)
    cut = np.asarray(take(objective.cut(jnp.asarray(found)), masked))
    np.testing.assert_allclose(cut, true, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("frames", ["all", "first"])
def test_normalised_targets_take_the_moments_of_what_is_there(videos, tmp_path, frames):
    observer = masked_run(videos, tmp_path, target_normalised="colour", target_frames=frames)
    inpainter, hidden = Inpainter(observer), RNG.random(64) < 0.5
    # Of tokens of one mean and scale, whatever is hidden has these as well.
    pattern = RNG.integers(0, 256, (2, 4, 4, 3), np.uint8)
    clips = np.tile(pattern, (1, 4, 4, 4, 1))
    found = inpainter.fill(clips, np.zeros(clips.shape, np.float32), hidden)
    spoilt = inpainter.by_frame(hidden[None, :, None])
    again = inpainter.fill(np.where(spoilt, 0, clips).astype(np.uint8), found * 0, hidden)
    np.testing.assert_allclose(found, again, atol=1e-6)
    inside = found[spoilt.repeat(3, axis=-1)]
    assert abs(inside.mean() - pattern.mean() / 255) < 0.25


@pytest.mark.slow
def test_filling_changes_the_region_alone(observer, clips):
    region = np.zeros((16, 16), bool)
    region[5:8, 6:10] = True
    task = Fill(Inpainter(observer), region)
    found = task.restore(clips, [0, 2, 4])
    seen = clips / np.float32(255)
    for made in (found.plain, found.model, found.restored):
        np.testing.assert_allclose(made[:, :, ~region], seen[:, :, ~region], atol=1e-6)
    assert (found.given[:, :, region] == 0.5).all()
    spoilt = np.where(region[None, None, ..., None], 255 - clips, clips)
    np.testing.assert_array_equal(task.restore(spoilt, [0, 2, 4]).restored, _again(task, clips))
    assert 0 <= task.told()["share_of_model"] <= 1


def _again(task, clips):
    """What a task makes of clips that it has learnt from as often as of the ones before."""
    task.begin()
    task.restore(clips, [0, 2, 4])
    return task.restore(clips, [0, 2, 4]).restored


@pytest.mark.slow
def test_slots_are_dropped_by_the_videos_time_whatever_the_window(observer, clips):
    task = Interpolate(Inpainter(observer), 3)
    first, second = task.restore(clips, [0, 3, 6]), task.restore(clips, [1, 4, 7])
    np.testing.assert_array_equal(np.flatnonzero(first.hidden[0, :, 0, 0, 0]), [4, 5])
    np.testing.assert_array_equal(np.flatnonzero(second.hidden[0, :, 0, 0, 0]), [2, 3])
    assert task.phase(4) == 1
    ends = Interpolate(Inpainter(observer), 4).restore(clips, [0, 4, 8])
    np.testing.assert_allclose(ends.trust, [1] * 6 + [1e-3] * 2)


@pytest.mark.slow
def test_the_noise_of_a_frame_is_the_same_in_every_window(observer):
    still = np.full((2, 8, 16, 16, 3), 127, np.uint8)
    task = Denoise(Inpainter(observer), 0.05)
    found = task.restore(still, [0, 2])
    np.testing.assert_array_equal(found.given[0, 4:], found.given[1, :4])
    assert found.given.std() == pytest.approx(0.05, rel=0.05)
    assert task.told()["noise"] == pytest.approx(0.05, rel=0.1)
    error = [np.square(x - 127 / 255).mean() for x in (found.given, found.plain, found.restored)]
    assert error[2] < 1.02 * min(error)


@pytest.mark.slow
def test_what_cannot_be_restored_is_refused(observer, videos, tmp_path):
    inpainter = Inpainter(observer)
    with pytest.raises(InputError, match="the region has 0.0%"):
        Fill(inpainter, np.zeros((16, 16), bool))
    scattered = np.zeros((16, 16), bool)
    scattered[::4, ::4] = True
    with pytest.raises(InputError, match="touches 16 of 16 tokens of 4 x 4 pixels"):
        Fill(inpainter, scattered)
    with pytest.raises(InputError, match="--drop is 5; expected 2 to 4"):
        Interpolate(inpainter, 5)
    model = {"attention": "divided", "pool": "mean"}
    divided = Inpainter(masked_run(videos, tmp_path, model, mask="tube"))
    with pytest.raises(InputError, match="use a model of 'joint'"):
        Interpolate(divided, 2)
    region = np.zeros((16, 16), bool)
    region[5:8, 6:10] = True
    Fill(divided, region)
    Denoise(divided)
