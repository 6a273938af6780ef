"""How far a model is to be trusted beside something plain, by what can be checked in the video.

The best mixture of two predictions is least squares against the truth. Where the truth is hidden,
some of what is there is hidden as well, and both predict it: what was best there is used where
nobody knows. How much the two differ at a token tells much of which of them errs (they agree where
nothing moves), so there is a share for each range of differences.

Noise is nowhere absent, so denoising cannot check anything. But a prediction of a token from other
tokens knows nothing of the token's own noise, and what a linear filter leaves of it is known: that
is enough for least squares, up to the noise's standard deviation.

Sources: Batson & Royer 2019 (Noise2Self) and Stein 1981 for the latter.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

_EDGES = 10.0 ** np.arange(-4.5, -1.0, 0.5)  # of mean squared differences, white 1
_ENOUGH = 2000  # values of a range from which it has a share of its own
Tokens = Float[np.ndarray, "n N p"]
Known = Bool[np.ndarray, "N p"]


class Trust:
    """Shares of a model in its mixture with something plain, learnt from what was checked.

    What one check tells is much the same in all windows, so that thousands of values are little
    evidence of what is best elsewhere: of several, the one that trusts the model least decides.
    """

    def __init__(self, checks: int = 1):
        """Knows nothing yet.

        Args:
          checks: how many there are.
        """
        sums = np.zeros((3, checks, len(_EDGES) + 1))
        self._along, self._length, self._count = sums  # of the truth, in the model's direction

    def learn(
        self, model: Tokens, plain: Tokens, truth: Tokens, known: Known, check: int = 0
    ) -> None:
        """Takes in clips of which both predictions and the truth are known, at some values."""
        ranges, way = _ranges(model, plain, known), (model - plain) * known
        np.add.at(self._along[check], ranges, (way * (truth - plain)).sum(axis=2))
        np.add.at(self._length[check], ranges, (way**2).sum(axis=2))
        np.add.at(self._count[check], ranges, known.sum(axis=1)[None])

    @property
    def share(self) -> float:
        """The model's in all: 0 to 1; 1/2 where nothing is known."""
        return float(self._by_check.min())

    def shares(self, model: Tokens, plain: Tokens, hidden: Known) -> Float[np.ndarray, "n N 1"]:
        """Returns the model's share at each token, by how much the two differ where hidden."""
        own = np.clip(self._along / np.maximum(self._length, 1e-12), 0, 1)
        each = np.where(self._count >= _ENOUGH, own, self._by_check[:, None]).min(axis=0)
        return each[_ranges(model, plain, hidden)][..., None].astype(np.float32)

    @property
    def _by_check(self) -> Float[np.ndarray, " checks"]:
        """The model's share in all by each check; one that has told nothing decides nothing."""
        along, length = self._along.sum(axis=1), self._length.sum(axis=1)
        unknown = 1.0 if length.any() else 0.5
        return np.where(length > 0, np.clip(along / np.maximum(length, 1e-12), 0, 1), unknown)


class Noisy(NamedTuple):
    """Shares of what denoises in the mixture with what is seen, which has the rest.

    Attributes:
      model: of a prediction of each token from others.
      filter: of a linear filter.
    """

    model: float
    filter: float


class Denoising:
    """Shares that take the most noise away, of all windows so far."""

    def __init__(self, own: float):
        """Knows nothing yet.

        Args:
          own: what the filter leaves of a value at its own place.
        """
        self._own = own
        self._products, self._count = np.zeros((2, 2)), 0
        self._variance = 0.0

    def learn(
        self, seen: np.ndarray, model: np.ndarray, filtered: np.ndarray, noise: float
    ) -> None:
        """Takes in clips.

        Args:
          seen: with noise.
          model: predicted, each token from others.
          filtered: by the filter.
          noise: standard deviation.
        """
        ways = np.stack([(model - seen).ravel(), (filtered - seen).ravel()]).astype(np.float64)
        self._products += ways @ ways.T
        self._variance += noise**2 * ways.shape[1]
        self._count += ways.shape[1]

    @property
    def shares(self) -> Noisy:
        """The best shares: at least 0, and at most 1 together."""
        products, variance = self._products / self._count, self._variance / self._count
        wanted = variance * np.array([1.0, 1.0 - self._own])
        alone = np.clip(wanted / np.maximum(products.diagonal(), 1e-12), 0, 1)
        candidates = [np.zeros(2), np.array([alone[0], 0]), np.array([0, alone[1]])]
        if np.linalg.det(products) > 1e-9 * products.trace() ** 2:
            candidates.append(np.linalg.solve(products, wanted))
        slope = (products[1, 1] - products[0, 1] + wanted[0] - wanted[1]) / max(
            products[0, 0] + products[1, 1] - 2 * products[0, 1], 1e-12
        )
        candidates.append(np.array([np.clip(slope, 0, 1), 1 - np.clip(slope, 0, 1)]))
        allowed = [x for x in candidates if x.min() >= 0 and x.sum() <= 1 + 1e-9]
        best = min(allowed, key=lambda x: x @ products @ x - 2 * x @ wanted)
        return Noisy(*best.tolist())


def _ranges(model: Tokens, plain: Tokens, counted: Known) -> Int[np.ndarray, "n N"]:
    """Returns the range of differences that each token is in, over the values that count."""
    squares = ((model - plain) ** 2 * counted).sum(axis=2)
    return np.digitize(squares / np.maximum(counted.sum(axis=1), 1)[None], _EDGES)


def shepard(there: Bool[np.ndarray, " N"], axes: tuple[int, int, int]) -> Float[np.ndarray, "M V"]:
    """Returns the weights by which values of tokens that are there stand for those that are not.

    They fall with the fourth power of the distance, counted in tokens over time, rows and columns,
    so that neighbours count and, in the middle of a large hole, its border (Shepard 1968).

    Args:
      there: in raster order.
      axes: (slots, rows, columns).
    """
    places = np.stack(np.unravel_index(np.arange(len(there)), axes), axis=1).astype(np.float32)
    squares = ((places[~there][:, None] - places[there][None]) ** 2).sum(axis=2)
    weights = squares**-2.0
    return weights / weights.sum(axis=1, keepdims=True)
