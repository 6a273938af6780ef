"""Which part of the picture a clip shows."""

import numpy as np
import pytest

from vivit_jax.data.geometry import CROPS, Geometry, choose_boxes
from vivit_jax.errors import InputError

SIZES = [(240, 320), (320, 240), (50, 50), (90, 1000), (1, 1)]


def draw(geometry: Geometry, height: float, width: float, seed: int):
    """Returns the one box of a training crop."""
    (box,) = choose_boxes(geometry, height, width, np.random.default_rng(seed))
    return box


@pytest.mark.parametrize("crop", sorted(CROPS))
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_every_crop_stays_inside_the_picture(crop, height, width):
    geometry = Geometry(224, crop=crop, area=(0.05, 1), resize=256, jitter=(0.8, 1.3))
    for seed in range(100):
        box = draw(geometry, height, width, seed)
        assert box.top >= 0
        assert box.left >= 0
        assert box.height > 0
        assert box.width > 0
        assert box.top + box.height <= height + 1e-9
        assert box.left + box.width <= width + 1e-9


@pytest.mark.parametrize("crop", sorted(set(CROPS) - {"centre"}))
def test_the_same_draw_gives_the_same_box_and_another_another(crop):
    geometry = Geometry(224, crop=crop, resize=256)
    assert draw(geometry, 240, 320, 5) == draw(geometry, 240, 320, 5)
    assert len({draw(geometry, 240, 320, seed) for seed in range(20)}) > 5


@pytest.mark.parametrize("crop", sorted(set(CROPS) - {"centre"}))
def test_more_copies_leave_the_first_where_they_were(crop):
    one, four = (Geometry(224, crop=crop, resize=256, copies=copies) for copies in (1, 4))
    boxes = choose_boxes(four, 240, 320, np.random.default_rng(5))
    assert four.boxes == len(boxes) == 4
    assert boxes[:1] == choose_boxes(one, 240, 320, np.random.default_rng(5))
    assert len(set(boxes)) > 1


def test_random_resized_keeps_to_its_areas_and_shapes():
    geometry = Geometry(224, crop="random_resized", area=(0.25, 0.5), aspect=(0.75, 1.3333))
    boxes = [draw(geometry, 240, 320, seed) for seed in range(300)]
    shares = np.array([box.height * box.width for box in boxes]) / (240 * 320)
    shapes = np.array([box.width / box.height for box in boxes])
    assert 0.25 <= shares.min() < 0.3 < 0.45 < shares.max() <= 0.5
    assert 0.75 <= shapes.min() < 0.8 < 1.25 < shapes.max() <= 1.3334


def test_scale_jitter_stretches_height_and_width_independently():
    geometry = Geometry(224, crop="scale_jitter", resize=256, jitter=(0.9, 1.33))
    boxes = [draw(geometry, 256, 512, seed) for seed in range(300)]
    heights, widths = (
        np.array([getattr(box, side) for box in boxes]) for side in ("height", "width")
    )
    assert heights.min() > 224 / 1.34
    assert widths.max() <= 224 / 0.9 + 1e-9
    assert abs(np.corrcoef(heights, widths)[0, 1]) < 0.2


def test_short_side_jitter_scales_height_and_width_alike():
    geometry = Geometry(224, crop="short_side_jitter", resize=256, jitter=(1.0, 1.25))
    boxes = [draw(geometry, 256, 512, seed) for seed in range(300)]
    assert all(box.height == box.width for box in boxes)
    sides = [box.height for box in boxes]
    assert 224 / 1.25 <= min(sides) < 224 / 1.24 < 224 / 1.01 < max(sides) <= 224


def test_multi_scale_corners_are_ten_sizes_at_thirteen_places():
    geometry = Geometry(224, crop="multi_scale_corners")
    boxes = [draw(geometry, 300, 400, seed) for seed in range(2000)]
    assert len({(box.height, box.width) for box in boxes}) == 10
    smallest = [box for box in boxes if box.height == box.width == 0.66 * 300]
    assert len({(box.top, box.left) for box in smallest}) == 13


def test_centre_crops_what_a_resize_of_the_short_side_would():
    box = draw(Geometry(224, crop="centre", resize=256), 240, 320, 0)
    assert (box.top, box.left) == (15, 55)
    assert (box.height, box.width) == (210, 210)


@pytest.mark.parametrize(("height", "width"), [(240, 320), (320, 240)])
def test_three_test_crops_cover_the_longer_side(height, width):
    boxes = choose_boxes(Geometry(224, test_crops=3), height, width, np.random.default_rng(0))
    along = [(box.left, box.top)[height > width] for box in boxes]
    across = [(box.top, box.left)[height > width] for box in boxes]
    assert along == [0, 40, 80]
    assert across == [0, 0, 0]
    assert {(box.height, box.width) for box in boxes} == {(240, 240)}


@pytest.mark.parametrize(
    "wrong", [{"crop": "corner"}, {"resize": 200}, {"test_crops": 2}, {"area": (0.5, 0.1)}]
)
def test_options_that_no_picture_satisfies_are_refused(wrong):
    with pytest.raises(InputError, match="expected|smaller"):
        Geometry(224, **wrong)
