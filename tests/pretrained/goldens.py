"""Files that the originals saved, and how far our outputs are from theirs.

golden/NAME.pth (or .pyth) is a file as its own code writes it, and golden/NAME.npz two random clips
("video", uint8) with what the original gives for them: "logits", or the "loss" where it sees the
places "visible" and predicts those "decoded". Every weight is N(0, 0.1^2), the scales of norms
around 1. The tests that use a golden tell what was called. All were made on 2026-11-21 with torch
2.13.0 in float32, on a CPU.
"""

import pathlib

import numpy as np
from peers import difference, logits, run

from vivit_jax import pretrained
from vivit_jax.objectives.masked_pixels import Drawn

FOLDER = pathlib.Path(__file__).parent / "golden"


def file_of(name):
    (file,) = (file for file in FOLDER.glob(f"{name}.*") if file.suffix != ".npz")
    return file


def compare(family, name):
    """The largest difference of logits, or of the loss, and what was imported."""
    found = pretrained.read(f"{family}:{file_of(name)}")
    objective, params = found.build()
    with np.load(FOLDER / f"{name}.npz") as file:
        golden = dict(file)
    mean, std = (np.float32(x) for x in (objective.encoder.mean, objective.encoder.std))
    video = (golden["video"] / np.float32(255) - mean) / std
    if "logits" in golden:
        return difference(logits(objective, params, video), golden["logits"]), found
    visible, decoded = golden["visible"], golden["decoded"]
    seen = [np.isin(at, own) for at, own in zip(decoded, visible, strict=True)]
    drawn = Drawn(visible, decoded, 1.0 - np.stack(seen).astype(np.float32))
    losses = run(objective, params, video, drawn, method="losses")
    return difference(losses.mean(), golden["loss"]), found
