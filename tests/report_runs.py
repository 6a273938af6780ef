"""Workdirs as runs leave them, written by the functions that runs write them with."""

import pathlib

import numpy as np
from tiny import experiment, noise_video

from vivit_jax import config, drawing, metrics
from vivit_jax.clock import TIME
from vivit_jax.data.labels import keep_label_maps

EVIL = "<script>alert(1)</script>"
CLASSES = (EVIL, "quo\"te & 'co", "no text \udcff")


def bare(workdir: pathlib.Path, **sections) -> pathlib.Path:
    """Returns the workdir of a run that has done nothing yet."""
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(config.to_json(experiment(**sections)))
    return workdir


def judged(
    workdir: pathlib.Path, seed: int = 0, kind: str = "single", videos: int = 12, **sections
) -> pathlib.Path:
    """Returns the workdir of a run of 40 steps that was judged at the last, and at half of them.

    Args:
      workdir: new.
      seed: of its numbers.
      kind: data.labels.
      videos: that were judged; real ones, in WORKDIR/videos.
      sections: of its config.
    """
    rng = np.random.default_rng(seed)
    root = workdir / "videos"
    data = {"root": str(root), "labels": kind}
    bare(workdir, **{**sections, "data": {**data, **sections.get("data", {})}})
    maps = (CLASSES, ("a", "b")) if kind == "heads" else (CLASSES,)
    keep_label_maps(workdir, maps)
    for part, count in (("train", len(CLASSES)), ("val", videos)):
        for i in range(count):
            folder = root / part / f"class {i % len(CLASSES)}"
            noise_video(folder / f"<b>{i}</b>.mp4", i)
    for step in range(1, 41):
        loss = 3 * np.exp(-step / 20) + rng.normal(scale=0.05)
        line = {"step": step, "loss": loss, "grad_norm": 1.0 + rng.random(), "goodput": 0.5}
        line |= {"learning_rate": 1e-3 * step, "clips_per_second": 30.0, "skipped": 0}
        metrics.append(workdir / metrics.METRICS, line)
        seconds = {"start": 5.0, "compile": 10.0, "step": 2.0 * step}
        time = {"session": 1.0, "step": step, "seconds": seconds, "done": step == 40}
        metrics.append(workdir / TIME, time)
    heads = [rng.dirichlet(np.full(len(names), 0.4), videos) for names in maps]
    labels = np.stack([[rng.choice(len(p), p=p) for p in head] for head in heads], axis=1)
    if kind == "multi":
        labels = rng.random((videos, len(CLASSES))) < heads[0]
    ids = [f"val/class {i % len(CLASSES)}/<b>{i}</b>.mp4" for i in range(videos)]
    for step in (20, 40):
        folder = workdir / f"evaluation/{step:08d}-eval"
        scores = np.concatenate(heads, axis=1).astype(np.float32)
        drawing.write_scores(folder, ids, maps, scores, labels, kind == "multi")
        record = {"step": step, "split": "eval", "views": "2x3", "videos": videos, "coverage": 1.0}
        right = [head.argmax(axis=1) == labels[:, i] for i, head in enumerate(heads)]
        if kind != "multi":
            record["top1"] = float(np.all(right, axis=0).mean())
        metrics.append(workdir / metrics.RESULTS, record)
    return workdir
