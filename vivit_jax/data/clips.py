"""Which moments of a video make a clip: pure arithmetic on times, never on frame numbers.

A clip is T moments; the decoder shows at each the frame whose presentation time is nearest. So
a video of variable frame rate, or one whose header counts frames that do not exist, still gives
what was asked. Clips start on the grid of the video's mean frame rate, which keeps the moments
away from the middle between two frames, where the nearest would be decided by rounding.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from vivit_jax.errors import InputError

TRAINING_KINDS = ("random", "centre", "segments", "key_frames")
KINDS = (*TRAINING_KINDS, "views", "segment_views")
NEARER = 1e-6  # seconds: of two frames equally near the earlier is shown, whatever the rounding
_TINY = 1e-6  # of a source frame: what float rounding may move a moment by
_STILL = 0.002  # change that a frame counts for which shows nothing new, of [0, 1]


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the moments of a video's clips are chosen.

    Attributes:
      frames: T, moments of a clip.
      stride: source frames from one moment to the next, at the video's mean rate.
      fps: moments a second, in place of stride; 0 to use stride.
      kind: "random" (a window anywhere), "centre" (the middle window), "segments" (TSN: one
        random frame of each of T equal segments), "views" (`views` windows evenly spaced from
        the first to the last that fit), "segment_views" (`views` fixed points of each segment) or
        "key_frames" (`views` fixed points of each of T segments in which as much changes).
      views: clips of a video; read by the three last kinds.
      short_videos: what follows the last frame where a window does not fit: "loop" (the video
        from its beginning) or "hold" (the last frame).
      frame_order: "forward", "shuffled" (a random order) or "repeated" (one moment, T times).
    """

    frames: int
    stride: int = 1
    fps: float = 0.0
    kind: str = "random"
    views: int = 1
    short_videos: str = "loop"
    frame_order: str = "forward"

    def __post_init__(self):
        """Refuses what gives no clip."""
        for option, value, known in (
            ("sampling", self.kind, KINDS),
            ("short_videos", self.short_videos, ("loop", "hold")),
            ("frame_order", self.frame_order, ("forward", "shuffled", "repeated")),
        ):
            if value not in known:
                raise InputError(f"data.{option} is {value!r}; expected one of {', '.join(known)}.")
        for option, value, least in (
            ("data.frames", self.frames, 1),
            ("data.stride", self.stride, 1),
            ("data.fps", self.fps, 0),
            ("eval.clips", self.views, 1),
        ):
            if value < least:
                raise InputError(f"{option} is {value}; expected at least {least}.")

    @property
    def clips(self) -> int:
        """Clips that one video gives."""
        return self.views if self.kind in ("views", "segment_views", "key_frames") else 1


@dataclasses.dataclass(frozen=True)
class Moments:
    """One clip of moments that are given, in place of a Sampling.

    Attributes:
      seconds: from the first frame; what is after the last shows that.
    """

    seconds: tuple[float, ...]

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.seconds)

    @property
    def clips(self) -> int:
        """Clips that one video gives."""
        return 1


class Movement(NamedTuple):
    """What changes in a video.

    Attributes:
      seconds: presentation times of some frames, rising.
      change: of each to the one before, of [0, 1]; the first's is 0.
    """

    seconds: np.ndarray
    change: np.ndarray


def clip_times(
    sampling: Sampling | Moments,
    begin: float,
    end: float,
    fps: float,
    rng: np.random.Generator,
    movement: Movement | None = None,
) -> np.ndarray:
    """Returns the moments of every clip of a video: float64 [clips, T], seconds.

    Args:
      sampling: what is asked.
      begin: presentation time of the first frame, seconds.
      end: when the last frame has been shown, seconds.
      fps: the video's mean rate, frames a second.
      rng: draws the window, the segments' frames and the control orders, in this order.
      movement: between begin and end; read by "key_frames".
    """
    if isinstance(sampling, Moments):
        return np.minimum(begin + np.array([sampling.seconds]), max(begin, end - 1 / fps))
    count = max(1, round((end - begin) * fps))
    if sampling.kind in ("segments", "segment_views"):
        places = _segments(sampling, count, rng)
    elif sampling.kind == "key_frames":
        assert movement is not None
        places = _key_frames(sampling, count, (movement.seconds - begin) * fps, movement.change)
    else:
        places = _windows(sampling, count, fps, rng)
    if sampling.frame_order == "shuffled":
        places = rng.permuted(places, axis=1)
    elif sampling.frame_order == "repeated":
        places = np.repeat(places[:, [rng.integers(sampling.frames)]], sampling.frames, axis=1)
    return begin + places / fps


def _windows(sampling: Sampling, count: int, fps: float, rng: np.random.Generator) -> np.ndarray:
    """Returns evenly spaced places, in frames from the first: float64 [clips, T]."""
    step = fps / sampling.fps if sampling.fps else float(sampling.stride)
    last = max(0, int(np.floor(count - 1 - (sampling.frames - 1) * step + _TINY)))
    if sampling.kind == "random":
        starts = rng.integers(last + 1, size=1)
    elif sampling.kind == "centre" or sampling.views == 1:
        starts = np.array([last // 2])
    else:
        starts = np.round(np.linspace(0, last, sampling.views))
    places = starts[:, None] + np.arange(sampling.frames) * step
    if sampling.short_videos == "loop":
        return np.maximum(np.mod(places + _TINY, count) - _TINY, 0)
    return np.minimum(places, count - 1)


def _segments(sampling: Sampling, count: int, rng: np.random.Generator) -> np.ndarray:
    """Returns one frame of each of T equal segments: float64 [clips, T]."""
    if sampling.kind == "segments":
        inside = rng.random((1, sampling.frames))
    else:
        inside = (np.arange(sampling.views)[:, None] + 0.5) / sampling.views
    places = (np.arange(sampling.frames) + inside) * (count / sampling.frames)
    return np.minimum(np.floor(places + _TINY), count - 1)


def _key_frames(
    sampling: Sampling, count: int, shown: np.ndarray, change: np.ndarray
) -> np.ndarray:
    """Returns one frame of each of T segments in which as much changes: float64 [clips, T].

    So still stretches give few frames. No frame is shown twice where there are enough, also where
    a cut is as much of a change as several segments.

    Args:
      sampling: how many.
      count: frames that there are.
      shown: places of frames, rising.
      change: of each to the one before.
    """
    total = np.cumsum(change + _STILL)
    inside = (np.arange(sampling.views)[:, None] + 0.5) / sampling.views
    shares = (np.arange(sampling.frames) + inside) / sampling.frames
    places = np.interp(total[0] + shares * (total[-1] - total[0]), total, shown)
    places = np.clip(np.round(places), 0, count - 1)
    room = count - sampling.frames
    if room < 0:
        return places
    order = np.arange(sampling.frames)
    ahead = np.minimum(np.maximum.accumulate(places - order, axis=1), room)
    return ahead + order
