"""One pass over the videos that are judged: what all evaluators of a split share."""

import contextlib
import dataclasses
import pathlib
from collections.abc import Callable, Generator

import jax
import numpy as np

from vivit_jax import config, sharding
from vivit_jax.data.examples import Source, Sources
from vivit_jax.data.pipeline import eval_batches
from vivit_jax.errors import InputError
from vivit_jax.metrics import Progress
from vivit_jax.stopping import STOP

Batch = dict[str, jax.Array]
Rows = dict[str, np.ndarray]
Bad = list[dict[str, str]]


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


@dataclasses.dataclass(frozen=True)
class Pass:
    """How the videos of a split are read, each once over all hosts.

    Attributes:
      data: how clips are made.
      mesh: the devices.
      clips: clips of a video.
      crops: crops of a clip: 1 or 3.
      resize: short side before the crop, pixels; 0 means data.image_size.
      batch_size: videos at once over all devices.
      num_outputs: K; read for data.labels "multi".
    """

    data: config.Data
    mesh: jax.sharding.Mesh
    clips: int
    crops: int
    resize: int
    batch_size: int
    num_outputs: int = 0

    def batches(
        self,
        judge: Callable[[Batch], Batch],
        source: Source,
        split: str,
        workdir: pathlib.Path | None = None,
        bad: Bad | None = None,
    ) -> Generator[Batch]:
        """Yields what is made of each batch, while the next is on its way; close it when done.

        Args:
          judge: from a batch of eval_batches on the devices to a row for each video.
          source: the videos.
          split: what bad_videos.jsonl calls them.
          workdir: where that goes.
          bad: is given a record of each video that this process counts and could not read: id,
            cause, message.
        """
        rows, counted = sharding.rows_of(self.mesh, self.batch_size)
        with eval_batches(
            source,
            self.data,
            clips=self.clips,
            crops=self.crops,
            batch_size=self.batch_size,
            resize=self.resize,
            num_outputs=self.num_outputs,
            rows=rows,
            counted=counted,
            process_index=jax.process_index(),
            workdir=workdir,
            split=split,
        ) as read:
            before = None
            for batch in read:
                STOP.point()
                with jax.set_mesh(self.mesh):
                    made = judge(sharding.to_devices(batch, self.mesh))
                if before is not None:
                    yield before
                    jax.block_until_ready(before)  # two in flight at most
                before = made
            if before is not None:
                yield before
            if bad is not None:
                bad.extend(read.bad.records)

    def rows(
        self,
        judge: Callable[[Batch], Batch],
        source: Source,
        split: str,
        workdir: pathlib.Path | None = None,
        what: str = "evaluating",
    ) -> tuple[Rows, Bad]:
        """Returns what is made of all videos that can be read, and what could not be.

        Args:
          judge: as above; every device has its rows, among them "valid" and "index" as they came.
          source: the videos.
          split: what bad_videos.jsonl calls them.
          workdir: where that goes.
          what: is being done, for the log.
        """
        parts: list[Rows] = []
        bad: Bad = []
        progress = Progress(what, len(source))
        with contextlib.closing(self.batches(judge, source, split, workdir, bad)) as batches:
            for batch in batches:
                parts.append(jax.device_get(batch))
                progress.look(min(len(parts) * self.batch_size, len(source)))
        rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        seen = rows["valid"] & (rows["index"] >= 0)
        return {name: value[seen] for name, value in rows.items()}, bad
