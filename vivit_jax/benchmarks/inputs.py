"""Clips a second from files to batches, beside what other libraries make of the same files."""

import dataclasses
import functools
import logging
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import av.error
import numpy as np

from vivit_jax import config
from vivit_jax.benchmarks.noisy_videos import encode
from vivit_jax.benchmarks.readers import LOADERS, READERS, Ask, look_at, missing, pyav
from vivit_jax.benchmarks.rounds import Measured, Row
from vivit_jax.benchmarks.stored import built
from vivit_jax.data.decode import DecodeError, read_views
from vivit_jax.data.examples import Example, Listed, Source
from vivit_jax.data.folders import refuse_none, videos_below
from vivit_jax.data.pipeline import train_batches
from vivit_jax.data.views import train_views
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)
FLOOR = "decoding alone, one thread"
_VIDEOS = 8  # of each kind that are made
MADE = ((320, 240), (640, 360))
GOPS = (12, 250)
BATCH = 8


def make(folder: pathlib.Path) -> dict[str, list[str]]:
    """Returns videos of every size and distance of keyframes, encoded where they are missing."""
    found = {}
    for width, height in MADE:
        for gop in GOPS:
            paths = [folder / f"{width}x{height}-{gop}-{i}.mp4" for i in range(_VIDEOS)]
            for i, path in enumerate(paths):
                if not path.exists():
                    log.info("Encoding %s", path.name)
                    encode(path, width, height, gop, i)
            found[f"{width}x{height}, a keyframe every {gop} frames"] = [str(p) for p in paths]
    return found


def below(folder: str) -> dict[str, list[str]]:
    """Returns the videos of a folder of the user's, without those that cannot be read.

    Raises:
      InputError: it is none, or holds none.
    """
    real = pathlib.Path(folder).resolve()
    if not real.is_dir():
        raise InputError(f"--videos={folder}; expected a folder.")
    paths = list(videos_below(str(real), str(real)))
    good = [path for path in paths if _can_be_read(path)]
    if bad := sorted({*paths} - {*good}):
        log.warning("%d videos cannot be read, and are left out, such as %s.", len(bad), bad[0])
    return {folder: good or refuse_none(folder)}


def _can_be_read(path: str) -> bool:
    """Returns whether a video gives a clip, and its frames can be counted, as peers need."""
    try:
        read_views(path, *train_views(config.Data(frames=1)), (0, 0))
        return look_at(path).frames > 0
    except (DecodeError, av.error.FFmpegError):
        return False


def ours(workers: int) -> str:
    """Returns the name of the row of our own batches by so many processes."""
    return f"vivit_jax, {workers} worker{'s' if workers > 1 else ''}"


def refuse_others(peers: Sequence[str]) -> None:
    """Refuses a peer that there is none of, before anything is encoded.

    Raises:
      InputError: names those that there are.
    """
    known = (*READERS, *LOADERS)
    for name in peers:
        if name not in known:
            raise InputError(f"--peer={name}; expected some of {', '.join(known)}.")


def rate(measured: Sequence[Measured]) -> float:
    """Returns the clips a second of one thread that only decodes."""
    return next(each.row.work / each.median for each in measured if each.row.name == FLOOR)


def rows(
    paths: Sequence[str],
    data: config.Data,
    clips: int,
    workers: Sequence[int],
    peers: Sequence[str],
    folder: pathlib.Path,
) -> list[Row]:
    """Returns what reads these files, or records of them: the floor, ours, and peers there are.

    Args:
      paths: of the videos.
      data: what a clip is.
      clips: that a call reads.
      workers: numbers of processes, or of threads for peers, of the rows that make batches.
      peers: rows of READERS and LOADERS.
      folder: for records; empty.

    Raises:
      InputError: no video is long enough for a clip.
    """
    asks, views = questions(paths, data, clips), train_views(data)

    def views_alone() -> None:
        for i, ask in enumerate(asks):
            read_views(ask.video.path, *views, (0, i))

    found = [
        Row(FLOOR, _each(functools.partial(pyav, convert=False), asks), clips, clips),
        Row("read_views, one thread", views_alone, clips, clips),
    ]
    files, read = Listed([Example(path, path, ()) for path in paths]), clips // BATCH * BATCH
    for n in workers:
        run = functools.partial(_batches, files, data, clips, n)
        found.append(Row(ours(n), run, read, read))
    for name, (source, size) in built(paths, folder).items():
        for n in workers:
            run = functools.partial(_batches, source, data, clips, n)
            about = {"bytes_a_video": size}
            found.append(Row(f"{name}, {n} worker{'s' if n > 1 else ''}", run, read, read, about))
    for name in peers:
        module = (READERS.get(name) or LOADERS[name])[1]
        reader = READERS.get(name, READERS["pyav"])[0]  # which loaders call
        if why := missing(module) or _failure(reader, asks):
            log.warning("%s is left out: %s", name, why)
        elif name in READERS:
            found.append(Row(f"{name}, one thread", _each(READERS[name][0], asks), clips, clips))
        else:
            load = LOADERS[name][0]
            for n in workers:
                run = functools.partial(_all, load, asks, n)
                found.append(Row(f"{name}, {n} thread{'s' if n > 1 else ''}", run, clips, clips))
    return found


def questions(paths: Sequence[str], data: config.Data, clips: int) -> list[Ask]:
    """Returns the clips that peers read: random windows, the same for every row.

    Raises:
      InputError: no video is long enough for one.
    """
    length = (data.frames - 1) * data.stride + 1
    videos = [video for video in map(look_at, paths) if video.frames >= length]
    if not videos:
        raise InputError(f"No video has the {length} frames that a clip spans; lower data.stride.")
    if short := len(paths) - len(videos):
        log.warning("%d videos are shorter than a clip, and left out of peers' rows.", short)
    rng, asks = np.random.default_rng(0), []
    for i in range(clips):
        video = videos[i % len(videos)]
        start = int(rng.integers(video.frames - length + 1))
        asks.append(Ask(video, range(start, start + length, data.stride), data.image_size))
    return asks


def _failure(read: Callable[[Ask], Any], asks: Sequence[Ask]) -> str:
    """Returns which of the videos another library cannot read, and why; "" for none."""
    for ask in {ask.video.path: ask for ask in asks}.values():
        try:
            read(ask)
        except Exception as error:  # each library has its own
            return f"{ask.video.path}: {str(error).splitlines()[0]}"
    return ""


def _each(read: Callable[[Ask], Any], asks: Sequence[Ask]) -> Callable[[], None]:
    """Returns the call that reads one clip after the other."""

    def call() -> None:
        for ask in asks:
            read(ask)

    return call


def _all(load: Callable[..., Iterator[Any]], asks: Sequence[Ask], threads: int) -> None:
    """Reads all batches of a loader."""
    for _ in load(asks, BATCH, threads):
        pass


def _batches(source: Source, data: config.Data, clips: int, workers: int) -> float:
    """Returns the seconds of reading batches, once the processes have started."""
    data = dataclasses.replace(
        data, batch_size=BATCH, workers=workers, repeats=1, labels="none", max_bad=1
    )
    with train_batches(source, data, seed=0) as batches:
        for _ in range(4):  # what was read ahead while TensorFlow came up does not count
            next(batches)
        began = time.perf_counter()
        for _ in range(clips // BATCH):
            next(batches)
        return time.perf_counter() - began
