"""Which part of the picture a clip shows: every rule ends in one box, cut and scaled in one go.

Boxes are in upright display pixels: after the file's rotation and with its pixel shape evened
out. They need not be whole pixels. The decoder maps a box to the coded picture and lets FFmpeg
crop and scale it to size x size, so only the pixels that are wanted ever leave it.

Rules that are published as "resize, then crop" are turned around: a crop of `size` out of a
picture whose short side became `resize` is a box of size / resize of the short side.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from vivit_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Box:
    """A part of the upright picture, in display pixels."""

    top: float
    left: float
    height: float
    width: float


@dataclasses.dataclass(frozen=True)
class Geometry:
    """How boxes are chosen.

    Attributes:
      size: H = W of what comes out, pixels.
      crop: a row of CROPS; read where test_crops is 0.
      copies: boxes that are drawn of a picture, one after another; read likewise.
      area: smallest and largest share of the picture, for "random_resized".
      aspect: smallest and largest width over height, for "random_resized".
      resize: short side before the crop, pixels; 0 means size.
      jitter: smallest and largest factor on height and width, for "scale_jitter" (one each) and
        "short_side_jitter" (one for both).
      test_crops: 0 for a training crop; 1 (centre) or 3 (along the longer side) to test.
    """

    size: int
    crop: str = "centre"
    copies: int = 1
    area: tuple[float, float] = (0.25, 1.0)
    aspect: tuple[float, float] = (0.75, 1.3333)
    resize: int = 0
    jitter: tuple[float, float] = (1.0, 1.0)
    test_crops: int = 0

    def __post_init__(self):
        """Refuses what no picture can satisfy."""
        if self.crop not in CROPS:
            raise InputError(
                f"data.crop is {self.crop!r}; expected one of: {', '.join(sorted(CROPS))}."
            )
        if self.test_crops not in (0, 1, 3):
            raise InputError(f"eval.crops is {self.test_crops}; expected 1 or 3.")
        if 0 < self.resize < self.size:
            raise InputError(
                f"The short side before the crop (resize) is {self.resize} pixels, smaller than "
                f"the crop (data.image_size) of {self.size}; make it at least as large, or 0."
            )
        for name, (low, high) in (
            ("crop_area", self.area),
            ("crop_aspect", self.aspect),
            ("scale_jitter", self.jitter),
        ):
            if not 0 < low <= high:
                raise InputError(
                    f"data.{name} is ({low}, {high}); expected two numbers above 0, "
                    "the smallest first."
                )

    @property
    def boxes(self) -> int:
        """Boxes that one picture gives."""
        return self.test_crops or self.copies

    @property
    def share(self) -> float:
        """The crop's side over the resized picture's short side."""
        return self.size / (self.resize or self.size)


def choose_boxes(
    geometry: Geometry, height: float, width: float, rng: np.random.Generator
) -> tuple[Box, ...]:
    """Returns the box or boxes of an upright picture of height x width display pixels."""
    if not geometry.test_crops:
        crop = CROPS[geometry.crop]
        return tuple(crop(geometry, height, width, rng) for _ in range(geometry.copies))
    side = min(height, width) * geometry.share
    places = (0.5,) if geometry.test_crops == 1 else (0.0, 0.5, 1.0)
    along_width = width >= height
    return tuple(
        _place(side, side, height, width, *((0.5, at) if along_width else (at, 0.5)))
        for at in places
    )


def _place(
    box_height: float, box_width: float, height: float, width: float, down: float, right: float
) -> Box:
    """Returns a box with shares `down` and `right` of the free space above and left of it."""
    box_height, box_width = min(box_height, height), min(box_width, width)
    return Box((height - box_height) * down, (width - box_width) * right, box_height, box_width)


def _centre(geometry: Geometry, height: float, width: float, rng: np.random.Generator) -> Box:
    """Returns the middle square."""
    side = min(height, width) * geometry.share
    return _place(side, side, height, width, 0.5, 0.5)


def _random_resized(
    geometry: Geometry, height: float, width: float, rng: np.random.Generator
) -> Box:
    """Returns a box of random area and shape (Szegedy et al. 2014): ten tries, else the middle."""
    low, high = (math.log(a) for a in geometry.aspect)
    for _ in range(10):
        area = height * width * rng.uniform(*geometry.area)
        aspect = math.exp(rng.uniform(low, high))
        box_height, box_width = math.sqrt(area / aspect), math.sqrt(area * aspect)
        if box_height <= height and box_width <= width:
            return _place(box_height, box_width, height, width, rng.random(), rng.random())
    aspect = min(max(width / height, geometry.aspect[0]), geometry.aspect[1])
    return _place(min(height, width / aspect), min(width, height * aspect), height, width, 0.5, 0.5)


def _scale_jitter(geometry: Geometry, height: float, width: float, rng: np.random.Generator) -> Box:
    """Returns a random crop after height and width were stretched independently (ViViT).

    A factor that makes the picture smaller than the crop leaves the whole side.
    """
    side = min(height, width) * geometry.share
    down, right = rng.uniform(*geometry.jitter, size=2)
    return _place(side / down, side / right, height, width, rng.random(), rng.random())


def _multi_scale_corners(
    geometry: Geometry, height: float, width: float, rng: np.random.Generator
) -> Box:
    """Returns one of 4 sizes a side and 13 fixed places (Wang et al. 2015; VideoMAE).

    Height and width take neighbouring sizes at most, so that shapes are distorted little.
    """
    scales = (1.0, 0.875, 0.75, 0.66)
    pairs = [(a, b) for i, a in enumerate(scales) for b in scales[max(0, i - 1) : i + 2]]
    box_height, box_width = (
        scale * min(height, width) for scale in pairs[rng.integers(len(pairs))]
    )
    corners = [(y, x) for y in (0, 0.5, 1) for x in (0, 0.5, 1)]
    places = corners + [(y, x) for y in (0.25, 0.75) for x in (0.25, 0.75)]
    return _place(box_height, box_width, height, width, *places[rng.integers(len(places))])


def _short_side_jitter(
    geometry: Geometry, height: float, width: float, rng: np.random.Generator
) -> Box:
    """Returns a random square after the picture was scaled evenly (SlowFast, TimeSformer)."""
    side = min(height, width) * geometry.share / rng.uniform(*geometry.jitter)
    return _place(side, side, height, width, rng.random(), rng.random())


CROPS: dict[str, Callable[[Geometry, float, float, np.random.Generator], Box]] = {
    "centre": _centre,
    "random_resized": _random_resized,
    "scale_jitter": _scale_jitter,
    "multi_scale_corners": _multi_scale_corners,
    "short_side_jitter": _short_side_jitter,
}
