"""Multi-view recognition: every video once, as the mean over its clips and crops.

T clips from the first to the last that fit, times S crops along the longer side; the scores of a
video are the mean over its views of the softmax (or sigmoid), or the softmax of the mean logits.
A video that cannot be read is never replaced: it is left out, and the coverage says so.

Results besides accuracies: precision, recall and f1 are means over classes (with data.labels =
"multi", of scores above 0.5, and those that end in _micro are over all decisions together); from
top1_low to top1_high is the 95 % bootstrap interval over videos; ece is the expected calibration
error, and ece_scaled what it is at the temperature that suits the other half of the videos.
"""

import functools
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce

from vivit_jax import config, drawing, sharding
from vivit_jax.data.examples import Sources
from vivit_jax.errors import InputError
from vivit_jax.evals.base import Evaluator, account_for_lost, videos_at_once
from vivit_jax.evals.split import Bad, Batch, Pass, judged_source
from vivit_jax.measures import bootstrap, calibration
from vivit_jax.measures import recognition as measures

OF_HEAD = ("top1", "top5", "precision", "recall", "f1")  # the larger, the better
OF_MANY = ("mean_average_precision", "precision", "recall", "f1")  # likewise


class Judged(NamedTuple):
    """What became of a split.

    Attributes:
      scores: float32 [N K], probabilities, head after head.
      labels: [N], [N heads], or multi-hot [N K].
      videos: [N], their numbers in the source.
      bad: a record of each that could not be read: id, cause, message.
    """

    scores: np.ndarray
    labels: np.ndarray
    videos: np.ndarray
    bad: Bad


def view_scores(
    objective: nn.Module, params: Any, video: jax.Array, options: config.Eval
) -> jax.Array:
    """Returns the scores of videos from their views: probabilities [b K], head after head.

    Args:
      objective: one that predicts logits.
      params: its.
      video: uint8 [b V T H W 3].
      options: how views are averaged.
    """
    views = video.shape[1]
    clips = rearrange(video, "b v t h w c -> (b v) t h w c")
    logits: Any = objective.apply({"params": params}, {"video": clips}, method="predict")
    logits = rearrange(logits, "(b v) k -> b v k", v=views)
    if options.average == "logits":
        logits = reduce(logits, "b v k -> b 1 k", "mean")
    return reduce(probabilities(objective, logits), "b v k -> b k", "mean")


def probabilities(objective: Any, logits: jax.Array) -> jax.Array:
    """Returns the probabilities of an objective's logits [... K], head after head."""
    if objective.multi_label:
        return jax.nn.sigmoid(logits)
    heads = jnp.split(logits, np.cumsum(objective.class_splits)[:-1], axis=-1)
    return jnp.concatenate([jax.nn.softmax(x, axis=-1) for x in heads], axis=-1)


class MultiView(Evaluator):
    """Judges a classifier on videos."""

    def __init__(
        self,
        objective: nn.Module,
        experiment: config.Experiment,
        sources: Sources,
        mesh: jax.sharding.Mesh,
    ):
        """Prepares; compiles nothing yet.

        Args:
          objective: one that predicts.
          experiment: its data and eval sections are read.
          sources: the videos.
          mesh: where it runs.

        Raises:
          InputError: there are no videos, the objective predicts nothing, or the devices cannot
            share eval.batch_size.
        """
        options = experiment.eval
        if not hasattr(objective, "predict"):
            raise InputError(
                "config.eval.evaluators: 'multi_view' judges what an objective predicts of labels, "
                "and this one predicts none; leave it out."
            )
        source = judged_source(sources, options)
        self._objective, self._source, self._names = objective, source, sources.label_maps
        if objective.multi_label:
            self.results = OF_MANY
        elif len(self._names) == 1:
            self.results = OF_HEAD
        else:
            of_heads = (f"{name}_head_{i}" for i in range(len(self._names)) for name in OF_HEAD)
            self.results = ("top1", *of_heads)
        self._options, self.about = options, {"views": f"{options.clips}x{options.crops}"}
        self._pass = Pass(
            experiment.data,
            mesh,
            clips=options.clips,
            crops=options.crops,
            resize=options.resize,
            batch_size=videos_at_once(experiment, options.clips * options.crops, mesh),
            num_outputs=sum(len(names) for names in sources.label_maps),
        )
        self._judge = jax.jit(self._scores, out_shardings=sharding.replicated(mesh))

    def run(self, params: Any, folder: pathlib.Path, workdir: pathlib.Path) -> dict[str, float]:
        """Returns the results, and writes pictures and tables of them.

        Args:
          params: of the objective.
          folder: for what is written of this evaluation.
          workdir: of the run, for bad_videos.jsonl.

        Raises:
          InputError: with eval.strict, a video could not be read.
        """
        start = time.perf_counter()
        judged = self.judge(params, workdir)
        read, videos = len(judged.videos), len(self._source)
        results = {
            **self._measure(judged, folder),
            "videos": videos,
            "coverage": read / videos,
            "seconds": round(time.perf_counter() - start, 2),
        }
        if jax.process_index() == 0:
            self._write_videos(judged, folder)
        account_for_lost(judged.bad, read, videos, workdir, self._options.strict)
        return results

    def judge(self, params: Any, workdir: pathlib.Path | None = None) -> Judged:
        """Returns the scores of all videos that can be read, each once over all hosts."""
        judge = functools.partial(self._judge, params)
        rows, bad = self._pass.rows(judge, self._source, self._options.split, workdir)
        return Judged(rows["scores"], rows["label"], rows["index"], bad)

    def _scores(self, params: Any, batch: Batch) -> Batch:
        """Returns a batch with scores in place of its video."""
        scores = view_scores(self._objective, params, batch.pop("video"), self._options)
        return {**batch, "scores": scores}

    def _measure(self, judged: Judged, folder: pathlib.Path) -> dict[str, float]:
        """Returns the numbers, and lets the first process draw them."""
        if self._objective.multi_label:
            targets = judged.labels > 0.5
            each = measures.per_class_of_many(judged.scores > 0.5, targets)
            precisions = measures.average_precision(judged.scores, targets)
            if jax.process_index() == 0:
                drawing.write_classes(folder, self._names[0], *each, average_precision=precisions)
            micro = measures.micro(judged.scores > 0.5, targets)._asdict()
            return {
                "mean_average_precision": measures.mean_average_precision(precisions),
                **measures.macro(each)._asdict(),
                **{f"{name}_micro": value for name, value in micro.items()},
            }
        labels = judged.labels.reshape(len(judged.labels), len(self._names))
        by_head = measures.by_head(judged.scores, self._names)
        if len(by_head) == 1:
            return self._measure_head(by_head[0], labels[:, 0], self._names[0], folder)
        right = [_right(measures.highest(x), labels[:, i]) for i, x in enumerate(by_head)]
        results = _accuracy(np.all(right, axis=0))
        for i, (scores, names) in enumerate(zip(by_head, self._names, strict=True)):
            head = self._measure_head(scores, labels[:, i], names, folder / f"head_{i}")
            results |= {f"{key}_head_{i}": value for key, value in head.items()}
        return results

    def _measure_head(
        self, scores: np.ndarray, labels: np.ndarray, names: Sequence[str], folder: pathlib.Path
    ) -> dict[str, float]:
        """Returns the numbers of one head."""
        said = measures.highest(scores)
        each = measures.per_class_of_many(said, np.eye(len(names), dtype=bool)[labels])
        if jax.process_index() == 0:
            drawing.write_confusion(folder, measures.confusion_of(said, labels), names)
            drawing.write_classes(folder, names, *each)
        return {
            **_accuracy(_right(said, labels)),
            "top5": measures.top_k(scores, labels, 5),
            **measures.macro(each)._asdict(),
            "ece": calibration.expected_error(scores, labels),
            "ece_scaled": calibration.expected_error(
                calibration.cross_scaled(scores, labels), labels
            ),
        }

    def _write_videos(self, judged: Judged, folder: pathlib.Path) -> None:
        """Writes the scores of every video."""
        ids = [self._source.example(int(i)).id for i in judged.videos]
        labels = judged.labels.reshape(len(ids), math.prod(judged.labels.shape[1:]))
        multi_label = self._objective.multi_label
        drawing.write_scores(folder, ids, self._names, judged.scores, labels, multi_label)


def _right(said: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns which videos are right, bool [N], by what is said of them, bool [N K]."""
    return np.take_along_axis(said, labels[:, None], axis=1)[:, 0]


def _accuracy(right: np.ndarray) -> dict[str, float]:
    """Returns the share of videos that are right, bool [N], and how sure it is."""
    low, share, high = bootstrap.of_share(right)
    return {"top1": share, "top1_low": low, "top1_high": high}
