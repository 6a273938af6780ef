"""Videos as JPEG frames with their times: which frames, and which part of them, make the clips.

The choice is that of data/decode.py, by the same functions with the same draws: the moments by
data/clips.py, the frame that is nearest to each, the boxes by data/geometry.py. Nothing is decoded
here; data/jpeg_clips.py does that in TensorFlow's graph.
"""

import dataclasses
import struct
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vivit_jax.data.clips import NEARER, Sampling, clip_times
from vivit_jax.data.container import DecodeError
from vivit_jax.data.geometry import Geometry, choose_boxes

_SIZES = frozenset((*range(0xC0, 0xC4), *range(0xC5, 0xC8), *range(0xC9, 0xCC), *range(0xCD, 0xD0)))
RATIOS = (1, 2, 4, 8)  # by which libjpeg can shrink a picture while it decodes


@dataclasses.dataclass(frozen=True)
class Frames:
    """A video's frames.

    Attributes:
      jpegs: of one size.
      times: when each is shown, seconds from the first frame of the video.
      length: seconds to the video's end, by its header.
      shown: likewise, by the frames that it had.
      fps: mean rate of the video; more than that of `jpegs` where not all were kept.
      display: rows and columns of the upright video that they were made of; None for their own.
    """

    jpegs: Sequence[bytes]
    times: np.ndarray
    length: float
    shown: float
    fps: float
    display: tuple[float, float] | None = None


class Wanted(NamedTuple):
    """What is to be decoded: the parts that go into TensorFlow's graph.

    Attributes:
      jpegs: bytes [clips * T], clip by clip.
      ratio: int32, which of RATIOS the pictures are shrunk by.
      window: int32 [4]: top, left, rows and columns of what is decoded, in shrunk pixels.
      boxes: int32 [boxes, 4]: likewise what each crop is of the window.
    """

    jpegs: np.ndarray
    ratio: np.int32
    window: np.ndarray
    boxes: np.ndarray


def choose(frames: Frames, sampling: Sampling, geometry: Geometry, key: tuple[int, ...]) -> Wanted:
    """Returns what of a video is decoded for its views.

    Args:
      frames: the video.
      sampling: which moments.
      geometry: which part of the picture.
      key: seeds what is drawn, as in decode.read_views.

    Raises:
      DecodeError: there are no frames, or they are no JPEGs of one size.
    """
    if not frames.jpegs:
        raise DecodeError("empty", "no frames in the record")
    times = _times(frames, sampling, key).ravel()
    jpegs = [frames.jpegs[i] for i in _nearest(frames.times, times)]
    sizes = {size_of(jpeg) for jpeg in jpegs}
    if len(sizes) > 1:
        raise DecodeError("corrupt", f"frames of several sizes: {sorted(sizes)}")
    height, width = sizes.pop()
    rows, columns = frames.display or (height, width)
    boxes = choose_boxes(geometry, rows, columns, np.random.default_rng((*key, 1)))
    corners = np.array(
        [
            (box.top / rows, box.left / columns, box.height / rows, box.width / columns)
            for box in boxes
        ]
    )
    corners[:, 2:] += corners[:, :2]
    smallest = ((corners[:, 2:] - corners[:, :2]) * (height, width)).min()
    ratio = sum(smallest >= ratio * geometry.size for ratio in RATIOS[1:])
    height, width = (-(-side // RATIOS[ratio]) for side in (height, width))
    corners = np.round(corners * (height, width, height, width)).astype(np.int32)
    corners[:, :2] = np.clip(corners[:, :2], 0, (height - 1, width - 1))
    corners[:, 2:] = np.clip(corners[:, 2:], corners[:, :2] + 1, (height, width))
    start = corners[:, :2].min(axis=0)
    window = np.concatenate([start, corners[:, 2:].max(axis=0) - start])
    places = np.concatenate([corners[:, :2] - start, corners[:, 2:] - corners[:, :2]], axis=1)
    return Wanted(np.array(jpegs, object), np.int32(ratio), window, places)


def _times(frames: Frames, sampling: Sampling, key: tuple[int, ...]) -> np.ndarray:
    """Returns the moments of every clip, seconds from the first frame: float64 [clips, T]."""
    reached = frames.shown - 0.5 / frames.fps + NEARER
    times = clip_times(sampling, 0.0, frames.length, frames.fps, np.random.default_rng((*key, 0)))
    if times.max() >= reached:  # the header promised more than there was
        rng = np.random.default_rng((*key, 0))
        times = clip_times(sampling, 0.0, frames.shown, frames.fps, rng)
    return times


def _nearest(times: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Returns the numbers of the frames nearest to moments; the earlier on a tie."""
    targets = moments - NEARER
    after = np.searchsorted(times, targets)
    before = np.maximum(after - 1, 0)
    after = np.minimum(after, len(times) - 1)
    return np.where(times[after] - targets < targets - times[before], after, before)


def size_of(jpeg: bytes) -> tuple[int, int]:
    """Returns rows and columns of a JPEG, by its header.

    Raises:
      DecodeError: it is none, or it has no end.
    """
    if jpeg[:2] != b"\xff\xd8":
        raise DecodeError("codec", f"a frame is no JPEG: it begins with {jpeg[:4]!r}")
    place = 2
    while place + 9 <= len(jpeg):
        marker, length = jpeg[place + 1], struct.unpack_from(">H", jpeg, place + 2)[0]
        if jpeg[place] != 0xFF or marker == 0xDA:
            break
        if marker in _SIZES:
            size = struct.unpack_from(">HH", jpeg, place + 5)
            if min(size) and jpeg.rfind(b"\xff\xd9") > place:
                return size
            break
        place += 1 if marker == 0xFF else 2 + length
    raise DecodeError("corrupt", "a frame is a damaged JPEG")
