"""What an evaluator is: a judge of parameters, by videos, in numbers.

An evaluator is made once, before anything is compiled, and refuses then what it cannot do. It
covers every example of its split exactly once over all hosts, and draws nothing that a second run
would draw otherwise. The results of several are one record, so each gives its own names.

A class that several names of EVALUATORS share is made once, and finds in eval.evaluators which of
its judgements are wanted.
"""

import logging
import pathlib
import types
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import flax.linen as nn
import jax

from vivit_jax import config, sharding
from vivit_jax.data.examples import Sources
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)
_SHOWN = 20  # unreadable videos that a message names


class Evaluator(Protocol):
    """Judges the parameters of an objective.

    Attributes:
      needs_labels: whether it judges by labels, and so not with data.labels = "none".
      results: names of those by which one checkpoint can be better than another; the larger.
      about: what its results are to be compared by, beside them in results.jsonl.
      pictures: the PNG and GIF files of its last run that TensorBoard shows too; empty on all
        processes but the first.
    """

    needs_labels: bool = True
    results: Sequence[str] = ()
    about: Mapping[str, str] = types.MappingProxyType({})
    pictures: Sequence[pathlib.Path] = ()

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

    def run(self, params: Any, folder: pathlib.Path, workdir: pathlib.Path) -> dict[str, float]:
        """Returns the results, and writes pictures and tables of them.

        Args:
          params: of the objective.
          folder: for what is written of this evaluation.
          workdir: of the run, for bad_videos.jsonl.
        """
        ...


def videos_at_once(experiment: config.Experiment, views: int, mesh: jax.sharding.Mesh) -> int:
    """Returns how many videos are encoded together: eval.batch_size, or by data.batch_size.

    Args:
      experiment: whose.
      views: of a video; without eval.batch_size, as many videos as have about the clips of a
        training batch, as the devices share it.
      mesh: the devices.

    Raises:
      InputError: the devices cannot share eval.batch_size.
    """
    parts = sharding.batch_parts(mesh)
    fitting = parts * max(1, round(experiment.data.batch_size / views / parts))
    batch_size = experiment.eval.batch_size or fitting
    sharding.check_batch("config.eval.batch_size", batch_size, mesh)
    return batch_size


def account_for_lost(
    bad: Sequence[Mapping[str, str]],
    read: int,
    videos: int,
    workdir: pathlib.Path,
    strict: bool = False,
) -> None:
    """Tells how many videos had to be left out, if any had.

    Args:
      bad: the records of those that this process counts.
      read: videos that could be read, over all processes.
      videos: of the split.
      workdir: of the run.
      strict: eval.strict, where these are the videos that judge.

    Raises:
      InputError: with `strict`, there are some.
    """
    lost = videos - read
    if lost and strict:
        listed = "\n".join(f"  {r['id']}: {r['cause']}: {r['message']}" for r in bad[:_SHOWN])
        if lost > len(bad):
            listed += f"\n  those that other processes read are in {workdir}/bad_videos_*.jsonl"
        raise InputError(
            f"eval.strict is on and {lost} of {videos} videos could not be read:\n{listed}"
        )
    if lost:
        named = ", ".join(f"{r['id']} ({r['cause']})" for r in bad[:_SHOWN])
        more = lost - len(bad[:_SHOWN])
        log.warning(
            "%d of %d videos; missing: %s%s; see %s/bad_videos*.jsonl.",
            *(read, videos, named, f" and {more} more" if more else "", workdir),
        )
