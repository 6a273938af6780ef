"""What an evaluator is: a judge of parameters, by videos, in numbers.

An evaluator is made once, before anything is compiled, and refuses then what it cannot do. It
covers every example of its split exactly once over all hosts, and draws nothing that a second run
would draw otherwise. The results of several are one record, so each gives its own names.
"""

import pathlib
from collections.abc import Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax

from vivit_jax import config
from vivit_jax.data.sources import Sources


class Evaluator(Protocol):
    """Judges the parameters of an objective.

    Attributes:
      needs_labels: whether it judges by labels, and so not with data.labels = "none".
    """

    needs_labels: bool

    def __init__(
        self,
        objective: nn.Module,
        experiment: config.Experiment,
        sources: Sources,
        mesh: jax.sharding.Mesh,
    ):
        """Prepares; compiles nothing yet.

        Args:
          objective: around its encoder.
          experiment: its data and eval sections are read, and an evaluator's own.
          sources: the videos.
          mesh: where it runs.

        Raises:
          InputError: it cannot judge this objective, or not by these videos.
        """

    @property
    def results(self) -> Sequence[str]:
        """Names of the results by which one checkpoint can be better than another; the larger."""
        ...

    def run(self, params: Any, folder: pathlib.Path, workdir: pathlib.Path) -> dict[str, float]:
        """Returns the results, and writes pictures and tables of them.

        Args:
          params: of the objective.
          folder: for what is written of this evaluation.
          workdir: of the run, for bad_videos.jsonl.
        """
        ...
