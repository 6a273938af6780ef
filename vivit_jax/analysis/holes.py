"""Pixels that nobody has seen: filled by a model, by what is plain, and by a mixture of both.

Everything that is hidden stays so: what is checked to learn how far the model is to be trusted is
hidden beside it, and so is a little harder than what is wanted.
"""

from collections.abc import Callable, Sequence

import numpy as np
from einops import reduce
from jaxtyping import Bool, Float

from vivit_jax.analysis import plain_pictures
from vivit_jax.analysis.blending import Trust
from vivit_jax.analysis.inpainting import Inpainter
from vivit_jax.analysis.restoring import Clips, Pixels, Restored
from vivit_jax.errors import InputError

_GREY = np.float32(0.5)  # of what is hidden
_OUTSIDE = 1e-3  # trust in a frame that is made up from one side alone
Frames = Bool[np.ndarray, "T H W"]
Plainly = Callable[[Pixels, Frames], Pixels]  # what becomes of clips without the model


class _Holes:
    """What filling and interpolating have in common: pixels that nobody has seen."""

    checks = 1  # of what is there

    def __init__(self, inpainter: Inpainter):
        self._inpainter = inpainter
        self.begin()

    def begin(self) -> None:
        """Forgets what was learnt of the last video."""
        self._trust = Trust(self.checks)

    def told(self) -> dict[str, float]:
        """Returns the model's share."""
        return {"share_of_model": round(self._trust.share, 4)}

    def _restored(
        self, clips: Clips, hidden: Frames, checks: Sequence[Frames], plainly: Plainly
    ) -> Restored:
        """Returns what becomes of clips whose hidden pixels are the same.

        Args:
          clips: what is hidden in them is not read.
          hidden: pixels.
          checks: pixels to be hidden as well, to learn; one after another.
          plainly: what becomes of clips without the model.
        """
        seen = clips.astype(np.float32) / 255
        for number, checked in enumerate(checks):
            _, model = self._both(clips, seen, hidden | checked, plainly)
            plain = self._checked_plain(seen, hidden, checked, plainly)
            model, plain, truth = map(self._inpainter.by_token, (model, plain, seen))
            self._trust.learn(model, plain, truth, self._values(checked), number)
        plain, model = self._both(clips, seen, hidden, plainly)
        tokens = [self._inpainter.by_token(x) for x in (model, plain)]
        shares = self._trust.shares(tokens[0], tokens[1], self._values(hidden))
        shares = self._inpainter.by_frame(shares)
        mixed = plain + shares * (model - plain)
        at = np.broadcast_to(hidden[None, ..., None], (*clips.shape[:-1], 1))
        given, model, mixed = (np.where(at, x, seen) for x in (_GREY, model, mixed))
        return Restored(given, plain, model, mixed, at, _trusted(hidden))

    def _values(self, pixels: Frames) -> Bool[np.ndarray, "N p"]:
        """Returns which values of every token lie at some pixels."""
        return self._inpainter.by_token(np.repeat(pixels[None, ..., None], 3, axis=-1))[0]

    def _checked_plain(
        self, seen: Pixels, hidden: Frames, checked: Frames, plainly: Plainly
    ) -> Pixels:
        """Returns what is made without the model of what is checked, from as far off as ever."""
        return plainly(seen, hidden | checked)

    def _both(
        self, clips: Clips, seen: Pixels, hidden: Frames, plainly: Plainly
    ) -> tuple[Pixels, Pixels]:
        """Returns what becomes of clips without the model, and with it."""
        plain = plainly(seen, hidden)
        tokens = self._inpainter.by_token(hidden[None, ..., None])[0].any(axis=1)
        return plain, self._inpainter.fill(clips, plain, tokens)


class Fill(_Holes):
    """Fills a region that is the same in the whole video."""

    checks = 3  # elsewhere in the picture

    def __init__(self, inpainter: Inpainter, region: Bool[np.ndarray, "H W"]):
        """Prepares.

        Args:
          inpainter: the model.
          region: pixels to fill.

        Raises:
          InputError: it is empty, or nothing is left beside its tokens.
        """
        super().__init__(inpainter)
        t, (f, r, c) = inpainter.axes[0], inpainter.tubelet
        cells = reduce(region, "(i r) (j c) -> i j", "max", r=r, c=c)
        if not region.any() or cells.all():
            raise InputError(
                f"the region has {region.mean():.1%} of the picture, and touches {cells.sum()} of "
                f"{cells.size} tokens of {r} x {c} pixels; some must be hidden, and some be left."
            )
        inpainter.check(np.tile(cells.ravel(), t), "fill")
        self._region = np.broadcast_to(region, (t * f, *region.shape))
        places = moved(region, (r, c), self.checks)
        self._checked = [np.broadcast_to(place, self._region.shape) for place in places]

    def restore(self, clips: Clips, starts: Sequence[int]) -> Restored:
        """Returns what becomes of windows; see Task."""
        del starts

        def plainly(seen: Pixels, hidden: np.ndarray) -> Pixels:
            return plain_pictures.between_borders(seen, hidden[0])

        return self._restored(clips, self._region, self._checked, plainly)

    def phase(self, slot: int) -> int:
        """Returns 0: the region is the same at any time."""
        del slot
        return 0


class Interpolate(_Holes):
    """Makes up every n-th slot of a video."""

    def __init__(self, inpainter: Inpainter, drop: int):
        """Prepares.

        Args:
          inpainter: the model.
          drop: n, at least 2.

        Raises:
          InputError: a window has no such slot, or the model needs the same places in all slots.
        """
        super().__init__(inpainter)
        slots = inpainter.axes[0]
        if not 2 <= drop <= slots:
            raise InputError(
                f"--drop is {drop}; expected 2 to {slots}: a window has {slots} slots of "
                f"{inpainter.tubelet[0]} frames."
            )
        self._drop = drop
        each = self._dropped(0)
        inpainter.check(each.repeat(int(np.prod(inpainter.axes[1:]))), "interpolate")

    def restore(self, clips: Clips, starts: Sequence[int]) -> Restored:
        """Returns what becomes of windows; see Task."""
        dropped = self._dropped(starts[0])
        there = np.flatnonzero(~dropped)
        checked = np.zeros_like(dropped)
        if len(there) > 2:  # it has neighbours on both sides
            checked[there[len(there) // 2]] = True
        frames = clips.shape[1] // len(dropped)

        def pixels(slots: np.ndarray) -> np.ndarray:
            each = slots.repeat(frames)[:, None, None]
            return np.broadcast_to(each, clips.shape[1:4])

        def plainly(seen: Pixels, hidden: np.ndarray) -> Pixels:
            return plain_pictures.between_frames(seen, hidden[:, 0, 0])

        checks = [pixels(checked)] if checked.any() else []
        return self._restored(clips, pixels(dropped), checks, plainly)

    def phase(self, slot: int) -> int:
        """Returns where in a period a slot is."""
        return slot % self._drop

    def _checked_plain(
        self, seen: Pixels, hidden: Frames, checked: Frames, plainly: Plainly
    ) -> Pixels:
        """Returns each checked frame between those around it, its own slot's others among them.

        So it is from about as far off as where a slot is missing, while the model, which lacks the
        whole slot and its neighbours, is judged too strictly rather than too mildly.
        """
        plain = seen.copy()
        for frame in np.flatnonzero(checked.any(axis=(1, 2))):
            alone = hidden.copy()
            alone[frame] = True
            plain[:, frame] = plainly(seen, alone)[:, frame]
        return plain

    def _dropped(self, start: int) -> Bool[np.ndarray, " t"]:
        """Returns the slots that are hidden in a window that begins at a slot."""
        return (start + np.arange(self._inpainter.axes[0])) % self._drop == self._drop - 1


def _trusted(pixels: Frames) -> Float[np.ndarray, " T"]:
    """Returns how far frames are to be trusted: hardly where no frame is there on one side."""
    hidden = np.asarray(pixels.all(axis=(1, 2)))
    there, moments = np.flatnonzero(~hidden), np.arange(len(hidden))
    between = (moments > there[0]) & (moments < there[-1])
    return np.where(hidden & ~between, _OUTSIDE, 1.0).astype(np.float32)


def moved(
    region: Bool[np.ndarray, "H W"], step: tuple[int, int], most: int
) -> list[Bool[np.ndarray, "H W"]]:
    """Returns a region moved by whole tokens to some places that have nothing in common with it.

    They lie at no border of the picture at which the region does not, where there are such: what is
    made of borders would have fewer of them there. The nearest are taken. Where it fits nowhere
    else, what of it does not meet itself must do.

    Args:
      region: pixels.
      step: (rows, columns) of a token.
      most: places.
    """
    pixels, room = np.argwhere(region), np.array(region.shape)
    found = []
    for i in range(-(room[0] // step[0]), room[0] // step[0] + 1):
        for j in range(-(room[1] // step[1]), room[1] // step[1] + 1):
            places = pixels + (i * step[0], j * step[1])
            if (places < 0).any() or (places >= room).any():
                continue
            place = np.zeros_like(region)
            place[tuple(places.T)] = True
            like = bool((_sides(place) <= _sides(region)).all())
            place &= ~region
            if place.any():
                found.append((like, int(place.sum()), -float(np.hypot(i, j)), place))
    found.sort(key=lambda one: one[:3], reverse=True)
    return [one[3] for one in found[:most] if one[:2] == found[0][:2]]


def _sides(region: Bool[np.ndarray, "H W"]) -> Bool[np.ndarray, " 4"]:
    """Returns at which borders of the picture a region lies."""
    return np.array([x.any() for x in (region[0], region[-1], region[:, 0], region[:, -1])])
