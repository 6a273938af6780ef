"""What the tests of all families share: peers with random weights, and how outputs are compared."""

import numpy as np

MOST = 1e-4  # difference of logits, features and losses
CLIPS = 2


def clips(frames: int, side: int) -> np.ndarray:
    """Returns normalised clips, float32 [2 T H W 3]."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(CLIPS, frames, side, side, 3)).astype(np.float32)


def to_torch(video: np.ndarray):
    """Returns clips as Hugging Face wants them: [B T 3 H W]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(video.transpose(0, 1, 4, 2, 3)))


def difference(ours, theirs) -> float:
    """Returns the largest absolute difference of two arrays, which are of one shape."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())
