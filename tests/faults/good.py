"""A good video of each codec."""

import pathlib

import numpy as np
from data.planted import encode, scene

KINDS = {"h264": ("libx264", ".mp4"), "mpeg4": ("mpeg4", ".avi"), "vp9": ("libvpx-vp9", ".webm")}


def good_videos(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns a video of each codec, made in a folder."""
    rng = np.random.default_rng(0)
    made = {kind: folder / f"good{ending}" for kind, (_, ending) in KINDS.items()}
    for kind, path in made.items():
        encode(path, np.concatenate([scene(rng), scene(rng)]), KINDS[kind][0])
    return made
