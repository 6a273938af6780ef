"""Tiny runs: real videos of a few frames, and a model of one block."""

import pathlib

import numpy as np
from data.conftest import write_video

from vivit_jax import config, metrics, recipe

SIZE = 16  # pixels


def noise_video(path: pathlib.Path, seed: int) -> pathlib.Path:
    """Returns the path of a video that looks like no other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frames = np.random.default_rng(seed).integers(0, 256, (12, 32, 48, 3), np.uint8)
    return write_video(path, len(frames), height=32, width=48, texture=frames.__getitem__)


def experiment(**sections) -> config.Experiment:
    """Returns an experiment that runs within seconds, with these options besides."""
    given = {
        "data": {"batch_size": 8, "frames": 4, "stride": 1, "image_size": SIZE, "workers": 1},
        "model": {"name": "video_transformer", "size": "mu", "tubelet": (2, 8, 8)},
        "objective": {"name": "classify"},
        "optim": {"learning_rate": 0.1},
        "train": {"steps": 2, "log_every": 1},
        "eval": {"clips": 2, "crops": 3},
    }
    for name, section in sections.items():
        given[name] = {**given.get(name, {}), **section} if isinstance(section, dict) else section
    return config.parse(recipe.experiment(**given).to_dict())


def written(workdir: pathlib.Path, *names: str) -> list[dict]:
    """Returns the records of files of a run, without the times that no two runs share."""
    times = {"clips_per_second", "clips_per_second_per_device", "mfu", "data_wait", "goodput"}
    records = [record for name in names for record in metrics.read_lines(workdir / name)]
    return [{k: v for k, v in x.items() if k not in {*times, "seconds"}} for x in records]
