"""Small grey pictures of a video, four a second, and what they say: does it move, is it black."""

import base64
from typing import Any

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation, VideoReformatter

from vivit_jax.data.duplicates import CELLS, signature

PROBES = 4  # a second
_ROWS, _COLUMNS = 24, 32  # of a probe; multiples of CELLS
_SAME = 5  # grey levels by which a cell of a probe may differ where nothing moves
_SPECKS = 4  # cells of a probe that may differ more
_BLACK = 32  # grey level that no cell of a black probe reaches
_FLAT = 10  # grey levels from the darkest to the lightest cell of a probe of one colour


class Probes:
    """Small grey pictures of a video, and what they say; `due` is when the next is wanted."""

    def __init__(self):
        self.due = 0.0
        self._scaler = VideoReformatter()
        self._times: list[float] = []
        self._cells: list[np.ndarray] = []
        self._black = self._flat = 0
        self._anchor: np.ndarray | None = None  # the first probe since something moved
        self._anchored = self._still = 0.0

    def look(self, frame: VideoFrame, when: float, turns: int) -> None:
        """Takes a probe.

        Args:
          frame: a picture.
          when: it is shown, seconds from the first.
          turns: that put it upright.
        """
        self.due = (np.floor(when * PROBES) + 1) / PROBES  # the same moments, whatever the rate
        small = self._scaler.reformat(
            frame, _COLUMNS, _ROWS, "gray", interpolation=Interpolation.AREA, threads=1
        )
        plane = small.planes[0]
        grey = np.frombuffer(memoryview(plane), np.uint8).reshape(_ROWS, plane.line_size)[
            :, :_COLUMNS
        ]
        darkest, lightest = int(grey.min()), int(grey.max())
        self._black += lightest < _BLACK
        self._flat += lightest - darkest <= _FLAT
        cells = grey.reshape(CELLS, _ROWS // CELLS, CELLS, _COLUMNS // CELLS).mean((1, 3))
        self._cells.append(np.rot90(cells, turns))
        grey = grey.astype(np.int16)
        if self._anchor is None or _differ(self._anchor, grey):
            if self._anchor is not None:
                self._still = max(self._still, self._times[-1] - self._anchored)
            self._anchor, self._anchored = grey, when
        self._times.append(when)

    def facts(self, seconds: float) -> dict[str, Any]:
        """Returns what the probes of a video of this length say."""
        count = len(self._times)
        if not count:
            return {}
        tail = seconds - self._anchored if self._anchored < self._times[-1] else 0.0
        code = signature(np.array(self._times), np.stack(self._cells), seconds)
        return {
            "probes": count,
            "still": max(self._still, tail),
            "still_tail": tail,
            "black": self._black / count,
            "flat": self._flat / count,
            "signature": base64.b64encode(code.tobytes()).decode(),
        }


def _differ(one: np.ndarray, other: np.ndarray) -> bool:
    """Returns whether something moved between two probes."""
    return bool(np.count_nonzero(np.abs(one - other) > _SAME) > _SPECKS)
