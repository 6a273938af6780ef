"""One pass over the videos that are judged: what all evaluators of a split share."""

import pathlib
from collections.abc import Callable

import jax
import numpy as np

from vivit_jax import config, sharding
from vivit_jax.data.pipeline import eval_batches
from vivit_jax.data.sources import Source, Sources
from vivit_jax.errors import InputError
from vivit_jax.metrics import Progress

Batch = dict[str, jax.Array]
Rows = dict[str, np.ndarray]


def judged_source(sources: Sources, options: config.Eval) -> Source:
    """Returns the videos of eval.split.

    Raises:
      InputError: there are none.
    """
    source = sources.eval if options.split == "eval" else sources.train
    if not len(source):
        raise InputError(
            f"There are no videos to evaluate on (config.eval.split = {options.split!r}). Give "
            "data.eval_list, a folder named val, or a larger data.holdout; or set "
            "eval.split=train, or train.evaluate=False."
        )
    return source


def spread(size: int, count: int) -> list[int]:
    """Returns the numbers of `count` of `size` videos, or of all, evenly spaced.

    Videos lie class by class in most lists, so the first few would show one class.
    """
    return np.linspace(0, size - 1, min(count, size)).round().astype(int).tolist()


def judge_split(
    judge: Callable[[Batch], Batch],
    source: Source,
    experiment: config.Experiment,
    mesh: jax.sharding.Mesh,
    *,
    clips: int,
    crops: int,
    batch_size: int,
    num_outputs: int = 0,
    what: str = "evaluating",
    workdir: pathlib.Path | None = None,
) -> tuple[Rows, list[dict[str, str]]]:
    """Returns what is made of all videos that can be read, each once over all hosts.

    Args:
      judge: from a batch of eval_batches on the devices to a row for each video, which every
        device has; among them "valid" and "index", as they came.
      source: the videos.
      experiment: its data and eval sections are read.
      mesh: the devices.
      clips: clips of a video.
      crops: crops of a clip: 1 or 3.
      batch_size: videos at once over all devices.
      num_outputs: K; read for data.labels "multi".
      what: is being done, for the log.
      workdir: where bad_videos.jsonl goes.

    Returns:
      The rows, and a record of each video that this process could not read: id, cause, message.
    """
    parts: list[Batch] = []
    with eval_batches(
        source,
        experiment.data,
        clips=clips,
        crops=crops,
        batch_size=batch_size,
        resize=experiment.eval.resize,
        num_outputs=num_outputs,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        workdir=workdir,
        split=experiment.eval.split,
    ) as batches:
        progress = Progress(what, len(batches))
        for batch in batches:
            parts.append(judge(sharding.to_devices(batch, mesh)))
            jax.block_until_ready(parts[-2:-1])  # two in flight at most
            progress.look(len(parts))
        bad = batches.bad.records
    rows = {key: np.concatenate([np.asarray(part[key]) for part in parts]) for key in parts[0]}
    seen = rows["valid"] & (rows["index"] >= 0)
    return {key: value[seen] for key, value in rows.items()}, bad
