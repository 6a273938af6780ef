"""Three things that a masked model can do for pixels, each beside what is plain.

                 hidden from the model            plain                        checked on
    fill         every token that a region meets  the region's borders         the region elsewhere
    interpolate  every n-th slot                  linear in time               a slot that is there
    denoise      all tokens, in turns             a Gaussian filter            see below

What is restored is a mixture of the model's prediction and the plain one, by shares that are learnt
in the video itself, from what is there (see blending.py): where the model is worse than the plain,
it has little part in it. Denoising mixes in what is seen, noise and all, too: how much follows from
the noise's standard deviation, which is measured in the video.

A task is told what part of the video's time a window is, so that what is hidden does not depend on
where windows begin.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, UInt8

from vivit_jax.analysis import plain_pictures
from vivit_jax.analysis.blending import Denoising
from vivit_jax.analysis.inpainting import Inpainter

Clips = UInt8[np.ndarray, "n T H W 3"]
Pixels = Float[np.ndarray, "n T H W 3"]
_ROUNDS = 2  # times that each token is hidden from the model to denoise it, beside other tokens


class Restored(NamedTuple):
    """What became of clips, and of what else they would have been; values from 0 to 1.

    Attributes:
      given: as they were given, grey where something was hidden.
      plain: without the model.
      model: by the model alone.
      restored: by both.
      hidden: bool [n T H W 1], the pixels that were to be restored.
      trust: of each frame beside other windows' of the same moment, [T].
    """

    given: Pixels
    plain: Pixels
    model: Pixels
    restored: Pixels
    hidden: np.ndarray
    trust: Float[np.ndarray, " T"]


class Task(Protocol):
    """Restores windows of a video, one video after another."""

    def begin(self) -> None:
        """Forgets what was learnt of the last video."""
        ...

    def restore(self, clips: Clips, starts: Sequence[int]) -> Restored:
        """Returns what becomes of windows.

        Args:
          clips: of one phase.
          starts: their first slots, counted from the video's beginning.
        """
        ...

    def phase(self, slot: int) -> int:
        """Returns what windows that begin at a slot have in common with others."""
        ...

    def told(self) -> dict[str, float]:
        """Returns what was learnt of the video."""
        ...


class Denoise:
    """Takes noise out of a video."""

    def __init__(self, inpainter: Inpainter, added: float = 0.0):
        """Prepares.

        Args:
          inpainter: the model.
          added: standard deviation of noise to add first, to see how much of it is taken out;
            white is 1.
        """
        self._inpainter, self._added = inpainter, added
        self._turns = turns(inpainter.axes, inpainter.mask, inpainter.mask_ratio)
        inpainter.check(self._turns[0], "denoise")
        self.begin()

    def begin(self) -> None:
        """Forgets what was learnt of the last video."""
        self._learnt = Denoising(plain_pictures.own_share())
        self._noises: list[float] = []

    def restore(self, clips: Clips, starts: Sequence[int]) -> Restored:
        """Returns what becomes of windows; see Task."""
        if self._added:
            noisy = [self._with_noise(*one) for one in zip(clips, starts, strict=True)]
            clips = np.stack(noisy)
        seen = clips.astype(np.float32) / 255
        total, times = np.zeros_like(seen), np.zeros(len(self._turns[0]), np.float32)
        for hidden in self._turns:
            filled = self._inpainter.fill(clips, np.zeros_like(seen), hidden)
            total += filled  # 0 where nothing is hidden
            times += hidden
        model = total / self._inpainter.by_frame(times[None, :, None])
        plain = plain_pictures.smoothed(seen)
        noise = plain_pictures.noise_of(seen)
        self._noises.append(noise)
        self._learnt.learn(seen, model, plain, noise)
        of_model, of_filter = self._learnt.shares
        mixed = seen + of_model * (model - seen) + of_filter * (plain - seen)
        everywhere = np.ones((*clips.shape[:-1], 1), bool)
        trust = np.ones(clips.shape[1], np.float32)
        return Restored(seen, plain, model, mixed.clip(0, 1), everywhere, trust)

    def _with_noise(self, clip: np.ndarray, start: int) -> np.ndarray:
        """Returns a clip with noise that is a frame's own, whichever window it is in."""
        first = start * self._inpainter.tubelet[0]
        each = [np.random.default_rng((0, first + i)) for i in range(len(clip))]
        noise = [255 * self._added * rng.standard_normal(clip.shape[1:]) for rng in each]
        return np.round(clip + np.stack(noise)).clip(0, 255).astype(np.uint8)

    def phase(self, slot: int) -> int:
        """Returns 0: all windows are alike."""
        del slot
        return 0

    def told(self) -> dict[str, float]:
        """Returns the shares, and the noise that was measured."""
        of_model, of_filter = self._learnt.shares
        return {
            "share_of_model": round(of_model, 4),
            "share_of_filter": round(of_filter, 4),
            "noise": round(float(np.mean(self._noises)), 5),
        }


def turns(axes: tuple[int, int, int], mask: str, ratio: float) -> list[Bool[np.ndarray, " N"]]:
    """Returns masks which hide each token as often as any other.

    They are such as the model was trained with: of the same places in every slot or of others, and
    about as many.

    Args:
      axes: of the tokens.
      mask: a row of masking.RULES.
      ratio: of the hidden.
    """
    slots, places, rng = axes[0], axes[1] * axes[2], np.random.default_rng(0)
    groups = min(places, max(2, round(1 / min(ratio, 1 - ratio))))
    masks = []
    for _ in range(_ROUNDS):
        orders = [rng.permutation(places) for _ in range(slots)]
        orders = orders[:1] * slots if mask == "tube" else orders
        for group in np.array_split(np.arange(places), groups):
            chosen = np.stack([np.isin(order, group) for order in orders])
            masks.append((chosen if ratio <= 0.5 else ~chosen).ravel())
    return masks
