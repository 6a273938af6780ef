"""What a frozen encoder makes of every video of a split, by the views of evaluation.

It reads nothing of an objective but its encoder, so it is the same under every one of them.
"""

import functools
import logging
import pathlib
from collections.abc import Generator
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from einops import rearrange

from vivit_jax import config, sharding
from vivit_jax.data.examples import Source, Sources
from vivit_jax.errors import InputError
from vivit_jax.evals.split import Bad, Batch, Pass

log = logging.getLogger(__name__)


class Encoded(NamedTuple):
    """The summaries of a split's videos.

    Attributes:
      features: float32 [N D].
      labels: int [N], of the first head.
      videos: int [N], their numbers in the source.
      size: videos that the split has; those that could not be read are left out above.
      bad: a record of each that this process could not read: id, cause, message.
    """

    features: np.ndarray
    labels: np.ndarray
    videos: np.ndarray
    size: int
    bad: Bad


class FrozenEncoder:
    """Encodes whole splits, batch by batch."""

    def __init__(
        self,
        encoder: nn.Module,
        videos: Pass,
        kind: str = "summary",
        spread: bool = False,
    ):
        """Prepares; compiles nothing yet.

        Args:
          encoder: see models/video_transformer.py.
          videos: how they are read.
          kind: "summary" (the mean over views, [D]), "views" (the summary of each, [V D]) or
            "tokens" (of each, [V N D]).
          spread: each device keeps only what is of its own videos, where all would be too much.
        """
        self._encoder, self._pass, self._kind = encoder, videos, kind
        mesh = videos.mesh
        place = sharding.batch_sharding(mesh) if spread else sharding.replicated(mesh)
        self._encode = jax.jit(self._features, out_shardings=place)

    def _features(self, params: Any, batch: Batch) -> Batch:
        """Returns a batch with "features" in place of its video."""
        video = batch.pop("video")
        views = video.shape[1]
        clips = rearrange(video, "b v t h w c -> (b v) t h w c")
        every = None
        if self._kind == "tokens":  # one for every place: else "factorised_encoder" gives a slot's
            every = self._encoder.every_place(*clips.shape[:4])  # type: ignore[attr-defined]
        encoded: Any = self._encoder.apply({"params": params}, clips, every)
        features = encoded.tokens if self._kind == "tokens" else encoded.summary
        features = rearrange(features, "(b v) ... -> b v ...", v=views)
        return {**batch, "features": features.mean(axis=1) if self._kind == "summary" else features}

    def shape(self, params: Any) -> tuple[int, ...]:
        """Returns the shape of one video's features."""
        data, views = self._pass.data, self._pass.clips * self._pass.crops
        size = (1, views, data.frames, data.image_size, data.image_size, 3)
        video = {"video": jax.ShapeDtypeStruct(size, np.uint8)}
        return jax.eval_shape(self._features, params, video)["features"].shape[1:]

    def batches(
        self,
        params: Any,
        source: Source,
        split: str,
        workdir: pathlib.Path | None,
        bad: Bad | None = None,
    ) -> Generator[Batch]:
        """Returns "features", "label", "valid" and "index" by batches; see Pass.batches.

        Args:
          params: of the encoder.
          source: the videos.
          split: what bad_videos.jsonl calls them.
          workdir: where that goes.
          bad: is given the records of the videos that this process could not read.
        """
        encode = functools.partial(self._encode, params)
        return self._pass.batches(encode, source, split, workdir, bad)

    def encode(
        self, params: Any, source: Source, split: str, workdir: pathlib.Path | None
    ) -> Encoded:
        """Returns the features of all videos that can be read.

        Args:
          params: of the encoder.
          source: the videos.
          split: what bad_videos.jsonl calls them.
          workdir: where that goes.
        """
        encode, what = functools.partial(self._encode, params), f"encoding {split}"
        rows, bad = self._pass.rows(encode, source, split, workdir, what)
        labels = first_head(rows["label"])
        return Encoded(rows["features"], labels, rows["index"], len(source), bad)


def first_head(labels: Any) -> Any:
    """Returns the labels [N] of the first head, of labels [N] or [N heads]."""
    return labels.reshape(len(labels), -1)[:, 0]


def check(experiment: config.Experiment, sources: Sources) -> None:
    """Refuses what frozen features cannot be judged by.

    Raises:
      InputError: a video has not one label a head, or there are not two splits to compare.
    """
    names = ", ".join(experiment.eval.evaluators)
    if experiment.data.labels == "multi":
        raise InputError(
            f"config.eval.evaluators = {names}: those of frozen features judge by one label a "
            "video, and data.labels = 'multi' gives any number; leave them out."
        )
    if experiment.eval.split != "eval":
        raise InputError(
            f"config.eval.evaluators = {names}: those of frozen features learn from the training "
            f"videos and judge by the held-out; config.eval.split = {experiment.eval.split!r} "
            "would judge by what they learnt: use 'eval'."
        )
    if len(sources.train) < 2 or not len(sources.eval):
        raise InputError(
            f"config.eval.evaluators = {names}: there are {len(sources.train)} training and "
            f"{len(sources.eval)} held-out videos; expected at least 2 and 1. Give "
            "data.eval_list, a folder named val, or another data.holdout."
        )
    if experiment.data.labels == "heads":
        log.info("Frozen features are judged by the labels of the first head.")
