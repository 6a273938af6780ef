r"""Decodes real clips again and again, and tells how memory grows.

    python tests/benchmarks/soak.py ../shared/clips --decodes 5000 --workers 2

Each clip is read as training reads it, other moments every time, by decoding processes; those that
are refused are counted. Every round over the clips, the resident memory of this process and of the
decoding processes is looked at; the slopes are those of straight lines through the second half,
when all that is kept has been made, with their standard errors.
"""

import argparse
import collections
import concurrent.futures
import math
import pathlib
import time

import numpy as np

from vivit_jax.data.clips import Sampling
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.lists import VIDEO_EXTENSIONS
from vivit_jax.data.pool import DecodeFailure, DecodePool
from vivit_jax.data.worker import Task

SAMPLING = Sampling(16, 4)
GEOMETRY = Geometry(112, crop="random_resized", area=(0.25, 1.0), aspect=(0.75, 1.33))


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path, help="of videos, at any depth")
    parser.add_argument("--decodes", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--without", default="", help="leaves out paths that hold this text")
    given = parser.parse_args()
    paths = [
        path
        for path in sorted(given.folder.rglob("*"))
        if path.suffix.lower() in VIDEO_EXTENSIONS and path.is_file()
        if not given.without or given.without not in str(path)
    ]
    rounds = math.ceil(given.decodes / len(paths))
    bytes_of_clip = SAMPLING.frames * GEOMETRY.size**2 * 3
    causes: collections.Counter[str] = collections.Counter()
    decodes, seen = [], []
    with (
        DecodePool(given.workers, bytes_of_clip) as pool,
        concurrent.futures.ThreadPoolExecutor(given.workers + 2) as threads,
    ):
        pids, began = pool.processes(), time.monotonic()
        for number in range(rounds):
            tasks = [Task(str(path), SAMPLING, GEOMETRY, (number,)) for path in paths]
            for answer in threads.map(pool.decode, tasks):
                causes[answer.cause if isinstance(answer, DecodeFailure) else "read"] += 1
            decodes.append((number + 1) * len(paths))
            seen.append([resident("self"), *map(resident, pids)])
        seconds, kept = time.monotonic() - began, pool.processes() == pids
    print(f"{decodes[-1]} decodes of {len(paths)} clips in {seconds:.0f} s: {dict(causes)}")
    print(f"decoding processes that had to be replaced: {'none' if kept else 'some'}")
    names = ("parent", *(f"worker {i}" for i in range(given.workers)))
    for name, column in zip(names, np.array(seen).T, strict=True):
        slope, error = line(np.array(decodes), column)
        print(
            f"{name}: {column[0] / 1e3:.1f} MB after a round, {column[-1] / 1e3:.1f} MB at the "
            f"end, {slope:+.0f} +- {error:.0f} kB per 1,000 clips"
        )


def resident(process: int | str) -> float:
    """Returns the resident memory of a process, kB."""
    status = pathlib.Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace")
    return float(status.split("VmRSS:")[1].split()[0])


def line(decodes: np.ndarray, kilobytes: np.ndarray) -> tuple[float, float]:
    """Returns slope and standard error of the second half, kB per 1,000 clips."""
    x, y = (column[len(column) // 2 :].astype(float) for column in (decodes / 1000, kilobytes))
    if len(x) < 3:
        return math.nan, math.nan
    x = x - x.mean()
    slope = float(x @ y / (x @ x))
    rest = y - y.mean() - slope * x
    return slope, math.sqrt(float(rest @ rest) / (len(x) - 2) / float(x @ x))


if __name__ == "__main__":
    main()
