"""What an observer says of clips is what the run's own evaluation says of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from vivit_jax import train, trained
from vivit_jax.errors import InputError
from vivit_jax.evals.multi_view import view_scores
from vivit_jax.observer import Observer


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(0).integers(0, 256, (11, 3, 4, 16, 16, 3), np.uint8)


def test_scores_are_the_evaluations_whatever_the_group(tiny_run, clips):
    seen = Observer(str(tiny_run), at_once=1)  # 8 devices: 11 clips are two groups
    objective, params = seen.objective
    with jax.set_mesh(seen.mesh):
        expected = jax.jit(lambda p, x: view_scores(objective, p, x, seen.experiment.eval))(
            params, clips
        )
    np.testing.assert_allclose(seen.scores(clips), expected, atol=1e-6)
    assert seen.scores(clips).shape == (11, 2)
    assert seen.label_maps == (("a", "b"),)


def test_summaries_are_the_encoders_mean_over_crops(tiny_run, clips):
    seen = Observer(str(tiny_run))
    saved = trained.find(str(tiny_run))
    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    encoder, params = trained.read_encoder(saved, place)
    crops = [encoder.apply({"params": params}, jnp.asarray(clips[:, i])).summary for i in range(3)]
    expected = np.mean(crops, axis=0)
    np.testing.assert_allclose(seen.summaries(clips), expected, atol=1e-5)


def test_a_fingerprint_is_of_the_weights_and_of_how_clips_are_made(tiny_run):
    first, same, other = (Observer(str(tiny_run)) for _ in range(3))
    assert first.fingerprint == same.fingerprint
    encoder, params = other.encoder
    params = jax.tree.map(lambda x: x * 1.5, params)
    other.__dict__["encoder"] = encoder, params
    assert other.fingerprint != first.fingerprint
    assert first.fingerprint_of_scores == same.fingerprint_of_scores
    head = Observer(str(tiny_run))
    objective, params = head.objective
    head.__dict__["objective"] = (
        objective,
        {**params, "head": jax.tree.map(jnp.negative, params["head"])},
    )
    assert head.fingerprint == first.fingerprint
    assert head.fingerprint_of_scores != first.fingerprint_of_scores


@pytest.mark.slow
def test_a_model_without_classes_is_refused_where_classes_are_wanted(tiny_videos, tmp_path, clips):
    data = {"root": str(tiny_videos), "labels": "none"}
    objective = {"name": "masked_pixels", "decoder_width": 24, "decoder_depth": 1}
    objective |= {"decoder_heads": 2}
    train.run(
        tiny.experiment(data=data, objective=objective, train={"steps": 1, "evaluate": False}),
        tmp_path,
    )
    seen = Observer(str(tmp_path))
    with pytest.raises(InputError, match="predicts nothing of labels"):
        seen.scores(clips)
    assert seen.summaries(clips[:2]).shape == (2, 32)
    objective, params = seen.objective
    assert set(params) >= {"encoder", "decoder"}


def test_many_clips_are_run_by_one_program_of_no_more_than_come_at_once(tiny_run):
    seen, sizes = Observer(str(tiny_run)), []

    def first_pixel(params, clips):
        sizes.append(len(clips))  # while it is traced, once a program
        return clips[:, 0, 0, 0, 0]

    see = seen.seeing(first_pixel, {})
    for count in (16, 3, 33, 9):  # on 8 devices
        clips = np.arange(3 * count, dtype=np.uint8).reshape(count, 1, 1, 1, 1, 3)
        np.testing.assert_array_equal(see(clips), clips[:, 0, 0, 0, 0])
    assert sizes == [16, 8]
