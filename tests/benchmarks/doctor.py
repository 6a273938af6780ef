"""The dataset doctor on a folder made for it: faults found, missed, false alarms, videos a second.

    python tests/benchmarks/doctor.py [--videos 2000] [--folder DIR] [--workers N]

Makes little H.264 videos (data/synthetic.py; kept in --folder for another run), plants the faults
of tests/data/planted.py among them, runs the command, and compares. Then decodes the same files
plainly, with as many processes and one thread each and no look at what comes out, in turns with the
doctor (all of it: start, page, pictures). --clips DIR only tells what examining costs other videos:
processor time of examining each and of decoding it plainly, in turns, in one process.
"""

import argparse
import dataclasses
import json
import multiprocessing
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import av
import numpy as np

from vivit_jax.data.examine import examine
from vivit_jax.data.pool import cores
from vivit_jax.data.synthetic import MOTIONS, SPLITS, encode_all

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "data"))
from planted import FAULTS, LEAKS

_NOT = (  # so that 30 are left, of all kinds
    *("truncated_mp4_90", "zeroed_hevc", "picture_renamed", "frozen_avi", "truncated_mov"),
    *("reencoded_vp9", "zeroed_mkv"),
)


def make(root: pathlib.Path, videos: int) -> dict[str, str]:
    """Returns the cause to be found of each planted video, by its id."""
    good = root / f"good_{videos}"
    if not good.exists():
        share = {"train": 0.8, "val": 0.2}
        each = {name: round(videos * share[name] / len(MOTIONS)) for name in SPLITS}
        splits = {name: dataclasses.replace(s, videos=each[name]) for name, s in SPLITS.items()}
        shutil.rmtree(root / "unfinished", ignore_errors=True)
        encode_all(root / "unfinished", splits)
        (root / "unfinished").rename(good)
    shutil.rmtree(root / "videos", ignore_errors=True)
    shutil.copytree(good, root / "videos")
    rng = np.random.default_rng(0)
    trained = sorted((root / "videos/train").rglob("*.mp4"))
    held_out = sorted((root / "videos/val").rglob("*.mp4"))
    expected = {}
    kinds = {n: f for n, f in {**FAULTS, **LEAKS}.items() if n not in _NOT}
    for i, (name, fault) in enumerate(kinds.items()):
        of = held_out[7 * i] if name in LEAKS else trained[31 * i]
        made = root / "videos/train" / of.parent.name / f"v{i:04d}{fault.ending}"
        fault.make(made, of, rng)
        expected[made.relative_to(root / "videos").as_posix()] = fault.cause
    return expected


def plain(path: str) -> int:
    """Returns how many frames come out of a file that is decoded and not looked at."""
    count = 0
    try:
        with av.open(path) as file:
            stream = file.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
            for _ in file.decode(stream):
                count += 1
    except (av.error.FFmpegError, IndexError):
        pass
    return count


def decode_all(folder: pathlib.Path, workers: int) -> float:
    """Returns seconds for a plain decode of every file."""
    files = sorted(str(path) for path in folder.rglob("*.*"))
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        pool.map(plain, files[:workers], chunksize=1)  # until all have started
        start = time.perf_counter()
        pool.map(plain, files, chunksize=4)
        return time.perf_counter() - start


def doctor(folder: pathlib.Path, out: pathlib.Path, workers: int, *more: str):
    """Returns the command's answer and its seconds."""
    command = [sys.executable, "-m", "vivit_jax.data.check", str(folder), "--out", str(out)]
    command += ["--workers", str(workers), *more]
    start = time.perf_counter()
    answer = subprocess.run(command, capture_output=True, text=True)
    return answer, time.perf_counter() - start


def compare(folder: pathlib.Path, workers: int, repeats: int, *more: str) -> None:
    """Prints videos a second of the doctor and of a plain decode, in turns."""
    files = sum(path.is_file() for path in folder.rglob("*.*"))
    times: dict[str, list[float]] = {"doctor": [], "plain decode": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as out:
            answer, seconds = doctor(folder, pathlib.Path(out) / "out", workers, *more)
            assert answer.returncode in (0, 3), answer.stderr
        times["doctor"].append(seconds)
        times["plain decode"].append(decode_all(folder, workers))
    for name, values in times.items():
        rates = sorted(files / value for value in values)
        print(
            f"{name:14} {statistics.median(rates):8.1f} videos a second "
            f"({rates[0]:.1f} to {rates[-1]:.1f}, {repeats} runs)"
        )


def cost(folder: pathlib.Path, repeats: int) -> None:
    """Prints the processor time of examining videos beside that of decoding them."""
    files = sorted(str(path) for path in folder.rglob("*.*"))
    times: dict[str, list[float]] = {"examine": [], "plain decode": []}
    for _ in range(repeats):
        for name, function in (("examine", examine), ("plain decode", plain)):
            start = time.process_time()
            for file in files:
                function(file)
            times[name].append((time.process_time() - start) / len(files))
    for name, values in times.items():
        print(f"{name:14} {1000 * statistics.median(values):8.2f} ms a video, {repeats} rounds")
    ratios = sorted(a / b for a, b in zip(*times.values(), strict=True))
    print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=2000)
    parser.add_argument("--folder", type=pathlib.Path)
    parser.add_argument("--clips", type=pathlib.Path)
    parser.add_argument("--workers", type=int, default=cores())
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.clips:
        cost(arguments.clips, arguments.repeats)
        return
    with tempfile.TemporaryDirectory() as temporary:
        root = arguments.folder or pathlib.Path(temporary)
        root.mkdir(parents=True, exist_ok=True)
        expected = make(root, arguments.videos)
        out = root / "out"
        shutil.rmtree(out, ignore_errors=True)
        clip = ("--frames", "8", "--stride", "2")
        answer, seconds = doctor(root / "videos", out, arguments.workers, *clip)
        print(answer.stdout, answer.stderr[-2000:], sep="\n")
        lines = [json.loads(line) for line in (out / "checks.jsonl").read_text().splitlines()]
        found = {line["id"]: [cause for cause, _ in line["findings"]] for line in lines}
        missed = {name: cause for name, cause in expected.items() if not found[name]}
        other = {n: found[n] for n, c in expected.items() if found[n] and c not in found[n]}
        alarms = {name: found[name] for name in found if found[name] and name not in expected}
        print(f"exit code {answer.returncode}; {len(lines)} videos in {seconds:.1f} s in all")
        right = len(expected) - len(missed) - len(other)
        print(f"planted {len(expected)}: {right} found, {len(other)} by another name {other}")
        print(f"missed {len(missed)} {missed}")
        print(f"false alarms {len(alarms)} of {len(lines) - len(expected)}", alarms)
        compare(root / "videos", arguments.workers, arguments.repeats, *clip)


if __name__ == "__main__":
    main()
