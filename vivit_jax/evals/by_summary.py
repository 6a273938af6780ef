"""Judges frozen summaries: each video is encoded once for all of linear probe, k-NN and retrieval.

A judge is a function of the summaries of both splits; what several names of eval.evaluators share,
the encoding, is the work of this one class.
"""

import pathlib
import time
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from vivit_jax import config
from vivit_jax.data.examples import Sources
from vivit_jax.evals import knn, linear_probe, retrieval
from vivit_jax.evals.base import Evaluator, account_for_lost, videos_at_once
from vivit_jax.evals.frozen import Encoded, FrozenEncoder, check
from vivit_jax.evals.split import Pass

JUDGES = {"linear_probe": linear_probe, "knn": knn, "retrieval": retrieval}


class BySummary(Evaluator):
    """Judges an encoder by the summaries of videos, by as many of JUDGES as are wanted."""

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
        self.results = [name for judge in self._judges for name in judge.RESULTS]
        self._sources, self._options, self._seed = sources, experiment.probe, experiment.seed
        self._strict = experiment.eval.strict
        at_once = videos_at_once(experiment, probe.clips * probe.crops, mesh)
        self._encoder = FrozenEncoder(
            objective.encoder,  # type: ignore[attr-defined]
            Pass(experiment.data, mesh, probe.clips, probe.crops, experiment.eval.resize, at_once),
        )

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
        for encoded, strict in ((known, False), (held_out, self._strict)):
            read = len(encoded.videos)
            account_for_lost(encoded.bad, read, encoded.size, workdir, strict)
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
