"""Which moments and which parts of the picture a config takes of a video, to train and to judge."""

from vivit_jax import config
from vivit_jax.data.clips import TRAINING_KINDS, Sampling
from vivit_jax.data.geometry import Geometry
from vivit_jax.errors import InputError


def train_views(data: config.Data) -> tuple[Sampling, Geometry]:
    """Returns which moments and which part of the picture a training clip is."""
    if data.sampling not in TRAINING_KINDS:
        raise InputError(
            f"data.sampling is {data.sampling!r}; expected one of {', '.join(TRAINING_KINDS)}."
        )
    return _sampling(data, data.sampling, 1), Geometry(
        size=data.image_size,
        crop=data.crop,
        copies=data.repeats,
        area=data.crop_area,
        aspect=data.crop_aspect,
        resize=data.resize,
        jitter=data.scale_jitter,
    )


def eval_views(
    data: config.Data, clips: int, crops: int, resize: int = 0
) -> tuple[Sampling, Geometry]:
    """Returns which moments and which parts of the picture a video is judged by.

    Args:
      data: how clips are made.
      clips: clips of a video.
      crops: crops of a clip: 1 or 3.
      resize: short side before the crop, pixels; 0 means data.image_size.
    """
    over_all = {"segments": "segment_views", "key_frames": "key_frames"}
    kind = over_all.get(data.sampling, "views")
    geometry = Geometry(size=data.image_size, resize=resize, test_crops=crops)
    return _sampling(data, kind, clips), geometry


def _sampling(data: config.Data, kind: str, clips: int) -> Sampling:
    """Returns what training and judging choose moments by alike."""
    return Sampling(
        frames=data.frames,
        stride=data.stride,
        fps=data.fps,
        kind=kind,
        views=clips,
        short_videos=data.short_videos,
        frame_order=data.frame_order,
    )
