"""How well search and summaries find what was planted, and how fast rows are searched.

    python tests/benchmarks/searching.py planted --checkpoint runs/quickstart --out DIR
    python tests/benchmarks/searching.py speed [--rows 100000,1000000] [--features 96,768]

planted: on long videos of the quickstart's motions, composed with known boundaries: windows of a
class found by its name and by an example, beside mean pictures; copies (encoded anew, cropped,
trimmed at either end) among videos and among scenes that move otherwise, by features and mean
pictures together and by each alone; and how many motions a summary holds, of videos in which one
motion fills most of the time, beside windows that are evenly spread.

speed: exact search of random rows, one question at a time and 32 at once, beside the time in which
a core of this machine reads them from memory; and approximate search, where faiss is installed.
"""

import argparse
import importlib.util
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence

import numpy as np

TESTS = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(TESTS), str(TESTS / "data")]

from composed import Part, Truth, compose, drawn, events  # noqa: E402
from planted import encode, read  # noqa: E402

from vivit_jax.analysis import (  # noqa: E402
    approximate,
    copies,
    covering,
    mean_pictures,
    nearest,
    parts,
    queries,
    searched,
)
from vivit_jax.analysis.index import Index  # noqa: E402
from vivit_jax.analysis.indexing import Builder, encoded, source_of  # noqa: E402
from vivit_jax.data.synthetic import MOTIONS, SPLITS, render  # noqa: E402
from vivit_jax.measures import recognition  # noqa: E402
from vivit_jax.observer import Observer  # noqa: E402
from vivit_jax.watching import Watcher  # noqa: E402

Rows = np.ndarray
WINDOW = {"window": 0.0, "hop": 0.25, "crops": 1}


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts_ = parser.add_subparsers(dest="part", required=True)
    found = parts_.add_parser("planted")
    found.add_argument("--checkpoint", required=True)
    found.add_argument("--out", type=pathlib.Path, required=True, help="for videos and indexes")
    found.add_argument("--videos", type=int, default=8, help="of a minute each")
    found.add_argument("--seed", type=int, default=7, help="of the scenes that are copied")
    fast = parts_.add_parser("speed")
    fast.add_argument("--rows", default="100000,1000000")
    fast.add_argument("--features", default="96,768")
    fast.add_argument("--seconds", type=float, default=10.0, help="of each measurement")
    given = parser.parse_args()
    if given.part == "speed":
        speed(numbers(given.rows), numbers(given.features), given.seconds)
    else:
        observer = Observer(given.checkpoint)
        find(observer, given.out, given.videos)
        duplicates(observer, given.out, given.seed)
        summaries(observer, given.out, given.videos)


def numbers(text: str) -> list[int]:
    """Returns the numbers of a list."""
    return [int(part) for part in text.split(",")]


def build(observer: Observer, folder: pathlib.Path, videos: Sequence[pathlib.Path]) -> Index:
    """Returns an index of videos."""
    about = {"checkpoint": source_of(observer), "fingerprint": observer.fingerprint}
    builder = Builder(folder, {**about, "windows": WINDOW})
    rate, geometry = observer.rate(), observer.geometry()
    with Watcher(observer.frames, rate, geometry, WINDOW["hop"]) as watcher:
        for video in videos:
            if not builder.has(str(video)):
                builder.add(*encoded(observer, watcher, str(video)))
    builder.flush()
    return Index(folder)


def find(observer: Observer, out: pathlib.Path, count: int) -> None:
    """Searches classes, by name and by example."""
    truth: dict[str, list[Truth]] = {}
    for number in range(count):
        video = out / f"long/{number}.mp4"
        plan = drawn(number, 60.0, between=("still",))
        truth[str(video)] = compose(video, plan, seed=number)
    index = build(observer, out / "long.index", [pathlib.Path(video) for video in truth])
    label, inside = labels_of(index, truth)
    print(f"long videos: {count}, {len(index)} windows, {inside.mean():.0%} within one part")

    shown = {name: [] for name in ("precision@10", "average precision", "chance")}
    for name in MOTIONS:
        hits = queries.of_class(index, queries.direction_of(observer, name), len(index), True)
        rank = {(hit.video, round(hit.begin, 3)): hit.score for hit in hits}
        scores = np.array(
            [
                rank[index.entries[owner].id, round(begin, 3)]
                for owner, (begin, _) in zip(index.owner, index.spans, strict=True)
            ]
        )
        right = label == name
        known = inside
        order = np.argsort(-scores[known], kind="stable")[:10]
        shown["precision@10"].append(right[known][order].mean())
        target = right[known][:, None]
        shown["average precision"].append(
            recognition.average_precision(scores[known][:, None], target)[0]
        )
        shown["chance"].append(right[known].mean())
    told = ", ".join(f"{name} {np.mean(values):.3f}" for name, values in shown.items())
    print(f"by the name of a class, mean of {len(MOTIONS)}: {told}")

    moving = inside & np.isin(label, list(MOTIONS))
    kinds = np.unique(label[moving], return_inverse=True)[1]
    pictures = mean_pictures.compared(index.part(0, len(index), pictures=True)[moving])
    for name, rows in (("features", index.part(0, len(index))[moving]), ("pictures", pictures)):
        found = searched.judge(rows, index.owner[moving], kinds)
        told = ", ".join(f"{key} {value:.3f}" for key, value in found.items())
        print(f"by an example, {name}: {told}")


def labels_of(index: Index, truth: dict[str, list[Truth]]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the label of each window's middle, and whether one part holds all of the window."""
    label, inside = [], []
    for owner, (begin, end) in zip(index.owner, index.spans, strict=True):
        of = truth[index.entries[owner].id]
        part = next(one for one in of if (begin + end) / 2 <= one.end + 1e-6)
        label.append(part.label)
        inside.append(part.begin - 1e-6 <= begin and end <= part.end + 1e-6)
    return np.array(label), np.array(inside)


def duplicates(observer: Observer, out: pathlib.Path, seed: int) -> None:
    """Searches copies of some videos among others, and among scenes that move otherwise."""
    folder = out / f"copies_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    group: dict[str, int] = {}
    motions = list(MOTIONS)

    def write(name: str, frames: np.ndarray, of: int, **options: str) -> None:
        encode(folder / f"{name}.mp4", frames, **options)
        group[str(folder / f"{name}.mp4")] = of

    for number in range(40):
        scene = render(
            motions[number % 8], SPLITS["val"], np.random.default_rng([seed, number]), 48
        )
        write(f"{number}", scene, number)
        # The same scene and first pose, moving the other way: no copy.
        other = motions[(number % 8) ^ 1]
        turned = render(other, SPLITS["val"], np.random.default_rng([seed, number]), 48)
        write(f"{number}_other", turned, 1000 + number)
        if number % 2 == 0:
            write(f"{number}_anew", read(folder / f"{number}.mp4"), number, crf="33")
            write(f"{number}_cropped", np.ascontiguousarray(scene[:, 2:-2, 2:-2]), number)
            write(f"{number}_begin", scene[:32], number)
            write(f"{number}_end", scene[11:], number)
    index = build(observer, out / f"copies_{seed}.index", [pathlib.Path(video) for video in group])
    of = [group[entry.id] for entry in index.entries]
    wanted = {(a, b) for a in range(len(of)) for b in range(a + 1, len(of)) if of[a] == of[b]}
    features = index.part(0, len(index))
    kept = index.part(0, len(index), pictures=True)
    patterns, pictures = mean_pictures.patterns(kept), mean_pictures.compared(kept)
    print(f"copies: {len(of)} videos, {len(index)} windows, {len(wanted)} pairs of copies")
    for name, rows in (
        ("features and patterns", [(features, copies.ABOVE), (patterns, copies.PICTURES)]),
        ("patterns alone", [(patterns, copies.PICTURES)]),
        ("features alone", [(features, copies.ABOVE)]),
        ("mean pictures alone", [(pictures, copies.PICTURES)]),
        ("mean pictures alone, 0.9", [(pictures, 0.9)]),
    ):
        pairs, similarity = nearest.pairs_above(rows, index.owner)
        found = copies.find(pairs, similarity, index.owner, index.spans[:, 0])
        got = {(copy.a, copy.b) for copy in found}
        right = len(got & wanted)
        print(
            f"by {name}: {len(got)} found, precision {right / max(1, len(got)):.3f}, recall "
            f"{right / len(wanted):.3f}"
        )


def summaries(observer: Observer, out: pathlib.Path, count: int) -> None:
    """Summarises videos in which one motion fills most of the time, and five others come once."""
    table: dict[str, list[tuple[float, float, float]]] = {name: [] for name in covering.METHODS}
    rate, geometry = observer.rate(), observer.geometry()
    for number in range(count):
        rng = np.random.default_rng([11, number])
        kinds = [str(kind) for kind in rng.permutation(list(MOTIONS))[:6]]
        long, *others = kinds
        plan = [part for kind in others for part in (Part(long, 10.0), Part(kind, 2.5))]
        video = out / f"summarised/{number}.mp4"
        truth = events(compose(video, plan, seed=100 + number))
        with Watcher(observer.frames, rate, geometry, 0.5) as watcher:
            watched = watcher.watch(str(video), observer.summaries)
        rows = watched.rows / np.linalg.norm(watched.rows, axis=1, keepdims=True)
        middles = watched.spans.mean(axis=1)
        labels = [next(one.label for one in truth if at <= one.end + 1e-6) for at in middles]
        for name, method in covering.METHODS.items():
            chosen = method(rows, len(kinds))
            held = len({labels[i] for i in chosen}) / len(kinds)
            distances = covering.radius(rows, chosen), covering.mean_distance(rows, chosen)
            table[name].append((held, *distances))
    print(f"summaries: {count} videos of 62.5 s, 6 windows each, one motion 80 % of the time")
    for name, values in table.items():
        mean, deviation = np.mean(values, axis=0), np.std(values, axis=0)
        told = (f"{m:.3f} ± {d:.3f}" for m, d in zip(mean, deviation, strict=True))
        print(f"{name:14} motions held {next(told)}, radius {next(told)}, mean {next(told)}")


def speed(counts: Sequence[int], widths: Sequence[int], seconds: float) -> None:
    """Measures how fast rows are searched."""
    read_at, read_by_cpu = bandwidth()
    told = f"{read_at / 1e9:.1f} GB/s, and {read_by_cpu / 1e9:.1f} GB a second of a core"
    print(f"memory is read at {told}")
    for count in counts:
        for width in widths:
            rng = np.random.default_rng(0)
            with tempfile.TemporaryDirectory() as folder:
                file = f"{folder}/rows.npy"
                rows = np.lib.format.open_memmap(file, "w+", np.float32, (count, width))
                for some in np.array_split(rows, max(1, count // 50_000)):
                    some[:] = rng.standard_normal(some.shape, np.float32)
                    some /= np.linalg.norm(some, axis=1, keepdims=True)
                exact(rows, rng, seconds, read_by_cpu)
                if importlib.util.find_spec("faiss"):
                    roughly(rows, rng, seconds)


def exact(rows: Rows, rng: np.random.Generator, seconds: float, read_by_cpu: float) -> None:
    """Measures exact search of rows as an index holds them: in a file that is mapped."""
    count, width = rows.shape
    floor = rows.nbytes / read_by_cpu
    for asked in (1, 32):
        question = rng.standard_normal((asked, 1, width), np.float32)
        run = lambda q=question: nearest.best(nearest.blocks(rows), nearest.likeness, q, 10)  # noqa: E731
        each, work = timed(run, seconds)
        print(
            f"{count:>9,} x {width}: {asked:2} at once {each * 1e3:8.1f} ms, "
            f"{asked / each:8.1f} questions/s, {count * asked / each / 1e6:8.1f} M rows/s; "
            f"work of cores {work * 1e3:.1f} ms, {work / floor:.1f} times reading the rows",
            flush=True,
        )


def roughly(rows: Rows, rng: np.random.Generator, seconds: float) -> None:
    """Measures approximate search, of rows that lie in clusters as features of videos do."""
    count, width = rows.shape
    centres = rng.standard_normal((max(10, count // 500), width), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        builder = Builder(
            pathlib.Path(folder), {"checkpoint": "", "fingerprint": "", "windows": {}}
        )
        size = 50_000
        for first in range(0, count, size):
            some = rows[first : first + size]
            near = centres[rng.integers(len(centres), size=len(some))] / np.sqrt(width) + some
            spans = np.stack([np.arange(len(some)), np.arange(len(some)) + 1], axis=1)
            entry = parts.Entry(str(first), 1, 1, 1.0, len(some), [])
            builder.add(entry, parts.Rows(near, spans, np.zeros((len(some), 1), np.float32)))
        builder.flush()
        index = Index(pathlib.Path(folder))
        start = time.perf_counter()
        cells, recall = approximate.cells_of(index)
        made = time.perf_counter() - start
        question = np.ascontiguousarray(index.part(0, 32))
        each, _ = timed(lambda: cells.search(question[:1], 10), seconds)
        many, _ = timed(lambda: cells.search(question, 10), seconds)
        print(
            f"  approximate, in clusters: made in {made:.1f} s, {cells.nprobe} of {cells.nlist} "
            f"cells, recall@10 {recall:.3f}, 1 at once {each * 1e3:.2f} ms, 32 at once "
            f"{32 / many:.0f} questions/s"
        )


def timed(run: Callable[[], object], seconds: float) -> tuple[float, float]:
    """Returns the median seconds of a call, and of its work on all cores, after one that compiles.

    On a machine that does other things besides, only the work tells what a call costs.
    """
    run()
    times: list[float] = []
    work: list[float] = []
    for at in _clock(seconds):
        before = time.process_time()
        run()
        times.append(time.perf_counter() - at)
        work.append(time.process_time() - before)
    return float(np.median(times)), float(np.median(work))


def _clock(seconds: float) -> Iterator[float]:
    """Yields the time, for so many seconds and at least three times."""
    end, count = time.perf_counter() + seconds, 0
    while (now := time.perf_counter()) < end or count < 3:
        count += 1
        yield now


def bandwidth() -> tuple[float, float]:
    """Returns the bytes that one pass over an array takes a second, and a second of a core's work.

    No cache holds the array.
    """
    array = np.ones(2**27, np.float32)  # 512 MB
    each, work = timed(array.sum, 2.0)
    return array.nbytes / each, array.nbytes / work


if __name__ == "__main__":
    main()
