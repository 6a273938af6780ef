"""Masks hide what their paper hides, in numbers that are known beforehand."""

import jax
import numpy as np
import pytest

from vivit_jax.errors import InputError
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.objectives import masking
from vivit_jax.objectives.latent_prediction import LatentPrediction
from vivit_jax.objectives.masked_pixels import MaskedPixels
from vivit_jax.objectives.masking import Blocks

AXES = (8, 14, 14)  # of 16 frames of 224 x 224
CLIPS = 6
KEY = jax.random.key(0)
LONG, SHORT = Blocks(2, 0.7), Blocks(8, 0.15)


def whole(mask):
    """Returns both parts as [CLIPS N] booleans, after a look at their order."""
    parts = []
    for places in map(np.asarray, mask):
        assert (np.diff(places, axis=1) > 0).all()
        row = np.zeros((CLIPS, np.prod(AXES)), bool)
        np.put_along_axis(row, places, True, axis=1)
        parts.append(row)
    return parts


@pytest.mark.parametrize(
    ("rule", "ratio", "visible"),
    [("tube", 0.9, 160), ("tube", 0.75, 392), ("random", 0.9, 156), ("slots", 0.9, 160)],
)
def test_the_numbers_of_tokens_are_the_papers(rule, ratio, visible):
    mask = masking.RULES[rule].draw(KEY, CLIPS, AXES, ratio)
    seen, hidden = whole(mask)
    assert mask.visible.shape == (CLIPS, visible)
    assert (seen ^ hidden).all()


def test_a_tube_hides_the_same_places_in_every_slot_and_others_in_every_clip():
    seen, _ = whole(masking.tube(KEY, CLIPS, AXES, 0.9))
    slots = seen.reshape(CLIPS, AXES[0], -1)
    assert (slots == slots[:, :1]).all()
    assert len({clip.tobytes() for clip in slots}) == CLIPS


def test_slots_leave_every_slot_as_many_places_and_others():
    seen, _ = whole(masking.slots(KEY, CLIPS, AXES, 0.9))
    slots = seen.reshape(CLIPS, AXES[0], -1)
    assert (slots.sum(axis=2) == 20).all()
    assert len({slot.tobytes() for clip in slots for slot in clip}) == CLIPS * AXES[0]


def test_every_place_is_hidden_as_often():
    tubes = masking.tube(KEY, 2000, (1, 4, 4), 0.75).visible
    anywhere = masking.random(KEY, 2000, (2, 2, 4), 0.75).visible
    for places in (tubes, anywhere):
        counts = np.bincount(np.asarray(places).ravel(), minlength=16)
        assert np.abs(counts / 2000 - 0.25).max() < 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_running_cells_decode_half_and_move_on_from_slot_to_slot():
    places = np.asarray(masking.running_cell(KEY, CLIPS, AXES, 0.5))
    assert places.shape == (CLIPS, 784)
    decoded = np.zeros((CLIPS, np.prod(AXES)), bool)
    np.put_along_axis(decoded, places, True, axis=1)
    cells = decoded.reshape(CLIPS, 8, 7, 2, 7, 2).transpose(0, 1, 2, 4, 3, 5).reshape(-1, 8, 49, 4)
    assert (cells == cells[:, :, :1]).all()
    assert (cells.sum(axis=3) == 2).all()
    # In four slots each place is decoded twice.
    assert (cells[:, :4, 0].sum(axis=1) == 2).all()


@pytest.mark.parametrize("rule", [SHORT, LONG])
def test_blocks_hide_boxes_over_all_of_time_and_predict_only_what_they_hide(rule):
    visible, masked = rule.counts(AXES)
    mask = rule.draw(KEY, CLIPS, AXES)
    seen, hidden = whole(mask)
    assert mask.visible.shape == (CLIPS, 8 * visible)
    assert mask.masked.shape == (CLIPS, 8 * masked)
    assert not (seen & hidden).any()
    for part in (seen, hidden):
        slots = part.reshape(CLIPS, 8, -1)
        assert (slots == slots[:, :1]).all()


@pytest.mark.parametrize("rule", [SHORT, LONG])
def test_a_draw_of_blocks_covers_the_places_in_its_boxes_before_it_is_cut(rule):
    # An independent draw: the boxes' union and the rest are all places, and the numbers that are
    # kept are near the smallest of 24 draws, as V-JEPA cuts its batches.
    rng = np.random.default_rng(7)
    lowest = []
    for _ in range(100):
        aspect = rng.uniform(*rule.aspect)
        area = int(196 * rule.scale)
        height, width = (min(14, round(np.sqrt(x))) for x in (area * aspect, area / aspect))
        covered = np.zeros((24, 14, 14), bool)
        for clip in covered:
            for _ in range(rule.count):
                top, left = rng.integers(15 - height), rng.integers(15 - width)
                clip[top : top + height, left : left + width] = True
        sizes = covered.sum(axis=(1, 2))
        lowest.append((196 - sizes.max(), sizes.min()))
    np.testing.assert_allclose(rule.counts(AXES), np.mean(lowest, axis=0), atol=4)


def test_one_key_draws_one_mask():
    for draw in (
        lambda key: masking.tube(key, CLIPS, AXES, 0.9),
        lambda key: masking.random(key, CLIPS, AXES, 0.9),
        lambda key: SHORT.draw(key, CLIPS, AXES),
    ):
        first, again, other = (np.asarray(draw(jax.random.key(i)).visible) for i in (3, 3, 4))
        np.testing.assert_array_equal(first, again)
        assert (first != other).any()


ENCODER = {"size": "mu", "tubelet": (2, 8, 8), "pool": "mean", "positions": "sincos_3d"}
SMALL = {"decoder_width": 16, "decoder_heads": 2, "decoder_depth": 1}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda e: MaskedPixels(e(), mask_ratio=0.01, **SMALL),
            r"mask_ratio = 0\.01 hides 0 of 16",
        ),
        (lambda e: MaskedPixels(e(), mask_ratio=1.0, **SMALL), r"mask_ratio = 1\.0 hides 16 of 16"),
        (
            lambda e: MaskedPixels(e(tubelet=(2, 8, 32)), decoder_mask_ratio=0.5, **SMALL),
            r"decoder_mask_ratio = 0\.5 tiles .* 4 x 1",
        ),
        (
            lambda e: MaskedPixels(e(), decoder_mask_ratio=0.3, **SMALL),
            r"decoder_mask_ratio = 0\.3; expected 0\.25, 0\.5 or 0\.75",
        ),
        (
            lambda e: MaskedPixels(e(attention="factorised_encoder"), mask="random", **SMALL),
            r"'factorised_encoder' cannot be pretrained with .*mask = 'tube', .* 'joint'\.",
        ),
        (
            lambda e: MaskedPixels(
                e(attention="factorised_encoder_by_place"), mask="slots", **SMALL
            ),
            r"'factorised_encoder_by_place' cannot be pretrained with .*mask = 'tube'",
        ),
        (
            lambda e: MaskedPixels(e(attention="space_only"), **SMALL),
            r"model\.attention = 'space_only' .* cannot be pretrained",
        ),
        (
            lambda e: MaskedPixels(e(norm_summary=True), **SMALL),
            r"model\.norm_summary = True .* fine-tuning",
        ),
        (
            lambda e: MaskedPixels(e(), decoder_width=64, decoder_heads=2),
            r"decoder_width = 64 is above the encoder's 32",
        ),
        (
            lambda e: MaskedPixels(e(), decoder_width=16, decoder_heads=3),
            r"decoder_heads = 3 does not divide objective\.decoder_width = 16",
        ),
        (lambda e: MaskedPixels(e(), mask="tubes", **SMALL), r"mask = 'tubes' is none of tube"),
        (
            lambda e: LatentPrediction(e(), predictor_width=16, predictor_heads=2),
            r"blocks: 2 of 0\.7 of the picture leave 0 visible",
        ),
        (
            lambda e: LatentPrediction(e(), blocks=(8,), predictor_width=16, predictor_heads=2),
            r"blocks = \(8,\) and objective\.block_scales = \(0\.15, 0\.7\); expected as many",
        ),
        (
            lambda e: LatentPrediction(e(), mask_tokens=1, predictor_width=16, predictor_heads=2),
            r"mask_tokens = 1 are fewer than the masks use, 2",
        ),
        (
            lambda e: LatentPrediction(e(), predictor_mlp_dim=-1, predictor_width=16),
            r"predictor_mlp_dim = -1 is below 0",
        ),
    ],
)
def test_what_cannot_be_masked_is_refused_by_its_field_before_compiling(make, message):
    def encoder(**fields):
        return VideoTransformer(**(ENCODER | fields))

    with pytest.raises(InputError, match=message):
        make(encoder).check_clip(8, 32, 32)
