"""What a masked model predicts of hidden tokens, where nobody knows what they hold.

Where its targets are normalised token by token, a prediction lacks its mean and scale. Papers draw
it with the true ones; here they are not known, and are made of those of the tokens that are there,
by Shepard's weights over time, rows and columns (blending.shepard): close by, light and contrast
change little. So a model of targets in plain pixels restores more, and one of normalised targets
gives the detail alone.

A model that predicts one frame of each tubelet tells how that frame differs from something plain,
and the tubelet's other frames are taken to differ alike.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Bool, Float, Int, UInt8

from vivit_jax import sharding
from vivit_jax.analysis.blending import shepard
from vivit_jax.errors import InputError
from vivit_jax.models.layers import take
from vivit_jax.models.video_transformer import normalise
from vivit_jax.objectives.masked_pixels import Drawn, MaskedPixels
from vivit_jax.objectives.masking import RULES
from vivit_jax.observer import AT_ONCE, Observer

Hidden = Bool[np.ndarray, " N"]


class Inpainter:
    """Predicts the pixels of hidden tokens.

    Attributes:
      axes: (slots, rows, columns) of a window's tokens.
      tubelet: (frames, rows, columns) of a token.
      mask: that it was trained with, a row of masking.RULES.
      mask_ratio: that it was trained with.
    """

    def __init__(self, observer: Observer):
        """Prepares.

        Raises:
          InputError: it is no masked model of pixels.
        """
        if observer.experiment.objective["name"] != "masked_pixels":
            raise InputError(
                f"{observer.saved.where} holds a model of config.objective.name = "
                f"{observer.experiment.objective['name']!r}, which predicts no pixels: restoring "
                "needs one of 'masked_pixels', such as of configs/quickstart_pretrain.py."
            )
        objective, self._params = observer.objective
        assert isinstance(objective, MaskedPixels)
        data = observer.experiment.data
        self._objective, self._mesh = objective, observer.mesh
        self.axes = objective.encoder.grid(data.frames, data.image_size, data.image_size)
        self.tubelet = objective.encoder.tubelet
        self.mask, self.mask_ratio = objective.mask, objective.mask_ratio
        self._size = -(-AT_ONCE // self._mesh.size) * self._mesh.size
        self._fill = jax.jit(self._filled, out_shardings=sharding.replicated(self._mesh))

    def check(self, hidden: Hidden, task: str) -> None:
        """Refuses a mask that the encoder's attention cannot do with.

        Raises:
          InputError: it cannot.
        """
        by_slot = hidden.reshape(self.axes[0], -1)
        attention = self._objective.encoder.attention
        same, as_many = (by_slot == by_slot[:1]).all(), len({*by_slot.sum(axis=1)}) == 1
        borne = {"tube": same, "slots": as_many, "random": True}
        if not any(fits and attention in RULES[rule].arrangements for rule, fits in borne.items()):
            raise InputError(
                f"--task {task} hides other tokens in every slot, and model.attention = "
                f"{attention!r} needs as many in all, or the same: use a model of 'joint'."
            )

    def fill(
        self,
        clips: UInt8[np.ndarray, "n T H W 3"],
        plain: Float[np.ndarray, "n T H W 3"],
        hidden: Hidden,
    ) -> Float[np.ndarray, "n T H W 3"]:
        """Returns what is predicted at hidden tokens, and `plain` elsewhere; 0 to 1.

        Args:
          clips: of which the hidden tokens are not read.
          plain: what else there would be.
          hidden: the same tokens of all clips.
        """
        places = np.flatnonzero(~hidden)[None], np.flatnonzero(hidden)[None]
        weights = shepard(~hidden, self.axes)
        batch, made = sharding.batch_sharding(self._mesh), []
        for first in range(0, len(clips), self._size):
            some = clips[first : first + self._size], plain[first : first + self._size]
            padded = [np.concatenate([x, x[:1].repeat(self._size - len(x), axis=0)]) for x in some]
            given = [jax.device_put(x, batch) for x in padded]
            with jax.set_mesh(self._mesh):
                filled = self._fill(self._params, *given, *places, weights)
            made.append(np.asarray(filled)[: len(some[0])])
        return np.concatenate(made).clip(0, 1)

    def _filled(
        self,
        params: Any,
        clips: UInt8[Array, "n T H W 3"],
        plain: Float[Array, "n T H W 3"],
        visible: Int[Array, "1 V"],
        hidden: Int[Array, "1 M"],
        weights: Float[Array, "M V"],
    ) -> Float[Array, "n T H W 3"]:
        """Returns the same for as many clips as the devices are given at once."""
        objective, encoder, count = self._objective, self._objective.encoder, len(clips)
        video = normalise(clips, encoder.mean, encoder.std)
        visible, hidden = (
            jnp.repeat(x.astype(jnp.int32), count, axis=0) for x in (visible, hidden)
        )
        drawn = Drawn(visible, hidden, jnp.ones(hidden.shape))
        predicted: Any = objective.apply({"params": params}, video, drawn, method="fill_in")
        moments = (take(x, visible) for x in objective.moments(objective.patches(video)))
        mean, scale = (jnp.einsum("mv,bvpc->bmpc", weights, x) for x in moments)
        filled = objective.as_pixels(predicted, mean, scale)
        under = objective.cut(plain)
        change = filled - take(under, hidden)
        whole = jax.vmap(lambda x, at, y: x.at[at].set(y))(jnp.zeros_like(under), hidden, change)
        frames = objective.paste(whole, self.axes)
        return plain + jnp.repeat(frames, plain.shape[1] // frames.shape[1], axis=1)

    def by_token(self, clips: Float[np.ndarray, "n T H W c"]) -> Float[np.ndarray, "n N p"]:
        """Returns the values of every token of clips."""
        f, r, c = self.tubelet
        return rearrange(clips, "n (t f) (i r) (j c) d -> n (t i j) (f r c d)", f=f, r=r, c=c)

    def by_frame(self, tokens: Float[np.ndarray, "n N p"]) -> Float[np.ndarray, "n T H W c"]:
        """Returns clips, from the values of tokens or one for each: `by_token` undone."""
        (t, i, j), (f, r, c) = self.axes, self.tubelet
        values = tokens if tokens.shape[2] > 1 else tokens.repeat(f * r * c, axis=2)
        back = "n (t i j) (f r c d) -> n (t f) (i r) (j c) d"
        return rearrange(values, back, t=t, i=i, j=j, f=f, r=r, c=c)
