"""Clips a second of records beside files and peers, a core, in one run.

    python tests/benchmarks/records.py [--videos 4] [--clips 48] [--repeats 3]

The videos and clips are those of input_path.py. Rows are clips a second of processor time, so that
other work on the machine disturbs them little; they take turns within every repeat. Every row reads
in this process: files by read_views, records by the whole path (train_batches), peers in a loop.
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from input_path import BATCH, DATA, decord_loop, encode, one_process, plain_loop

from vivit_jax import config
from vivit_jax.data import build, record_shards
from vivit_jax.data.catalog import open_dataset
from vivit_jax.data.pipeline import train_batches

FORMS = {
    "records, JPEG 85, short side 256": (),
    "records, JPEG 75, short side 256": ("--quality", "75"),
    "records, JPEG 75, short side 160": ("--quality", "75", "--short-side", "160"),
    "records, H.264, keyframe every 12": ("--form", "video"),
}


def build_form(folder: str, number: int, flags: tuple[str, ...]) -> pathlib.Path:
    """Returns the dataset of a folder's videos, and prints its size."""
    name = f"form_{number}"
    options = ["--root", f"{folder}/videos", "--labels", "none", "--holdout", "0", "--name", name]
    plan = build.make_plan(build.parse(["--out", folder, *options, *flags])[0])
    record_shards.build(plan, 2, 600)
    size = sum(path.stat().st_size for path in pathlib.Path(plan.out).rglob("*array_record*"))
    each = size / len(plan.splits["train"]) / 1e6
    print(f"{' '.join(flags) or 'default'}: {each:.2f} MB a video")
    return pathlib.Path(plan.out)


def by_records(path: pathlib.Path) -> Callable[[list[str], int], float]:
    """Returns the row of a dataset: seconds of processor time for some clips."""
    data = config.Data(
        dataset="records",
        root=str(path),
        labels="none",
        batch_size=BATCH,
        frames=DATA.frames,
        stride=DATA.stride,
        image_size=DATA.image_size,
        workers=1,
    )

    def row(paths: list[str], clips: int) -> float:
        with train_batches(open_dataset(data).train, data, seed=0) as batches:
            for _ in range(4):
                next(batches)
            began = time.process_time()
            for _ in range(clips // BATCH):
                next(batches)
            return time.process_time() - began

    return row


def by_files_of(path: pathlib.Path) -> Callable[[list[str], int], None]:
    """Returns the row of a dataset of video files, read as read_views reads files."""
    data = config.Data(dataset="records", root=str(path), labels="none")
    source = open_dataset(data).train

    def row(paths: list[str], clips: int) -> None:
        for i in range(clips):
            one_process([source.example(i % len(source)).video.read()], 1)

    return row


def main() -> None:
    """Prints a table for each size: median, lowest and highest of the repeats."""
    parser = argparse.ArgumentParser(description="Measures records beside files; prints tables.")
    parser.add_argument("--videos", type=int, default=4)
    parser.add_argument("--clips", type=int, default=48, help="a repeat; a multiple of 8")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for width, height in ((320, 240), (640, 360)):
        with tempfile.TemporaryDirectory() as folder:
            (pathlib.Path(folder) / "videos").mkdir()
            paths = [f"{folder}/videos/{i}.mp4" for i in range(arguments.videos)]
            for i, path in enumerate(paths):
                encode(pathlib.Path(path), width, height, 12, i)
            rows: dict[str, Callable] = {
                "plain PyAV loop": plain_loop,
                "decord": decord_loop,
                "files, read_views": one_process,
            }
            for number, (name, flags) in enumerate(FORMS.items()):
                made = build_form(folder, number, flags)
                rows[name] = by_files_of(made) if "video" in flags else by_records(made)
            rates: dict[str, list[float]] = {}
            for _ in range(arguments.repeats):
                for name, row in rows.items():
                    began = time.process_time()
                    seconds = row(paths, arguments.clips) or time.process_time() - began
                    rates.setdefault(name, []).append(arguments.clips / seconds)
            best = max(statistics.median(rates[name]) for name in ("plain PyAV loop", "decord"))
            print(f"\n{width}x{height}, keyframe every 12")
            print("| | clips/s a core | lowest | highest | of the best peer |")
            print("|---|---|---|---|---|")
            for name, found in rates.items():
                middle = statistics.median(found)
                ends = f"{min(found):.1f} | {max(found):.1f}"
                print(f"| {name} | {middle:.1f} | {ends} | {middle / best:.2f} |")


if __name__ == "__main__":
    main()
