"""What the tests of all families share: peers with random weights, and how outputs are compared."""

import json

import numpy as np
from torch_weights import randomised

from vivit_jax import pretrained
from vivit_jax.pretrained import huggingface

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


def saved(cls, config, folder):
    """Returns a model of Hugging Face's with random weights, saved in its own format."""
    import torch

    torch.manual_seed(0)
    model = randomised(cls(config))
    model.save_pretrained(folder)
    return model


def with_config(folder, changed) -> None:
    """Changes fields of a folder's config.json."""
    file = folder / huggingface.CONFIG
    file.write_text(json.dumps({**json.loads(file.read_text()), **changed}))


def back_from(cls, tmp_path):
    """Returns what Hugging Face makes of our export to tmp_path/back of its tmp_path/hf."""
    (tmp_path / "back").mkdir()
    huggingface.write(pretrained.read(f"hf:{tmp_path / 'hf'}"), tmp_path / "back")
    return cls.from_pretrained(tmp_path / "back").eval()
