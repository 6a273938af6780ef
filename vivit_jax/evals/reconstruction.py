"""How well hidden pixels are filled in: the loss of held-out videos, and pictures to look at.

Every video is seen as one clip, the middle one, under a mask that is its own whatever the batch and
the devices. A picture has four panels: the original, what the encoder sees (the rest grey), the
predictions alone (grey where nothing is decoded), and these with what the encoder sees pasted in.
"""

import itertools
import pathlib
import time
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from vivit_jax import config, film, sharding
from vivit_jax.data.examples import Sources
from vivit_jax.errors import InputError
from vivit_jax.evals.base import Evaluator, account_for_lost, videos_at_once
from vivit_jax.evals.split import Batch, Pass, judged_source, spread
from vivit_jax.models.layers import take
from vivit_jax.models.positions import Axes
from vivit_jax.models.video_transformer import normalise
from vivit_jax.objectives.masked_pixels import Drawn, MaskedPixels

GREY = 0.5
_SEED = 0  # of the masks


class Pictured(NamedTuple):
    """Some videos of a batch, of which those to draw come first.

    Attributes:
      valid: whether the video could be read.
      number: its number in the source.
      panels: its four panels, of the frames that are predicted.
    """

    valid: Array
    number: Int[Array, " n"]
    panels: UInt8[Array, "n 4 frames H W 3"]


class Reconstruction(Evaluator):
    """Judges a masked autoencoder on videos.

    Its results are `reconstruction_loss`, the objective's own (lower is better), and
    `reconstruction_psnr`, the peak signal-to-noise ratio in dB of the predicted pixels of hidden
    tokens (higher is better). Where targets are normalised, a predicted token is given the true
    mean and scale, so the ratio tells of the detail alone, and not against other target kinds.
    """

    needs_labels = False
    results = ("reconstruction_psnr",)

    def __init__(
        self,
        objective: nn.Module,
        experiment: config.Experiment,
        sources: Sources,
        mesh: jax.sharding.Mesh,
    ):
        """Prepares; compiles nothing yet.

        Args:
          objective: masked_pixels.
          experiment: its data and eval sections are read.
          sources: the videos.
          mesh: where it runs.

        Raises:
          InputError: it is another objective, there are no videos, or the devices cannot share
            eval.batch_size.
        """
        if not isinstance(objective, MaskedPixels):
            raise InputError(
                "config.eval.evaluators: 'reconstruction' judges objective.name = 'masked_pixels', "
                f"and this one is {experiment.objective['name']!r}, which predicts no pixels; "
                "leave it out."
            )
        options = experiment.eval
        self._objective, self._options = objective, options
        self._source = judged_source(sources, options)
        at_once = videos_at_once(experiment, 1, mesh)
        self._pass = Pass(experiment.data, mesh, 1, 1, options.resize, at_once)
        self._drawn = spread(len(self._source), options.pictures)
        self._judge = jax.jit(self._judge_batch, out_shardings=sharding.replicated(mesh))

    def run(self, params: Any, folder: pathlib.Path, workdir: pathlib.Path) -> dict[str, float]:
        """Returns the results, and draws reconstruction_NUMBER.png, .gif and .mp4.

        Args:
          params: of the objective.
          folder: for the pictures.
          workdir: of the run, for bad_videos.jsonl.

        Raises:
          InputError: with eval.strict, a video could not be read.
        """
        start = time.perf_counter()
        pictured: list[Pictured] = []
        batch_numbers = itertools.count()

        def judge(batch: Batch) -> Batch:
            rows, some = self._judge(params, batch)
            first = next(batch_numbers) * self._pass.batch_size
            if any(first <= i < first + self._pass.batch_size for i in self._drawn):
                pictured.append(some)
            return rows

        split = self._options.split
        rows, bad = self._pass.rows(judge, self._source, split, workdir, "reconstructing")
        self.pictures = self._draw(pictured, folder) if jax.process_index() == 0 else []
        videos, read = len(self._source), len(rows["index"])
        account_for_lost(bad, read, videos, workdir, self._options.strict)
        with np.errstate(divide="ignore", invalid="ignore"):  # no video, or a perfect one
            loss, error = (rows[k].sum() / rows["tokens"].sum() for k in ("losses", "errors"))
            psnr = -10 * np.log10(error)
        return {
            "reconstruction_loss": float(loss),
            "reconstruction_psnr": float(psnr),
            "reconstruction_coverage": read / videos,
            "reconstruction_seconds": round(time.perf_counter() - start, 2),
        }

    def _judge_batch(self, params: Any, batch: Batch) -> tuple[Batch, Pictured | None]:
        """Returns sums over the hidden tokens of each video, and pictures of some videos."""
        objective, encoder = self._objective, self._objective.encoder
        clips = batch["video"][:, 0]
        video = normalise(clips, encoder.mean, encoder.std)
        axes = objective.axes(video)
        drawn = draw_each(objective, batch["index"], axes)
        predicted: Any = objective.apply({"params": params}, video, drawn, method="fill_in")
        filled = jnp.clip(objective.pixels(predicted, video, drawn.decoded), 0, 1)
        true = objective.cut(clips.astype(jnp.float32) / 255)
        errors = jnp.square(filled - take(true, drawn.decoded)).mean(axis=(2, 3)) * drawn.counts
        rows = {
            "valid": batch["valid"],
            "index": batch["index"],
            "losses": objective.errors(predicted, video, drawn).sum(axis=1),
            "errors": errors.sum(axis=1),
            "tokens": drawn.counts.sum(axis=1),
        }
        if not self._drawn:
            return rows, None
        order = jnp.argsort(~jnp.isin(batch["index"], jnp.asarray(self._drawn)))
        order = order[: len(self._drawn)]
        true, filled, drawn = jax.tree.map(lambda x: x[order], (true, filled, drawn))
        panels = draw_panels(objective, true, filled, drawn, axes)
        return rows, Pictured(batch["valid"][order], batch["index"][order], panels)

    def _draw(self, pictured: list[Pictured], folder: pathlib.Path) -> list[pathlib.Path]:
        """Writes the pictures; returns those for TensorBoard."""
        files = []
        for some in pictured:
            valid, number, panels = map(np.asarray, some)
            for i in np.flatnonzero(valid & np.isin(number, self._drawn)):
                files += film.write_panels(folder, f"reconstruction_{number[i]}", panels[i])
        return files


def draw_each(objective: MaskedPixels, index: Int[Array, " B"], axes: Axes) -> Drawn:
    """Returns the masks of videos, each drawn by the video's number alone."""

    def draw(number: Int[Array, ""]) -> Drawn:
        return objective.draw(jax.random.fold_in(jax.random.key(_SEED), number), 1, axes)

    return jax.tree.map(lambda x: x[:, 0], jax.vmap(draw)(index))


def draw_panels(
    objective: MaskedPixels,
    true: Float[Array, "B N P 3"],
    filled: Float[Array, "B M P 3"],
    drawn: Drawn,
    axes: Axes,
) -> UInt8[Array, "B 4 frames H W 3"]:
    """Returns the original, what is seen of it, the predictions, and both together.

    Args:
      objective: that cut the pixels.
      true: pixels of all tokens, from 0 to 1, as the next.
      filled: those predicted.
      drawn: where.
      axes: of the tokens.
    """

    def put(under: Array, places: Array, pixels: Array) -> Array:
        return jax.vmap(lambda x, i, y: x.at[i].set(y))(under, places, pixels)

    grey, seen = jnp.full_like(true, GREY), take(true, drawn.visible)
    alone = put(grey, drawn.decoded, filled)
    panels = true, put(grey, drawn.visible, seen), alone, put(alone, drawn.visible, seen)
    frames = jnp.stack([objective.paste(x, axes) for x in panels], axis=1)
    return jnp.round(frames * 255).astype(jnp.uint8)
