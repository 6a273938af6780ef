"""An encoder alone, as published without a head: it is looked at, and fine-tuned by others.

Its features can be written, drawn and probed like those of any objective, and config.init_from can
start another run from it. There is nothing here that it could learn.
"""

from collections.abc import Collection, Mapping

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array

from vivit_jax.errors import InputError
from vivit_jax.models.costs import Costs, multiply_accumulates
from vivit_jax.objectives.base import Outcome


class Encode(nn.Module):
    """Encodes, and learns nothing.

    Attributes:
      encoder: see models/video_transformer.py.
    """

    learns = False

    encoder: nn.Module

    def __call__(self, batch: Mapping[str, Array], *, train: bool = False) -> Outcome:
        """Returns a loss of 0 for each example of a batch, which the encoder has seen.

        Args:
          batch: with "video".
          train: must be False.

        Raises:
          InputError: it is to be trained.
        """
        if train:
            raise InputError(
                "objective.name = 'encode' learns nothing: give another, such as 'classify'."
            )
        features = self.encoder(batch["video"], train=False)
        return Outcome(jnp.zeros(len(features.summary)), {})

    @nn.nowrap
    def costs(self, frames: int, image_size: int, learnt: Collection[str] | None = None) -> Costs:
        """Returns the multiply-accumulates of one clip, of which nothing is learnt by."""
        del learnt
        return Costs(multiply_accumulates(self.encoder, frames, image_size))  # type: ignore
