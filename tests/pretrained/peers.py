"""What the tests of all families share: peers with random weights, and how outputs are compared."""

import json

import jax
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


def clips_of(config) -> np.ndarray:
    """Returns clips for a model of Hugging Face's."""
    if config.model_type == "vjepa2":
        return clips(config.frames_per_clip, config.crop_size)
    return clips(config.num_frames, config.image_size)


def to_torch(video: np.ndarray):
    """Returns clips as Hugging Face wants them: [B T 3 H W]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(video.transpose(0, 1, 4, 2, 3)))


def difference(ours, theirs) -> float:
    """Returns the largest absolute difference of two arrays, which are of one shape."""
    ours, theirs = np.asarray(ours), np.asarray(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max())


def equal(one, other) -> bool:
    """Returns whether arrays are the same under the same names."""
    return one.keys() == other.keys() and all(
        np.array_equal(value, other[name]) for name, value in one.items()
    )


def run(objective, params, *given, method):
    """Returns what a method of an objective gives for arrays, compiled."""
    return jax.jit(lambda p, x: objective.apply({"params": p}, *x, method=method))(params, given)


def logits(objective, params, video):
    """Returns the logits of clips."""
    return run(objective, params, {"video": video}, method="predict")


def features(objective, params, video):
    """Returns what an objective's encoder makes of clips."""
    return run(objective.encoder, params["encoder"], video, method="__call__")


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


def back_from(cls, tmp_path, lacking=()):
    """Returns what Hugging Face makes of our export to tmp_path/back of its tmp_path/hf.

    Args:
      cls: of the model.
      tmp_path: with the folder.
      lacking: beginnings of names that the export has not.
    """
    (tmp_path / "back").mkdir()
    huggingface.write(pretrained.read(f"hf:{tmp_path / 'hf'}"), tmp_path / "back")
    model, account = cls.from_pretrained(tmp_path / "back", output_loading_info=True)
    assert not [x for names in account.values() for x in names if not x.startswith(lacking)]
    return model.eval()


def same(back, model, leaving="no such name") -> bool:
    """Returns whether all of two models' parameters are equal, but for those of a name."""
    one, other = (
        {name: x.numpy() for name, x in own.state_dict().items() if leaving not in name}
        for own in (back, model)
    )
    return equal(one, other)


def assert_same_logits(model, tmp_path, leaving="no such name") -> None:
    """Asserts that a classifier says the same here, and when it has gone back bit for bit.

    Args:
      model: as it was saved to tmp_path/hf.
      tmp_path: with the folder.
      leaving: name of parameters that take no part, and do not go back.
    """
    import torch

    video = clips_of(model.config)
    with torch.no_grad():
        theirs = model(to_torch(video)).logits
    assert difference(logits(*pretrained.load(f"hf:{tmp_path / 'hf'}"), video), theirs) < MOST
    back = back_from(type(model), tmp_path)
    with torch.no_grad():
        assert difference(back(to_torch(video)).logits, theirs) == 0
    assert back.config.id2label == model.config.id2label
    assert same(back, model, leaving)
