"""One film out of windows that overlap: each frame is the mean of what its windows have for it.

The middle of a window counts most, where a model sees most on both sides. Only what is not yet
complete is held, so that memory does not grow with the video.
"""

from collections.abc import Generator

import numpy as np
from jaxtyping import Float


class Stitcher:
    """Puts windows together, which come in order."""

    def __init__(self):
        """Has nothing yet."""
        self._sums: dict[int, np.ndarray] = {}
        self._weights: dict[int, float] = {}
        self._next = 0

    def add(
        self, start: int, frames: Float[np.ndarray, "T ..."], trust: Float[np.ndarray, " T"]
    ) -> None:
        """Takes in a window.

        Args:
          start: the number of its first frame.
          frames: anything that can be averaged.
          trust: of each, above 0.
        """
        count = len(frames)
        ramp = np.minimum(np.arange(count) + 0.5, count - np.arange(count) - 0.5)
        for i, weight in enumerate((ramp * trust).tolist()):
            number = start + i
            self._sums[number] = self._sums.get(number, 0) + weight * frames[i]
            self._weights[number] = self._weights.get(number, 0) + weight

    def before(self, end: int) -> Generator[tuple[int, np.ndarray | None]]:
        """Yields the frames before a number that were not yet given; None where there is none."""
        for number in range(self._next, end):
            total = self._sums.pop(number, None)
            weight = self._weights.pop(number, 1.0)
            yield number, None if total is None else total / weight
        self._next = max(self._next, end)
