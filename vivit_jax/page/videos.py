"""Videos that play in a page: those that a run judges best and worst, and what it filled in.

Each is the middle clip, as the model saw it (its moments, its part of the picture), encoded anew
and small. Beside it stands where the model looked, where that is known.
"""

import base64
import concurrent.futures
import dataclasses
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from vivit_jax import config
from vivit_jax.data.catalog import find_dataset, settle
from vivit_jax.data.clips import Sampling
from vivit_jax.data.examples import Example, Listed, media_of
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pixels import open_pixels
from vivit_jax.data.pool import DecodeFailure, cores
from vivit_jax.data.views import eval_views
from vivit_jax.errors import InputError
from vivit_jax.film import as_mp4, side_by_side
from vivit_jax.metrics import HELD_OUT
from vivit_jax.page.judged import Judged
from vivit_jax.page.runs import Run
from vivit_jax.terminal import in_words

SIDE = 144  # pixels of a picture
_FPS = 8  # slow enough to look at
_FRAMES = 32  # most of a film
_QUALITY = "28"  # x264's crf

Clips = UInt8[np.ndarray, "n T H W 3"]
Attend = Callable[[Run, Clips, Clips], Clips]


class Shown(NamedTuple):
    """A video with what was said of it.

    Attributes:
      id: of it.
      true: what it is.
      said: what the model says.
      right: whether these are the same.
      score: probability of what the model says; NaN where that is several things.
      of_true: probability given to what is true.
      film: an mp4; b"" where there is none.
      why: there is none.
    """

    id: str
    true: str
    said: str
    right: bool
    score: float
    of_true: float
    film: bytes
    why: str


class Pictures(NamedTuple):
    """The films of a run.

    Attributes:
      best: the videos whose true labels are the likeliest, the likeliest first.
      worst: the least likely, likewise.
      note: what a reader must know of them.
      attended: whether where the model looked stands beside any.
    """

    best: list[Shown]
    worst: list[Shown]
    note: str
    attended: bool


def pictures(
    run: Run, judged: Judged, count: int, most: int, attend: Attend | None = None
) -> Pictures:
    """Returns the films of a run's best and worst videos.

    Args:
      run: whose.
      judged: what it made of them.
      count: films of each kind.
      most: bytes of all films.
      attend: from the run, the clips as the model sees them and the same clips larger to these
        under the heat of where it looked; None for no heat.
    """
    best, worst = ends(judged, count)
    numbers = [*best, *worst]
    if not numbers:
        return Pictures([], [], "", False)
    made, note, attended = _films(run, [judged.ids[i] for i in numbers], attend)
    shown = []
    for i, film in zip(numbers, made, strict=True):
        if len(film.data) > most:
            film = Film(b"", "left out, to keep the page small")
        most -= len(film.data)
        shown.append(_shown(judged, i, film))
    attended = attended and any(video.film for video in shown)
    return Pictures(shown[: len(best)], shown[len(best) :], note, attended)


def ends(judged: Judged, count: int) -> tuple[list[int], list[int]]:
    """Returns the numbers of the best and of the worst videos; none is both."""
    order = np.argsort(judged.costs, kind="stable")
    count = min(count, len(order) // 2)
    return order[:count].tolist(), order[::-1][:count].tolist()


def reconstructions(folder: pathlib.Path | None, most: int) -> list[tuple[str, bytes]]:
    """Returns films that an evaluation wrote, with their names, as many as `most` bytes hold."""
    found = []
    files = folder.glob("*.mp4") if folder else ()
    for file in sorted(files, key=lambda file: (len(file.name), file.name)):
        size = file.stat().st_size
        if file.name.startswith(("reconstruction_", "feature_pca_")) and size <= most:
            most -= size
            found.append((file.stem, file.read_bytes()))
    return found


def as_uri(kind: str, data: bytes) -> str:
    """Returns bytes as an address that holds them."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"


class Film(NamedTuple):
    """An mp4, or why there is none."""

    data: bytes
    why: str = ""


def _films(run: Run, ids: Sequence[str], attend: Attend | None) -> tuple[list[Film], str, bool]:
    """Returns a film of each video, what must be said of all, and whether any was attended to."""
    try:
        data, examples = _examples(run, set(ids))
        crops = int(run.option("eval", "resize", 0) or 0)
        sampling, seen = eval_views(data, 1, 1, crops)
        factor = SIDE / data.image_size
        large = Geometry(SIDE, resize=round(crops * factor) if crops else 0, test_crops=1)
        known = [examples.get(one) for one in ids]
        geometries = [large, seen] if attend else [large]
        clips = [_decode(known, sampling, geometry, data) for geometry in geometries]
    except InputError as error:
        return [Film(b"", "not found") for _ in ids], f"The videos cannot be shown: {error}", False
    shown, note = [[clip] for clip in clips[0]], ""
    there = [i for i, parts in enumerate(zip(*clips, strict=True)) if not any(map(_failed, parts))]
    if attend and there:
        try:
            stacks = (np.stack([clip[i] for i in there]) for clip in reversed(clips))
            for i, heated in zip(there, attend(run, *stacks), strict=True):
                shown[i].append(heated)
        except Exception as error:  # as of a device without the memory: the rest can be shown
            note = f"Where the model looked is not shown: {in_words(error)}"
    return [_film(panels) for panels in shown], note, any(len(panels) > 1 for panels in shown)


def _examples(run: Run, ids: set[str]) -> tuple[config.Data, dict[str, Example]]:
    """Returns how clips of a run are made, and those of its videos that have these ids.

    Raises:
      InputError: its videos are not where they were.
    """
    data = settle(config.from_json(run.workdir / "config.json").data)
    dataset = find_dataset(data.dataset)
    if dataset.prepare and not data.root:
        if not (run.workdir / data.dataset).is_dir():
            raise InputError(f"{run.workdir / data.dataset} is not there.")
        data = dataclasses.replace(data, root=str(dataset.prepare(run.workdir)))
    sources = dataset.open(data)
    source = sources.eval if run.split == HELD_OUT else sources.train
    examples = (source.example(i) for i in range(len(source)))
    return data, {example.id: example for example in examples if example.id in ids}


def _decode(
    examples: Sequence[Example | None], sampling: Sampling, geometry: Geometry, data: config.Data
) -> list[np.ndarray | DecodeFailure]:
    """Returns the clip of each video, uint8 [T H W 3], or why there is none.

    Raises:
      InputError: none can be made of what these are stored as.
    """
    media = media_of(Listed([example for example in examples if example]))
    shape = (1, sampling.frames, geometry.size, geometry.size, 3)
    here = dataclasses.replace(data, workers=cores())  # whatever machine the run was on
    with (
        open_pixels(media, (sampling, geometry), shape, here) as pixels,
        concurrent.futures.ThreadPoolExecutor(cores()) as threads,
    ):

        def decode(example: Example | None) -> np.ndarray | DecodeFailure:
            if example is None:
                return DecodeFailure("missing", "no longer among the run's videos")
            parts = pixels.read(example, (0,))
            if isinstance(parts, DecodeFailure):
                return parts
            return np.asarray(pixels.in_graph(parts, True))[0]

        return list(threads.map(decode, examples))


def _failed(clip: np.ndarray | DecodeFailure) -> bool:
    return isinstance(clip, DecodeFailure)


def _film(panels: Sequence[np.ndarray | DecodeFailure]) -> Film:
    """Returns the film of a clip and of what stands beside it."""
    if isinstance(panels[0], DecodeFailure):
        return Film(b"", f"{panels[0].cause}: {panels[0].message}")
    frames = len(panels[0])
    some = np.linspace(0, frames - 1, min(frames, _FRAMES)).round().astype(int)
    pictures = side_by_side(np.stack([panel[some] for panel in panels]))  # type: ignore[index]
    return Film(as_mp4(pictures, _FPS, crf=_QUALITY, preset="slow", threads="1"))


def _shown(judged: Judged, number: int, film: Film) -> Shown:
    """Returns a video with what was said of it."""
    true, said, scores = [], [], []
    for head in judged.heads:
        guessed = np.flatnonzero(head.predicted[number])
        true.append(", ".join(head.names[k] for k in np.flatnonzero(head.targets[number])))
        said.append(", ".join(head.names[k] for k in guessed))
        scores.append(float(head.scores[number][guessed].mean()) if len(guessed) else 0.0)
    return Shown(
        id=judged.ids[number],
        true=" / ".join(true),
        said=" / ".join(said),
        right=true == said,
        score=float(np.prod(scores)) if not any(head.many for head in judged.heads) else np.nan,
        of_true=float(np.exp(-judged.costs[number])),
        film=film.data,
        why=film.why,
    )
