"""Where the pixels of a video's clips go: each view is cut out and scaled as its frames come."""

import math

import numpy as np
from av.video.frame import VideoFrame

from vivit_jax.data.container import Movie
from vivit_jax.data.geometry import Box, Geometry, choose_boxes
from vivit_jax.data.scale import Scaler, quarter_turns


class Canvas:
    """Where the frames of all views go: knows the moments, the boxes and the place of each."""

    def __init__(
        self,
        times: np.ndarray,
        geometry: Geometry,
        rng: np.random.Generator,
        movie: Movie,
        out: np.ndarray | None,
    ):
        self.moments = sorted(set(times.flat))
        self._places = {moment: np.argwhere(times == moment) for moment in self.moments}
        self._geometry, self._rng, self._movie = geometry, rng, movie
        self._scaler = Scaler(geometry.size)
        self._boxes: list[Box] = []
        clips, frames = times.shape
        shape = (clips, geometry.boxes, frames, geometry.size, geometry.size, 3)
        out = np.empty(math.prod(shape), np.uint8) if out is None else out[: math.prod(shape)]
        self.pixels = out.reshape(shape)

    def show(self, frame: VideoFrame, moments: list[float]) -> None:
        """Writes a frame wherever it is the nearest to a moment."""
        if not self._boxes:
            width = self._movie.pixel_width
            self._boxes = boxes_of(frame, self._geometry, width, self._rng)
        (clip, slot), *others = np.concatenate([self._places[moment] for moment in moments])
        for crop, box in enumerate(self._boxes):
            self._scaler(frame, box, self.pixels[clip, crop, slot])
        for other_clip, other_slot in others:
            self.pixels[other_clip, :, other_slot] = self.pixels[clip, :, slot]

    def views(self) -> np.ndarray:
        """Returns what was shown: uint8 [V T H W 3]."""
        return self.pixels.reshape(-1, *self.pixels.shape[2:])


def boxes_of(
    frame: VideoFrame, geometry: Geometry, pixel_width: float, rng: np.random.Generator
) -> list[Box]:
    """Returns the boxes in shares of the upright picture, so that any frame size will do."""
    height, width = frame.height, frame.width * pixel_width
    if quarter_turns(frame) % 2:
        height, width = width, height
    return [
        Box(box.top / height, box.left / width, box.height / height, box.width / width)
        for box in choose_boxes(geometry, height, width, rng)
    ]
