"""A long run of two processes with planted faults: does its memory grow, does its time add up?

    python tests/benchmarks/long_run.py [--steps 2000] [--videos FOLDER]

One video in twenty is cut short or empty; every `--every` seconds a decoding process is killed,
stopped, or the whole run is killed and started again, in turn. Prints how the memory of each
training process grew (kB a thousand steps, by least squares, from a tenth of a session on), what
was counted as bad, and the table of where the time went, with how far it is from wall time.
"""

import argparse
import os
import pathlib
import random
import signal
import sys
import tempfile
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from faults import runs
from faults.running import workers_of

from vivit_jax import metrics
from vivit_jax.clock import TIME, add_up, table

PROCESSES = 2
PAGE = os.sysconf("SC_PAGE_SIZE")


def plant(folder: pathlib.Path) -> int:
    """Returns how many videos of a folder of 80 were spoilt."""
    videos = sorted(runs.videos(folder, train=80, held_out=4).glob("train/*/*.mp4"))
    spoilt = videos[::20]
    for number, video in enumerate(spoilt):
        data = video.read_bytes()
        video.write_bytes(data[: len(data) // 2] if number % 2 else b"")
    return len(spoilt)


def resident(pid: int) -> int:
    """Returns the memory of a process in kB."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE // 1024


def slope(samples: list[tuple[int, int]]) -> float:
    """Returns how memory grows, kB a thousand steps."""
    steps, memory = np.array(samples[len(samples) // 10 :], float).T
    return 1000 * np.polyfit(steps, memory, 1)[0]


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--every", type=float, default=20.0, help="seconds between faults")
    given = parser.parse_args()
    rng, restarts, injected = random.Random(0), 0, []
    with tempfile.TemporaryDirectory() as made:
        folder = pathlib.Path(made)
        workdir, root = folder / "run", folder / "videos"
        spoilt = plant(root)
        options = (
            *(f"--config.train.steps={given.steps}", "--config.train.checkpoint_every=100"),
            *("--config.train.log_every=10", "--config.data.max_bad=0.2"),
        )
        begun, sessions = time.time(), []
        processes, samples = [], {}
        while True:
            if not processes:
                processes = runs.together(workdir, root, PROCESSES, *options)
                samples = {process.pid: [] for process in processes}
                sessions.append(samples)
                next_fault = time.monotonic() + given.every
            if all(process.poll() is not None for process in processes):
                said = runs.finish(*processes)
                break
            time.sleep(1.0)
            step = runs.steps_done(workdir)
            for process in processes:
                if process.poll() is None:
                    samples[process.pid].append((step, resident(process.pid)))
            if time.monotonic() < next_fault or not step:
                continue
            next_fault = time.monotonic() + given.every
            victims = [worker for process in processes for worker in workers_of(process.pid)]
            kind = len(injected) % 5
            if kind == 4:  # all of it
                restarts += 1
                for process in processes:
                    runs.kill(process)
                processes = []
            elif victims:
                os.kill(rng.choice(victims), signal.SIGKILL if kind % 2 else signal.SIGSTOP)
            injected.append(kind)
        wall = time.time() - begun
        print(f"{given.steps} steps, {len(injected)} faults, {restarts} restarts of all")
        for number, session in enumerate(sessions):
            growth = [slope(found) for found in session.values() if len(found) > 30]
            if growth:
                print(f"session {number}: {', '.join(f'{x:+.0f}' for x in growth)} kB/1000 steps")
        bad = metrics.read_lines(workdir / "bad_videos.jsonl")
        print(f"{spoilt} videos spoilt; written down as bad: {[row['cause'] for row in bad]}")
        times = add_up(metrics.read_lines(workdir / TIME))
        print(table(times))
        print(f"wall time {wall:.1f} s; phases {sum(times.values()):.1f} s")
        print(said[-500:])
    return 0


if __name__ == "__main__":
    sys.exit(main())
