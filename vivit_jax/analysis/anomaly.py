"""How unusual each window of a video is, measured by what is usual in other videos.

By distance, for any encoder: one less the mean cosine similarity of a window's features to those of
the most similar usual windows. Features are whitened by the usual ones where these are many enough
(the metric of Mahalanobis): else a few directions that hold most of the variance, as of light and
colour in an encoder that was trained on pixels, would decide alone. They are not moved to a mean of
0: what is most usual lies near the mean, and from there any direction may be next.

By reconstruction, for a masked autoencoder: the squared error at what was hidden as a share of the
window's variance, for else strong contrasts were unusual; the mean over several masks, which are
the same for all windows. What is like nothing that was trained on is filled in badly. A window that
is flat has no variance, and is judged by that of one which shows a little.

What is usual is told by the usual videos' own scores, each measured by the others alone.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Bool, Float, Int

from vivit_jax.data.windows import Grid
from vivit_jax.errors import InputError
from vivit_jax.evals.neighbours import Comparing, whitening
from vivit_jax.models.video_transformer import normalise
from vivit_jax.objectives.masked_pixels import MaskedPixels

if TYPE_CHECKING:
    from vivit_jax.observer import Observer
    from vivit_jax.watching import Watcher

METHODS = ("distance", "reconstruction")
WHITENED = 2  # usual windows for each feature, from which on they are whitened
_SEED = 0  # of the masks
_FLAT = 1e-3  # variance of pixels from 0 to 1, below which a window shows next to nothing
_NOBODY = -1  # owner of a window that is no usual video's
_QUERIES = 256  # windows that are measured at once

See = Callable[[np.ndarray], np.ndarray]  # uint8 [n crops T H W 3] to rows


class Normal(NamedTuple):
    """A usual video, or some parts of one: seconds from the first frame; none for all of it."""

    path: str
    spans: tuple[tuple[float, float], ...] = ()


class Usual(NamedTuple):
    """What was seen of usual videos.

    Attributes:
      rows: of their windows.
      owner: whose each is, a number a video.
      unread: videos that could not be used, in words.
    """

    rows: Float[np.ndarray, "N D"]
    owner: Int[np.ndarray, " N"]
    unread: list[str]


def look_at(watcher: "Watcher", videos: Sequence[Normal], see: See) -> Usual:
    """Returns what is seen of usual videos, of each window once, in however many parts it lies.

    Raises:
      InputError: there is nothing to be seen in any of them.
    """
    rows, owner, unread = [], [], []
    for number, (path, spans) in enumerate(videos):
        try:
            watched = watcher.watch(path, see)
        except InputError as error:
            unread.append(str(error))
            continue
        begins, ends = watched.spans.T
        within = [(begins >= begin) & (ends <= end) for begin, end in spans]
        wanted = watched.there & (np.any(within, axis=0) if spans else True)
        if not wanted.any():
            unread.append(f"{path}: none of its windows that were read lies in the parts of it.")
        rows.append(watched.rows[wanted])
        owner += [number] * int(wanted.sum())
    if not owner:
        first = f" The first: {unread[0]}" if unread else ""
        raise InputError(f"None of the {len(videos)} normal videos has a window.{first}")
    return Usual(np.concatenate(rows), np.array(owner), unread)


class Distance:
    """Measures how far windows are from usual ones."""

    def __init__(self, usual: Usual, nearest: int):
        """Keeps the usual windows.

        Args:
          usual: features of usual windows.
          nearest: how many of them count.

        Raises:
          InputError: they are too few, or of one video alone.
        """
        videos = len(set(usual.owner.tolist()))
        most = int(np.bincount(usual.owner).max())
        if videos < 2 or len(usual.rows) - most < nearest:
            raise InputError(
                f"{len(usual.rows)} windows of {videos} normal videos are too few to tell what is "
                f"usual by the {nearest} nearest: give more, or a smaller --nearest."
            )
        self.whitened = len(usual.rows) >= WHITENED * usual.rows.shape[1]
        self._turn = whitening(usual.rows) if self.whitened else None
        self._bank, self._owner = self._turned(usual.rows), usual.owner
        of_bank = jnp.asarray(usual.owner)

        def distances(similarity: jax.Array, owner: jax.Array) -> jax.Array:
            others = jnp.where(owner[:, None] == of_bank[None], -jnp.inf, similarity)
            return 1 - jax.lax.top_k(others, nearest)[0].mean(axis=1)

        self._distances = Comparing(self._bank, distances, _QUERIES)

    def own(self) -> Float[np.ndarray, " N"]:
        """Returns the distance of each usual window from those of the other videos."""
        return self._distances(self._bank, self._owner)

    def __call__(self, rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, " n"]:
        """Returns the distances of windows: 0 for one that is there already, at most 2."""
        return self._distances(self._turned(rows), np.full(len(rows), _NOBODY))

    def _turned(self, rows: Float[np.ndarray, "n D"]) -> Float[np.ndarray, "n D"]:
        """Returns rows as they are compared."""
        turned = rows if self._turn is None else rows @ self._turn
        return turned.astype(np.float32)


class Reconstruction:
    """Takes the error of a window for how unusual it is."""

    whitened = False

    def __init__(self, usual: Usual):
        """Keeps the usual errors."""
        self._usual = usual

    def own(self) -> Float[np.ndarray, " N"]:
        """Returns the errors of the usual windows."""
        return self._usual.rows[:, 0]

    def __call__(self, rows: Float[np.ndarray, "n 1"]) -> Float[np.ndarray, " n"]:
        """Returns the errors of windows."""
        return rows[:, 0]


def errors(observer: "Observer", masks: int) -> See:
    """Returns what gives the relative error of clips, float32 [n 1], mean over masks and crops.

    Args:
      observer: a masked autoencoder.
      masks: that each clip is seen under.

    Raises:
      InputError: it is none.
    """
    objective, params = observer.objective
    if not isinstance(objective, MaskedPixels):
        raise InputError(
            "--by=reconstruction measures what a model of config.objective.name = 'masked_pixels' "
            f"fills in, and {observer.saved.where} holds one of "
            f"{observer.experiment.objective['name']!r}: use --by=distance."
        )
    keys = jax.random.split(jax.random.key(_SEED), masks)
    encoder, least = objective.encoder, least_variance(objective)

    def of_clips(params: Any, clips: jax.Array) -> jax.Array:
        views = rearrange(clips, "n v t h w c -> (n v) t h w c")
        video = normalise(views, encoder.mean, encoder.std)

        def under(key: jax.Array) -> Any:
            drawn = objective.draw(key, 1, objective.axes(video))
            drawn = jax.tree.map(lambda x: jnp.repeat(x, len(video), axis=0), drawn)
            return objective.apply({"params": params}, video, drawn, method="losses")

        targets = rearrange(objective.targets(video), "b n (p c) -> b (n p) c", c=3)
        losses = jax.lax.map(under, keys).mean(axis=0)
        losses /= jnp.maximum(targets.var(axis=1).mean(axis=1), least)
        return rearrange(losses, "(n v) -> n v", v=clips.shape[1]).mean(axis=1, keepdims=True)

    return observer.seeing(of_clips, params)


def least_variance(objective: MaskedPixels) -> float:
    """Returns the variance of a window that shows a little, in the units of an objective's targets.

    Where each token is normalised, all that is not exactly flat has a variance of 1.
    """
    if objective.target_normalised == "none":
        return _FLAT
    if objective.target_normalised == "input":
        return float(np.mean(_FLAT / np.square(objective.encoder.std)))
    return 1.0


def by_moment(scores: Float[np.ndarray, " n"], grid: Grid) -> Float[np.ndarray, " moments"]:
    """Returns the mean score of the windows that show each moment; NaN where none was read."""
    read, starts = ~np.isnan(scores), np.asarray(grid.starts)
    sums = np.zeros((2, grid.moments + 1))
    for row, values in enumerate((np.where(read, scores, 0.0), read.astype(float))):
        np.add.at(sums[row], starts, values)
        np.add.at(sums[row], starts + grid.frames, -values)
    total, count = np.cumsum(sums, axis=1)[:, :-1]
    return np.where(count > 0.5, total / np.maximum(count, 1), np.nan)


def happens(spans: Sequence[tuple[float, float]], grid: Grid) -> Bool[np.ndarray, " moments"]:
    """Returns whether each moment of a grid lies in one of some spans of seconds."""
    times = np.arange(grid.moments) / grid.rate
    inside = [(times >= begin) & (times < end) for begin, end in spans]
    return np.any([np.zeros(grid.moments, bool), *inside], axis=0)
