"""What an encoder makes of each place of a clip, as colours; and whether it makes anything of it.

The three directions in which the tokens of some videos differ most become red, green and blue. Good
features paint parts that belong together alike, and follow them through time; a collapsed encoder
paints nothing, or every video the same.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8

from vivit_jax import config, film, sharding
from vivit_jax.data.examples import Listed, Sources
from vivit_jax.evals.base import Evaluator, account_for_lost, videos_at_once
from vivit_jax.evals.split import Batch, Pass, judged_source, spread
from vivit_jax.objectives.latent_prediction import TARGET_EPS

COLOURS = 3
_VIDEOS = 16  # whose tokens are compared
_ENDS = (1, 99)  # percentiles that become the darkest and the lightest


class Principal(NamedTuple):
    """The directions in which features differ most.

    Attributes:
      places: of each feature along them, the first first.
      share: of the features' variance that lies in them.
    """

    places: Float[np.ndarray, "M 3"]
    share: float


class FeaturePCA(Evaluator):
    """Looks at the features of some videos, evenly spaced over a split, as one middle clip each.

    Its results tell of layer-normalised tokens. `feature_std` is the mean over the features of
    their standard deviation over all tokens: near 1 where every feature tells tokens apart, near 0
    where the encoder has collapsed to one vector. `feature_top3` is the share of the variance in
    the three first principal components: near 1 where features have collapsed to a few directions.
    Neither is better the larger it is, so none chooses a checkpoint.
    """

    needs_labels = False

    def __init__(
        self,
        objective: nn.Module,
        experiment: config.Experiment,
        sources: Sources,
        mesh: jax.sharding.Mesh,
    ):
        """Prepares; compiles nothing yet.

        Args:
          objective: any.
          experiment: its data and eval sections are read.
          sources: the videos.
          mesh: where it runs.

        Raises:
          InputError: there are no videos, or the devices cannot share eval.batch_size.
        """
        self._encoder: nn.Module = objective.encoder  # type: ignore[attr-defined]
        self._options = experiment.eval
        source, pictures = judged_source(sources, experiment.eval), experiment.eval.pictures
        self._videos = spread(len(source), max(_VIDEOS, pictures))
        self._drawn = spread(len(self._videos), pictures)
        self._source = Listed([source.example(i) for i in self._videos])
        parts = sharding.batch_parts(mesh)
        enough = parts * -(-len(self._videos) // parts)
        at_once = min(enough, videos_at_once(experiment, 1, mesh))
        self._pass = Pass(experiment.data, mesh, 1, 1, experiment.eval.resize, at_once)
        self._encode = jax.jit(self._encode_batch, out_shardings=sharding.replicated(mesh))

    def run(self, params: Any, folder: pathlib.Path, workdir: pathlib.Path) -> dict[str, float]:
        """Returns the results, and draws feature_pca_NUMBER.png, .gif and .mp4.

        Args:
          params: of the objective.
          folder: for the pictures.
          workdir: of the run, for bad_videos.jsonl.

        Raises:
          InputError: with eval.strict, a video could not be read.
        """
        encode, split = functools.partial(self._encode, params["encoder"]), self._options.split
        rows, bad = self._pass.rows(encode, self._source, split, workdir, "encoding")
        read, videos = len(rows["index"]), len(self._videos)
        account_for_lost(bad, read, videos, workdir, self._options.strict)
        self.pictures = []
        if not read:
            return {"feature_std": float("nan"), "feature_top3": float("nan"), "feature_videos": 0}
        tokens = rearrange(rows["tokens"], "b n d -> (b n) d")
        principal = principal_components(tokens)
        if jax.process_index() == 0:
            places = rearrange(principal.places, "(b n) c -> b n c", b=read)
            self.pictures = self._draw(rows, places, folder)
        return {
            "feature_std": float(tokens.std(axis=0, dtype=np.float64).mean()),
            "feature_top3": principal.share,
            "feature_videos": read,
        }

    def _encode_batch(self, params: Any, batch: Batch) -> Batch:
        """Returns a batch with the layer-normalised tokens of its videos' clips."""
        video, encoder = batch["video"][:, 0], self._encoder
        every = encoder.every_place(*video.shape[:4])  # type: ignore[attr-defined]
        features: Any = encoder.apply({"params": params}, video, every)
        tokens = jax.nn.standardize(features.tokens, axis=2, epsilon=TARGET_EPS)
        kept = {name: batch[name] for name in ("valid", "index")}
        return {**kept, "video": video, "tokens": tokens}

    def _draw(
        self, rows: dict[str, np.ndarray], places: Float[np.ndarray, "b N 3"], folder: pathlib.Path
    ) -> list[pathlib.Path]:
        """Writes the pictures; returns those for TensorBoard."""
        drawn = np.flatnonzero(np.isin(rows["index"], self._drawn))
        if not len(drawn):
            return []
        video = rows["video"][drawn]
        colours = over_pixels(to_colours(places[drawn]), self._grid(video), video.shape[1:4])
        files = []
        for i, panels in zip(drawn, np.stack([video, colours], axis=1), strict=True):
            name = f"feature_pca_{self._videos[rows['index'][i]]}"
            files += film.write_panels(folder, name, panels)
        return files

    def _grid(self, video: UInt8[np.ndarray, "b T H W 3"]) -> tuple[int, int]:
        """Returns the rows and columns of the tokens of a slot."""
        return self._encoder.grid(*video.shape[1:4])[1:]  # type: ignore[attr-defined]


def principal_components(features: Float[np.ndarray, "M D"]) -> Principal:
    """Returns the three first principal components, of which the largest loading is positive.

    The share is NaN where nothing varies.
    """
    centred = features - features.mean(axis=0, dtype=np.float64)
    variances, directions = np.linalg.eigh(centred.T @ centred)
    directions = directions[:, ::-1][:, :COLOURS]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=0)[None], axis=0)
    total = variances.sum()
    share = variances[-COLOURS:].sum() / total if total > 0 else np.nan
    return Principal(centred @ (directions * np.sign(largest)), float(share))


def to_colours(places: Float[np.ndarray, "b N 3"]) -> UInt8[np.ndarray, "b N 3"]:
    """Returns places along three directions as red, green and blue, one scale for all videos."""
    low, high = np.percentile(places, _ENDS, axis=(0, 1))
    span = np.maximum(high - low, np.finfo(np.float32).tiny)
    return np.clip(np.rint((places - low) / span * 255), 0, 255).astype(np.uint8)


def over_pixels(
    colours: UInt8[np.ndarray, "b N 3"], grid: tuple[int, int], sides: tuple[int, ...]
) -> UInt8[np.ndarray, "b T H W 3"]:
    """Returns clips in which every pixel has the colour of its token.

    Args:
      colours: of tokens in raster order of (slots, rows, columns); one slot may stand for all.
      grid: rows and columns.
      sides: frames, height and width of the clips.
    """
    clips = rearrange(colours, "b (t i j) c -> b t i j c", i=grid[0], j=grid[1])
    for axis, side in enumerate(sides, 1):
        clips = clips.repeat(side // clips.shape[axis], axis=axis)
    return clips
