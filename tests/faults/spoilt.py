"""A config whose objective spoils the loss of some clips, as a rare fault of a model does.

No pixel of a video file is NaN, so what is not finite is made here: the losses of these videos, at
these positions in the order of training, are multiplied by a factor.
"""

import jax.numpy as jnp
import numpy as np

from vivit_jax.objectives import OBJECTIVES, Classify
from vivit_jax.objectives.base import Outcome
from vivit_jax.recipe import experiment


class Spoilt(Classify):
    """Classification with a fault.

    Attributes:
      first: position from which there is one.
      last: position after which there is none; below `first` for none at all.
      videos: that are spoilt there, by their numbers in the list; empty for all.
      factor: on their losses; 0 for NaN.
    """

    first: int = 0
    last: int = -1
    videos: tuple[int, ...] = ()
    factor: float = 0.0

    def __call__(self, batch, *, train=False):
        losses, metrics = super().__call__(batch, train=train)
        if not train:
            return Outcome(losses, metrics)
        hit = (batch["position"] >= self.first) & (batch["position"].astype(int) <= self.last)
        if self.videos:
            hit &= jnp.isin(batch["index"], np.array(self.videos))
        return Outcome(losses * jnp.where(hit, self.factor or jnp.nan, 1.0), metrics)


OBJECTIVES["spoilt"] = Spoilt


def get_config():
    """Returns a run of a moment, whose every clip shows the same pixels each time."""
    return experiment(
        data={
            **{"batch_size": 4, "frames": 4, "stride": 1, "image_size": 16, "workers": 1},
            **{"holdout": 0.0, "sampling": "centre", "crop": "centre"},
        },
        augment={"flip": 0.0},
        model={"name": "video_transformer", "size": "mu", "tubelet": (2, 8, 8)},
        objective={"name": "spoilt"},
        optim={"learning_rate": 3e-3, "unit": "steps", "schedule": "constant"},
        train={"steps": 12, "log_every": 1, "checkpoint_every": 2, "evaluate": False},
    )
