"""The videos of a plan: those that are there, or as many as somebody says."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

from vivit_jax import config
from vivit_jax.data.catalog import settle
from vivit_jax.data.examples import Example, Listed, Sources
from vivit_jax.data.published import DATA_SETS, DataSet
from vivit_jax.errors import InputError
from vivit_jax.options import choose
from vivit_jax.run import open_videos


def find(
    experiment: config.Experiment,
    like: str = "",
    videos: int = 0,
    classes: Sequence[int] = (),
) -> tuple[config.Experiment, Sources, str]:
    """Returns the experiment, its videos (which cannot be read), and where their number is from.

    Args:
      experiment: whose.
      like: a row of DATA_SETS; empty for none.
      videos: to train on; 0 for those that are there, or the row's.
      classes: of each head; empty likewise.

    Raises:
      InputError: something is not known; names the flag that would tell.
    """
    data = settle(experiment.data)
    experiment = dataclasses.replace(experiment, data=data)
    given = data.root or data.train_list
    if given and not (videos and classes) and os.path.exists(given):
        opened, sources = open_videos(experiment, pathlib.Path())
        classes = classes or [len(names) for names in sources.label_maps]
        return opened, counted(videos or len(sources.train), classes), given
    if like:
        choose("--like", like, DATA_SETS)
    known = DATA_SETS.get(like or data.dataset, DataSet(()))
    where = "as given" if videos else like or data.dataset
    if data.labels == "none":
        classes = (0,)
    videos, classes = videos or known.videos, classes or known.classes
    if not videos and experiment.train.steps >= 0:
        videos, where = data.batch_size, "as many as a batch; config.train.steps asks for no more"
    for what, count in {"videos": videos, "classes": classes}.items():
        if not count:
            raise _unknown(what, data)
    return experiment, counted(videos, classes), where


def counted(videos: int, classes: Sequence[int]) -> Sources:
    """Returns sources of so many videos, which are nowhere, and label maps of so many names."""
    maps = tuple(tuple(str(i) for i in range(count)) for count in classes)
    return Sources(Listed([Example("", "", 0)] * videos), Listed([]), maps)


def _unknown(what: str, data: config.Data) -> InputError:
    """Returns the error about a number that nothing tells."""
    where = f"config.data.root = {data.root!r}, data.train_list = {data.train_list!r}"
    return InputError(
        f"How many {what} there are is not known here ({where}, data.dataset = {data.dataset!r}): "
        f"give --{what}=NUMBER{', a number a head with commas' if what == 'classes' else ''}, or "
        f"--like={'|'.join(DATA_SETS)}, or the videos themselves by --config.data.root."
    )
