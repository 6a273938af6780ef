"""Judges frozen summaries: each video is encoded once for all of linear probe, k-NN and retrieval.

A judge is a function of the summaries of both splits; what several names of eval.evaluators share,
the encoding, is the work of this one class.
"""

import pathlib
import time
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vivit_jax import config
from vivit_jax.data.sources import Sources
from vivit_jax.evals import knn, linear_probe, retrieval
from vivit_jax.evals.base import refuse_lost, videos_at_once, warn_of_lost
from vivit_jax.evals.frozen import Encoded, FrozenEncoder, check

JUDGES = {"linear_probe": linear_probe, "knn": knn, "retrieval": retrieval}


class BySummary:
    """Judges an encoder by the summaries of videos, by as many of JUDGES as are wanted."""

    needs_labels = True

    def __init__(
        self,
        objective: nn.Module,
        experiment: config.Experiment,
        sources: Sources,
        mesh: jax.sharding.Mesh,
    ):
        """Prepares; compiles nothing yet.

        Args:
          objective: of which only the encoder is used.
          experiment: its data, eval and probe sections and its seed are read.
          sources: the videos.
          mesh: where they are encoded.

        Raises:
          InputError: the videos have not one label each, or a split is empty.
        """
        check(experiment, sources)
        probe = experiment.probe
        self._judges = [JUDGES[name] for name in experiment.eval.evaluators if name in JUDGES]
        self._sources, self._options, self._seed = sources, experiment.probe, experiment.seed
        self._strict = experiment.eval.strict
        self._encoder = FrozenEncoder(
            objective.encoder,  # type: ignore[attr-defined]
            experiment.data,
            mesh,
            clips=probe.clips,
            crops=probe.crops,
            resize=experiment.eval.resize,
            batch_size=videos_at_once(experiment, probe.clips * probe.crops, mesh),
        )

    @property
    def results(self) -> Sequence[str]:
        """Names of the results by which one checkpoint can be better than another."""
        return [name for judge in self._judges for name in judge.RESULTS]

    def run(self, params: Any, folder: pathlib.Path, workdir: pathlib.Path) -> dict[str, float]:
        """Returns the results of every judge; writes nothing but bad_videos.jsonl.

        Raises:
          InputError: with eval.strict, a held-out video could not be read.
        """
        del folder
        start = time.perf_counter()
        known, held_out = (
            self._encoder.encode(params["encoder"], source, split, workdir)
            for source, split in ((self._sources.train, "train"), (self._sources.eval, "eval"))
        )
        results = self.judge(known, held_out)
        for encoded in (known, held_out):
            warn_of_lost(encoded.size - len(encoded.videos), encoded.size, workdir)
        if self._strict:
            lost = held_out.size - len(held_out.videos)
            refuse_lost(held_out.bad, lost, held_out.size)
        return {
            **results,
            "frozen_coverage": len(held_out.videos) / held_out.size,
            "frozen_train_coverage": len(known.videos) / known.size,
            "frozen_seconds": round(time.perf_counter() - start, 2),
        }

    def judge(self, known: Encoded, held_out: Encoded) -> dict[str, float]:
        """Returns what the judges say; NaN where too few videos could be read."""
        if len(known.videos) < 2 or not len(held_out.videos):
            return dict.fromkeys(self.results, np.nan)
        results: dict[str, float] = {}
        for judge in self._judges:
            classes = len(self._sources.label_map)
            results |= judge.judge(known, held_out, classes, self._options, self._seed)
        return results
