"""Augmentation on the device, against Pillow and against its own claims."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image, ImageEnhance, ImageOps

from vivit_jax.config import Augment
from vivit_jax.data import colour, randaugment
from vivit_jax.data.augment import make_augment

OFF = Augment(flip=0.0)
EVERYTHING = Augment(
    flip=0.5, colour_jitter=0.8, grey=0.2, randaugment_layers=2, erase=0.5, erase_area=(0.1, 0.3)
)
STRENGTH = 0.7
HEIGHT, WIDTH = 24, 32


def picture(seed: int) -> np.ndarray:
    """A smooth coloured picture that uses few of the levels, uint8 [HEIGHT, WIDTH, 3]."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(20, 230, (6, 8, 3), np.uint8))
    return np.asarray(small.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return np.stack([picture(0), picture(1)])


def solarize_add(image: Image.Image) -> Image.Image:
    return image.point(
        [min(255, i + int(STRENGTH * 110)) if i < 128 else i for i in range(256)] * 3
    )


def affine(*numbers: float):
    return lambda image: image.transform(
        image.size, Image.Transform.AFFINE, numbers, Image.Resampling.BILINEAR, fillcolor=(128,) * 3
    )


def enhance(kind, sign: float = 1.0):
    return lambda image: kind(image).enhance(1 + sign * 0.9 * STRENGTH)


# What Pillow makes of a picture at STRENGTH, sign +1 unless the name ends in "-".
PILLOW = {
    "rotate": lambda image: image.rotate(
        30 * STRENGTH, Image.Resampling.BILINEAR, fillcolor=(128,) * 3
    ),
    "shear_x": affine(1, 0.3 * STRENGTH, 0, 0, 1, 0),
    "shear_y": affine(1, 0, 0, 0.3 * STRENGTH, 1, 0),
    "translate_x": affine(1, 0, 0.45 * STRENGTH * WIDTH, 0, 1, 0),
    "translate_y-": affine(1, 0, 0, 0, 1, -0.45 * STRENGTH * HEIGHT),
    "autocontrast": ImageOps.autocontrast,
    "equalize": ImageOps.equalize,
    "invert": ImageOps.invert,
    "posterize": lambda image: ImageOps.posterize(image, 4 - int(STRENGTH * 4)),
    "solarize": lambda image: ImageOps.solarize(image, 256 - int(STRENGTH * 256)),
    "solarize_add": solarize_add,
    "brightness": enhance(ImageEnhance.Brightness),
    "brightness-": enhance(ImageEnhance.Brightness, -1),
    "contrast": enhance(ImageEnhance.Contrast),
    "contrast-": enhance(ImageEnhance.Contrast, -1),
    "colour": enhance(ImageEnhance.Color),
    "colour-": enhance(ImageEnhance.Color, -1),
    "sharpness": enhance(ImageEnhance.Sharpness),
    "sharpness-": enhance(ImageEnhance.Sharpness, -1),
}
operate = jax.jit(randaugment.operate)


@pytest.mark.parametrize("name", PILLOW)
def test_randaugment_operation_equals_pillow_within_one_level(clip, name):
    choice = jnp.array(randaugment.OPERATIONS.index(name.rstrip("-")))
    sign = jnp.array(-1.0 if name.endswith("-") else 1.0)
    ours = operate(jnp.asarray(clip, jnp.float32), choice, jnp.array(STRENGTH), sign)
    theirs = np.stack([np.asarray(PILLOW[name](Image.fromarray(frame))) for frame in clip])
    assert np.abs(theirs.astype(int) - clip).max() > 5  # it does something
    np.testing.assert_allclose(ours, theirs, atol=1)


def test_all_fifteen_operations_are_compared_with_pillow():
    assert {name.rstrip("-") for name in PILLOW} == set(randaugment.OPERATIONS)


def test_equalize_of_few_pixels_and_a_single_level_follows_pillow():
    flat = np.full((1, HEIGHT, WIDTH, 3), 77, np.uint8)
    few = np.zeros((1, HEIGHT, WIDTH, 3), np.uint8)
    few[0, :14] = picture(2)[:14]
    for frames in (flat, few):
        for name in ("equalize", "autocontrast"):
            choice = jnp.array(randaugment.OPERATIONS.index(name))
            pixels = jnp.asarray(frames, jnp.float32)
            ours = operate(pixels, choice, jnp.array(STRENGTH), jnp.array(1.0))
            theirs = np.asarray(PILLOW[name](Image.fromarray(frames[0])))
            np.testing.assert_allclose(ours[0], theirs, atol=1)


def test_no_operation_leaves_the_clip_as_it_is(clip):
    pixels = jnp.asarray(clip, jnp.float32)
    ours = operate(pixels, jnp.array(-1), jnp.array(STRENGTH), jnp.array(1.0))
    np.testing.assert_array_equal(ours, clip)


def test_hue_and_saturation_equal_a_walk_through_hsv(clip):
    pixels = jnp.asarray(clip / 255, jnp.float32)
    hsv = rgb_to_hsv(clip / 255)
    turned = hsv_to_rgb(np.stack([(hsv[..., 0] + 0.13) % 1, *np.moveaxis(hsv, -1, 0)[1:]], -1))
    np.testing.assert_allclose(colour.adjust_hue(pixels, 0.13), turned, atol=1e-5)
    for factor in (0.6, 1.4):
        richer = hsv * [1, factor, 1]
        richer = hsv_to_rgb(np.minimum(richer, 1))
        np.testing.assert_allclose(colour.adjust_saturation(pixels, factor), richer, atol=1e-5)


def test_brightness_and_contrast_equal_their_formulas(clip):
    pixels = clip / 255
    lighter = colour.adjust_brightness(jnp.asarray(pixels, jnp.float32), 0.1)
    np.testing.assert_allclose(lighter, np.clip(pixels + 0.1, 0, 1), atol=1e-6)
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    starker = colour.adjust_contrast(jnp.asarray(pixels, jnp.float32), 1.4)
    np.testing.assert_allclose(starker, np.clip(mean + 1.4 * (pixels - mean), 0, 1), atol=1e-6)


def draw(config: Augment, video: np.ndarray, positions: np.ndarray) -> np.ndarray:
    """Augments with mean 0 and std 1; a clip's key comes from its position."""
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.asarray(positions))
    return np.asarray(
        jax.jit(make_augment(config, (0.0,) * 3, (1.0,) * 3))(jnp.asarray(video), keys)
    )


def test_with_everything_off_pixels_are_only_normalised(clip):
    keys = jax.random.split(jax.random.key(0), 1)
    ours = make_augment(OFF, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6))(jnp.asarray(clip[None]), keys)
    expected = (clip[None] / 255 - [0.1, 0.2, 0.3]) / [0.4, 0.5, 0.6]
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_a_step_that_is_off_adds_no_operation():
    video = jnp.zeros((1, 2, 8, 8, 3), jnp.uint8)
    keys = jax.random.split(jax.random.key(0), 1)
    program = str(jax.make_jaxpr(make_augment(OFF, (0.5,) * 3, (0.5,) * 3))(video, keys))
    assert program.count("random_bits") == 0
    assert program.count("select") == 0


def test_all_frames_of_a_clip_share_every_draw():
    video = np.repeat(np.stack([picture(i) for i in range(8)])[:, None], 3, axis=1)
    ours = draw(dataclasses.replace(EVERYTHING, erase=0.0), video, np.arange(8))
    np.testing.assert_allclose(ours, np.repeat(ours[:, :1], 3, axis=1), atol=1e-6)
    assert (np.abs(ours - video / 255).max(axis=(1, 2, 3, 4)) > 0.05).sum() >= 5


def test_what_happens_to_a_clip_depends_on_its_position_alone(clip):
    video = np.stack([clip, clip[::-1], clip, clip[::-1]])
    together = draw(EVERYTHING, video, np.array([5, 9, 7, 6]))
    alone = draw(EVERYTHING, video[1:3], np.array([9, 7]))
    np.testing.assert_allclose(together[1:3], alone, atol=1e-6)
    assert np.abs(together[0] - together[2]).max() > 0.01  # the same clip at another position


def test_turning_one_step_off_leaves_the_draws_of_the_others(clip):
    video = np.repeat(clip[None], 16, axis=0)
    flipped = draw(dataclasses.replace(OFF, flip=0.5), video, np.arange(16))
    both = draw(dataclasses.replace(OFF, flip=0.5, erase=1.0), video, np.arange(16))
    assert ((flipped == both).mean(axis=(1, 2, 3, 4)) > 0.5).all()


def test_flips_and_greys_come_as_often_as_asked(clip):
    video = np.repeat(clip[None], 400, axis=0)
    drawn = draw(dataclasses.replace(OFF, flip=0.3), video, np.arange(400))
    flipped = np.abs(drawn - video[:, :, :, ::-1] / 255).max(axis=(1, 2, 3, 4)) < 1e-6
    kept = np.abs(drawn - video / 255).max(axis=(1, 2, 3, 4)) < 1e-6
    assert (flipped ^ kept).all()
    assert abs(flipped.mean() - 0.3) < 0.08
    grey = draw(dataclasses.replace(OFF, grey=0.2), video, np.arange(400))
    assert abs((np.ptp(grey, axis=-1).max(axis=(1, 2, 3)) < 1e-6).mean() - 0.2) < 0.07


def test_erasing_puts_fresh_noise_into_one_box_of_all_frames():
    shape = (200, 3, HEIGHT, WIDTH, 3)
    config = dataclasses.replace(OFF, erase=0.7, erase_area=(0.1, 0.3))
    ours = draw(config, np.zeros(shape, np.uint8), np.arange(200))
    box = (ours != 0).all(axis=-1)
    assert (box == box[:, :1]).all()
    for rows, columns in zip(box[:, 0].any(axis=2), box[:, 0].any(axis=1), strict=True):
        assert np.diff(np.flatnonzero(rows)).max(initial=1) == 1
        assert np.diff(np.flatnonzero(columns)).max(initial=1) == 1
    filled = box[:, 0].sum(axis=(1, 2)) == box[:, 0].any(2).sum(1) * box[:, 0].any(1).sum(1)
    assert filled.all()
    share = box[:, 0].mean(axis=(1, 2))
    assert abs((share > 0).mean() - 0.7) < 0.1
    assert share[share > 0].min() > 0.08
    assert share.max() < 0.33
    noise = ours[box]
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert (ours[:, 0] != ours[:, 1])[box[:, 0]].all()


def test_randaugment_draws_every_operation_equally_often_and_as_often_as_asked(monkeypatch):
    def show(clip: jax.Array, *drawn: jax.Array) -> jax.Array:
        return clip.at[0, 0, 0].set(jnp.stack([x.astype(jnp.float32) for x in drawn]))

    monkeypatch.setattr(randaugment, "operate", show)
    config = dataclasses.replace(
        OFF, randaugment_layers=1, randaugment_magnitude=7.0, randaugment_std=0.5
    )
    keys = jax.random.split(jax.random.key(3), 4000)
    clips = jnp.zeros((4000, 1, 1, 1, 3))
    seen = np.asarray(jax.vmap(lambda c, k: randaugment.rand_augment(c, k, config))(clips, keys))
    choice, strength, sign = seen[:, 0, 0, 0].T
    assert abs((choice < 0).mean() - 0.5) < 0.04
    counts = np.bincount(choice[choice >= 0].astype(int), minlength=15)
    assert counts.min() > 90
    assert counts.max() < 180  # of 133 expected
    assert abs(strength.mean() - 0.7) < 0.005
    assert abs(strength.std() - 0.05) < 0.005
    assert abs(sign.mean()) < 0.06


@pytest.mark.slow
def test_a_batch_over_eight_devices_is_augmented_where_it_lies():
    mesh = jax.make_mesh((8,), ("data",))
    over_batch = NamedSharding(mesh, PartitionSpec("data"))
    video = jax.ShapeDtypeStruct((8, 2, 16, 16, 3), jnp.uint8, sharding=over_batch)
    keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 8))
    keys = jax.ShapeDtypeStruct(keys.shape, keys.dtype, sharding=over_batch)
    augmented = jax.jit(make_augment(EVERYTHING, (0.5,) * 3, (0.5,) * 3), out_shardings=over_batch)
    program = augmented.lower(video, keys).compile().as_text() or ""
    moves = ("all-gather", "all-to-all", "all-reduce", "collective-permute")
    assert not [move for move in moves if move in program]
