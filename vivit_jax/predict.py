"""Tells what is in videos, by a trained checkpoint.

    python -m vivit_jax.predict --checkpoint WORKDIR VIDEO... [--top 5] [--json]

A video is judged as in evaluation: the same frames, size, clips and crops. With --json, one object
a video, a line each: {"video": ..., "top": [{"label": ..., "score": ...}]}, with several heads
"top_0", "top_1" ... in place of "top", or {"video": ..., "error": {"cause": ..., "message": ...}}.
Exit codes: 0 all videos were read, 1 some were not, 2 something else that was given cannot be used;
130 after Ctrl-C, and 141 where nobody reads on, as in `| head`.
"""

import argparse
import collections
import concurrent.futures
import contextlib
import json
import sys
from collections.abc import Callable, Generator, Sequence
from typing import Any

import numpy as np

from vivit_jax.data.clips import Sampling
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pool import DecodeFailure, DecodePool, cores
from vivit_jax.data.worker import Task
from vivit_jax.errors import InputError
from vivit_jax.terminal import run

Judge = Callable[[np.ndarray], np.ndarray]  # uint8 [V T H W 3] to probabilities [K]


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m vivit_jax.predict")
    parser.add_argument("videos", nargs="+", metavar="VIDEO")
    parser.add_argument(
        "--checkpoint",
        required=True,
        help="a run's workdir, a step's folder, or FAMILY:PATH of pretrained weights",
    )
    parser.add_argument("--top", type=int, default=5, help="labels a video; 5")
    parser.add_argument("--json", action="store_true", help="an object a video, a line each")
    arguments = parser.parse_args()
    if arguments.top < 1:
        parser.error(f"--top is {arguments.top}; expected at least 1")
    judge, views, label_maps = load(arguments.checkpoint)
    failed = False
    with contextlib.closing(read(arguments.videos, views)) as readings:
        for video, pixels in readings:
            if isinstance(pixels, DecodeFailure):
                failed = True
                found: dict[str, Any] = {"error": pixels._asdict()}
            else:
                found = best(judge(pixels), label_maps, arguments.top)
            text = json.dumps({"video": video, **found}) if arguments.json else table(video, found)
            print(text, flush=True)
    return int(failed)


def load(
    source: str,
) -> tuple[Judge, tuple[Sampling, Geometry], tuple[tuple[str, ...], ...]]:
    """Returns what judges a video, which views it wants, and the names of the classes.

    Args:
      source: see restore.find.

    Raises:
      InputError: there is no checkpoint, or it predicts nothing.
    """
    import jax

    from vivit_jax import recipe, restore
    from vivit_jax.data.pipeline import eval_views
    from vivit_jax.evals.multi_view import view_scores

    saved = restore.find(source)
    experiment = saved.experiment
    label_maps = saved.label_maps()
    objective = recipe.build_objective(experiment, label_maps)
    if not hasattr(objective, "predict"):
        raise InputError(
            f"{saved.where} holds a model of config.objective.name = "
            f"{experiment.objective['name']!r}, which predicts nothing of labels; "
            "python -m vivit_jax.features gives what its encoder makes of videos."
        )
    views = eval_views(
        experiment.data, experiment.eval.clips, experiment.eval.crops, experiment.eval.resize
    )

    place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = recipe.param_shapes(objective, experiment.data, label_maps)
    params = restore.read_params(saved, shapes, place)
    scores = jax.jit(lambda video: view_scores(objective, params, video, experiment.eval))
    return lambda pixels: np.asarray(scores(pixels[None])[0]), views, label_maps


def read(
    videos: Sequence[str], views: tuple[Sampling, Geometry]
) -> Generator[tuple[str, np.ndarray | DecodeFailure]]:
    """Yields each video with its pixels, uint8 [V T H W 3], or why there are none; in order."""
    sampling, geometry = views
    shape = (sampling.clips * geometry.boxes, sampling.frames, geometry.size, geometry.size, 3)
    workers = min(len(videos), cores())
    waiting: collections.deque[tuple[str, concurrent.futures.Future]] = collections.deque()
    with (
        concurrent.futures.ThreadPoolExecutor(workers) as threads,  # ends after what it waits for
        DecodePool(workers, int(np.prod(shape))) as pool,
    ):
        for video in videos:
            task = Task(video, sampling, geometry, (1, 0))
            waiting.append((video, threads.submit(pool.decode, task)))
            if len(waiting) == 2 * workers:  # so that pixels don't pile up
                video, pixels = waiting.popleft()
                yield video, pixels.result()
        for video, pixels in waiting:
            yield video, pixels.result()


def best(
    scores: np.ndarray, label_maps: Sequence[Sequence[str]], top: int
) -> dict[str, list[dict[str, Any]]]:
    """Returns the highest scores by name: "top", or "top_0", "top_1" ... for several heads."""
    found = {}
    heads = np.split(scores, np.cumsum([len(names) for names in label_maps])[:-1])
    for head, (names, values) in enumerate(zip(label_maps, heads, strict=True)):
        order = np.argsort(-values, kind="stable")[:top]
        rows = [{"label": names[i], "score": round(float(values[i]), 6)} for i in order]
        found["top" if len(heads) == 1 else f"top_{head}"] = rows
    return found


def table(video: str, found: dict[str, Any]) -> str:
    """Returns what was found, for people."""
    if "error" in found:
        return f"{video}\n  error: {found['error']['cause']}: {found['error']['message']}"
    lines = [video]
    for head, rows in enumerate(found.values()):
        lines += [f"  head {head}"] if len(found) > 1 else []
        lines += [f"  {row['score']:.4f}  {row['label']}" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(run(main))
