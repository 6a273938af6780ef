"""Filters against SciPy's, differences of frames, and that they belong to the encoder."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from vivit_jax import config, sharding
from vivit_jax.errors import InputError
from vivit_jax.fitting import Source, fit
from vivit_jax.models.costs import multiply_accumulates
from vivit_jax.models.filters import gaussian, median, prepare
from vivit_jax.models.frame_models import FrameModel
from vivit_jax.models.video_transformer import VideoTransformer, normalise
from vivit_jax.objectives.masked_pixels import MaskedPixels
from vivit_jax.trees import as_tree, by_path

CLIP = np.random.default_rng(0).normal(size=(2, 4, 11, 14, 3)).astype(np.float32)
PIXELS = np.random.default_rng(1).integers(0, 256, (8, 4, 16, 16, 3), np.uint8)


def mu(**fields: Any) -> VideoTransformer:
    return VideoTransformer(**{"size": "mu", "tubelet": (2, 8, 8), "pool": "mean", **fields})


def random_params(model, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(model.init, jax.random.key(0), PIXELS)["params"]
    return jax.tree.map(lambda s: jnp.asarray(rng.normal(0, 0.2, s.shape), s.dtype), shapes)


def summary(model, params, video):
    return np.asarray(jax.jit(model.apply)({"params": params}, video).summary)


@pytest.mark.parametrize("size", [3, 5])
def test_the_median_is_scipys_to_the_bit(size):
    found = jax.jit(median, static_argnums=1)(CLIP, size)
    expected = ndimage.median_filter(CLIP, (1, 1, size, size, 1), mode="nearest")
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("sigma", [0.4, 1.0, 2.5])
def test_the_gaussian_is_scipys(sigma):
    found = jax.jit(gaussian, static_argnums=1)(CLIP, sigma)
    expected = ndimage.gaussian_filter(CLIP, (0, 0, sigma, sigma, 0), mode="nearest")
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_median_takes_single_pixels_out_and_leaves_an_edge():
    frame = np.zeros((1, 1, 9, 9, 1), np.float32)
    frame[..., 5:, :] = 1
    noisy = frame.copy()
    noisy[0, 0, 4, 2] = 1
    np.testing.assert_array_equal(median(jnp.asarray(noisy), 3), frame)


def test_a_difference_is_to_the_frame_before_and_the_first_ones_zero():
    expected = np.diff(CLIP, axis=1, prepend=CLIP[:, :1])
    assert not expected[:, 0].any()
    only = prepare(jnp.asarray(CLIP), "none", 3, 1.0, "only")
    np.testing.assert_array_equal(only, expected)
    both = prepare(jnp.asarray(CLIP), "none", 3, 1.0, "appended")
    np.testing.assert_array_equal(both, np.concatenate([CLIP, expected], axis=-1))
    assert (mu(difference="appended").channels, mu(difference="only").channels) == (6, 3)


def test_by_default_nothing_is_added_to_the_program():
    video = jnp.asarray(CLIP)
    assert prepare(video, "none", 5, 2.0, "none") is video
    traced = {
        str(jax.make_jaxpr(mu(**x).apply)({"params": random_params(mu())}, PIXELS))
        for x in ({}, {"filter_size": 5, "filter_sigma": 2.0})
    }
    assert len(traced) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"filter": "median", "filter_size": 5},
        {"filter": "gaussian", "filter_sigma": 1.5, "difference": "only"},
    ],
)
def test_pixels_and_normalised_floats_are_seen_alike_and_as_if_filtered_before(fields):
    model = mu(**fields)
    params = random_params(model)
    floats = normalise(jnp.asarray(PIXELS), model.mean, model.std)
    found = summary(model, params, PIXELS)
    np.testing.assert_allclose(summary(model, params, floats), found, atol=1e-5)
    before = prepare(floats, model.filter, model.filter_size, model.filter_sigma, model.difference)
    np.testing.assert_allclose(summary(mu(), params, before), found, atol=1e-5)
    assert np.abs(summary(mu(), params, PIXELS) - found).max() > 1e-3


@pytest.mark.parametrize("kind", ["median", "gaussian"])
def test_gradients_reach_the_kernel_of_every_channel_and_the_pixels(kind):
    model = mu(filter=kind, difference="appended")
    floats = normalise(jnp.asarray(PIXELS[:2]), model.mean, model.std)

    def loss(params, video):
        return jnp.sin(3 * model.apply({"params": params}, video).summary).mean()  # type: ignore

    of_params, of_video = jax.jit(jax.grad(loss, argnums=(0, 1)))(random_params(model), floats)
    kernel = np.asarray(of_params["tubelets"]["kernel"])
    assert np.isfinite(kernel).all()
    assert (np.abs(kernel).max(axis=(0, 1, 2, 4)) > 0).all()
    assert np.isfinite(of_video).all()
    assert np.abs(of_video).max() > 0


@pytest.mark.slow
@pytest.mark.parametrize("mesh", [{}, {"data": 4, "sequence": 2}])
@pytest.mark.parametrize("kind", ["median", "gaussian"])
def test_eight_devices_see_what_one_sees(kind, mesh):
    model = mu(filter=kind, difference="appended", attention="factorised_encoder")
    params = random_params(model)
    expected = summary(model, params, PIXELS)
    devices = sharding.make_mesh(config.Mesh(**mesh))
    assert devices.size == 8
    video = jax.device_put(PIXELS, sharding.batch_sharding(devices))
    with jax.set_mesh(devices):
        found = summary(model, jax.device_put(params, sharding.replicated(devices)), video)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_bfloat16_rounds_what_was_filtered_in_float32():
    fields = {"filter": "median", "difference": "appended"}
    params = random_params(mu(**fields))
    found, expected = (
        summary(mu(dtype=dtype, **fields), params, PIXELS) for dtype in ("bfloat16", "float32")
    )
    assert np.isfinite(found).all()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=0.1)


def fitted(model, source, params):
    flat = {f"encoder/{path}": np.asarray(x) for path, x in by_path(params).items()}
    wanted = jax.eval_shape(model.init, jax.random.key(0), PIXELS)["params"]
    shapes = {f"encoder/{path}": x.shape for path, x in by_path(wanted).items()}
    init = getattr(model, "tubelet_init", "none")  # of a frame nothing is inflated
    options = {"tubelet_init": init, "difference": model.difference}
    given = Source("there", flat, (2, 2, 2), {"difference": source.difference})
    values, account = fit(given, shapes, (2, 2, 2), options)
    return as_tree({path.removeprefix("encoder/"): x for path, x in values.items()}), account


@pytest.mark.parametrize("before", ["none", "only"])
def test_a_kernel_of_three_channels_starts_as_it_was_among_six(before):
    source = mu(difference=before)
    params = random_params(source)
    model = mu(difference="appended")
    wide, account = fitted(model, source, params)
    assert wide["tubelets"]["kernel"].shape == (2, 8, 8, 6, 32)
    assert any("widened" in line for line in account)
    expected = summary(source, params, PIXELS)
    np.testing.assert_allclose(summary(model, wide, PIXELS), expected, atol=1e-5)


def test_an_images_kernel_is_inflated_and_widened():
    source = mu(tubelet=(1, 8, 8))
    params = random_params(source)
    params["blocks"].pop("position")
    model = mu(tubelet_init="average", difference="appended", positions="sincos_1d")
    wide, _ = fitted(model, source, params)
    plain, _ = fitted(mu(tubelet_init="average", positions="sincos_1d"), source, params)
    expected = summary(mu(positions="sincos_1d"), plain, PIXELS)
    np.testing.assert_allclose(summary(model, wide, PIXELS), expected, atol=1e-5)


def test_six_channels_do_not_become_three_in_silence():
    source = mu(difference="appended")
    with pytest.raises(InputError, match="model.difference = 'appended'"):
        fitted(mu(), source, random_params(source))


def test_differences_are_counted():
    tokens, values = 2 * 2 * 2, 2 * 8 * 8 * 3
    macs = [multiply_accumulates(mu(difference=x), 4, 16) for x in ("none", "appended", "only")]
    assert macs[1] - macs[0] == tokens * values * 32
    assert macs[2] == macs[0]


def test_a_masked_models_targets_stay_the_colours():
    fields = {"mask_ratio": 0.5, "decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
    plain, filtered = (
        MaskedPixels(mu(**x), **fields)
        for x in ({}, {"filter": "median", "difference": "appended"})
    )
    video = normalise(jnp.asarray(PIXELS), plain.encoder.mean, plain.encoder.std)
    np.testing.assert_array_equal(filtered.targets(video), plain.targets(video))
    streams = {"params": jax.random.key(0), "mask": jax.random.key(0)}
    batch = {"video": jnp.asarray(PIXELS)}
    made = jax.eval_shape(filtered.init, streams, batch)["params"]
    assert made["encoder"]["tubelets"]["kernel"].shape[3] == 6
    assert made["decoder"]["out"]["kernel"].shape[-1] == 2 * 8 * 8 * 3
    with pytest.raises(InputError, match="tells of the frame before"):
        MaskedPixels(mu(difference="only"), mask="random")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"filter": "mean"}, "filter"),
        ({"filter_size": 4}, "filter_size"),
        ({"filter_sigma": 0.0}, "filter_sigma"),
        ({"filter_sigma": 30.0}, "filter_sigma"),
        ({"difference": "first"}, "difference"),
    ],
)
def test_what_cannot_be_done_is_refused(fields, named):
    with pytest.raises(InputError, match=f"model.{named}"):
        mu(**fields)


def by_frame(frame, **fields: Any) -> FrameModel:
    small = {"size": "mu", "patch": 8, "width": 4} if frame == "vit" else {"width": 4}
    return FrameModel(frame=frame, time="mean", **{**small, **fields})


@pytest.mark.parametrize("frame", ["vit", "resnet18"])
def test_a_frame_model_sees_what_was_filtered_and_differs(frame):
    fields = {"filter": "gaussian", "filter_sigma": 1.5, "difference": "only"}
    model = by_frame(frame, **fields)
    params = random_params(model)
    floats = normalise(jnp.asarray(PIXELS), model.mean, model.std)
    before = prepare(floats, "gaussian", 3, 1.5, "only")
    found = summary(model, params, PIXELS)
    np.testing.assert_allclose(summary(by_frame(frame), params, before), found, atol=1e-5)
    assert np.abs(summary(by_frame(frame), params, PIXELS) - found).max() > 1e-3


@pytest.mark.parametrize("frame", ["vit", "resnet18"])
def test_a_frame_models_kernel_of_colours_starts_as_it_was_beside_differences(frame):
    source, model = by_frame(frame), by_frame(frame, difference="appended")
    params = random_params(source)
    wide, account = fitted(model, source, params)
    assert any("widened" in line for line in account)
    expected = summary(source, params, PIXELS)
    np.testing.assert_allclose(summary(model, wide, PIXELS), expected, atol=1e-5)
    more, macs = (multiply_accumulates(one, 4, 16) for one in (model, source))
    places = 4 * (2 * 2 * 8 * 8 if frame == "vit" else 8 * 8 * 7 * 7)
    assert more - macs == places * 3 * 4
