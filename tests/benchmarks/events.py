"""What events and the unusual are worth on planted truth, beside naive answers; and what they cost.

    python tests/benchmarks/events.py CLASSIFIER [--masked RUN] [--out DIR] [VIDEO...]

CLASSIFIER is a run of configs/quickstart.py, RUN one of configs/quickstart_pretrain.py. Videos of a
minute and a half are composed of the quickstart's motions in scenes that it was not trained on, for
each seed one of motions alone and one with still scenes between; thresholds are learnt on others.
Of VIDEOs only what they cost is told: seconds, and the most memory of the command and of all of
its decoding processes together.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import threading
import time

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
from composed import UNUSUAL, Truth, compose, drawn, events  # noqa: E402

from vivit_jax import command_line  # noqa: E402
from vivit_jax import events as command  # noqa: E402
from vivit_jax.analysis import anomaly  # noqa: E402
from vivit_jax.analysis.scored import HOP, scored  # noqa: E402
from vivit_jax.analysis.segments import Segment, of_windows, segments  # noqa: E402
from vivit_jax.analysis.thresholds import evaluation, learn  # noqa: E402
from vivit_jax.analysis.timelines import runs  # noqa: E402
from vivit_jax.data.synthetic import MOTIONS  # noqa: E402
from vivit_jax.measures.ranking import roc_auc  # noqa: E402
from vivit_jax.observer import Observer  # noqa: E402
from vivit_jax.unusual import learnt  # noqa: E402

SECONDS = 90.0
SEEDS, TAUGHT = (11, 12, 13), (21, 22)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("classifier")
    parser.add_argument("--masked")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("runs/events"))
    parser.add_argument("videos", nargs="*")
    given = parser.parse_args()
    happenings(given.classifier, given.out)
    unusual(given.classifier, "distance", given.out)
    for by in ("distance", "reconstruction") if given.masked else ():
        unusual(given.masked, by, given.out)
    for video in given.videos:
        for name in ("predict", "events"):
            cost(name, given.classifier, video)


def planted(out: pathlib.Path, seeds: tuple[int, ...]) -> dict[str, list[Truth]]:
    """Returns what is where in videos that it composes, motions alone."""
    made = {}
    for seed in seeds:
        for between in ((), ("still",)):
            path = out / f"motions{seed}{'_still' * bool(between)}.mp4"
            made[str(path)] = events(
                compose(path, drawn(seed, SECONDS, between=between), seed=seed)
            )
    return made


def happenings(run: str, out: pathlib.Path) -> None:
    """Prints the mean average precision of events, and of naive answers."""
    observer = Observer(run)
    classes = list(observer.label_maps[0])
    options = command.parsed(["--checkpoint", run, "none"])

    def seen(videos: dict[str, list[Truth]]):
        with command_line.watcher(observer, options, HOP) as watcher:
            watched = [watcher.watch(video, observer.scores) for video in videos]
        true = [[(b, e, classes.index(k)) for b, e, k in truth] for truth in videos.values()]
        return watched, [scored(one, one.rows, options) for one in watched], true

    _, smooth, true = seen(planted(out, TAUGHT))
    taught = learn(smooth, true)
    watched, smooth, true = seen(planted(out, SEEDS))
    thresholds = [
        taught[i].threshold if i in taught else options.threshold for i in range(len(classes))
    ]
    answers = {
        "events, thresholds learnt": [segments(*x[:3], thresholds, x.rules) for x in smooth],
        f"events, --threshold {options.threshold:g}": [
            segments(*x[:3], [options.threshold] * len(classes), x.rules) for x in smooth
        ],
        "runs of the best class": [
            [Segment(*one) for one in runs(x.rows, x.spans, x.there)] for x in watched
        ],
        "windows' best classes": [of_windows(x.rows, x.spans, x.there) for x in watched],
    }
    count = sum(map(len, true))
    print(f"mean average precision at temporal IoU, {len(true)} videos, {count} events")
    for name, found in answers.items():
        worth = evaluation(found, true, classes)
        shares = "  ".join(f"{k}: {v:.3f}" for k, v in worth["by_overlap"].items())
        print(f"  {name:<28} {shares}   mean {worth['mean']:.3f}", flush=True)


def unusual(run: str, by: str, out: pathlib.Path) -> None:
    """Prints how well windows that no training video is like are told, by frame."""
    videos = {}
    for seed in SEEDS:
        path = out / f"unusual{seed}.mp4"
        parts = drawn(seed, SECONDS, kinds=UNUSUAL, between=tuple(MOTIONS))
        videos[str(path)] = events(compose(path, parts, seed=seed), UNUSUAL)
    observer = Observer(run)
    options = command.parsed(["--checkpoint", run, "--anomaly", "--by", by, "none"])
    judge = learnt(observer, options)

    def both(clips: np.ndarray) -> np.ndarray:
        change = np.abs(np.diff(clips[:, 0].astype(np.float32), axis=1)).mean(axis=(1, 2, 3, 4))
        return np.concatenate([judge.see(clips), change[:, None]], axis=1)

    rows: dict[str, list[np.ndarray]] = {by: [], "frame difference": []}
    kinds: list[np.ndarray] = []
    with command_line.watcher(observer, options, HOP) as watcher:
        for video, truth in videos.items():
            watched = watcher.watch(video, both)
            scores = {by: judge.score(watched.rows[:, :-1])}
            scores["frame difference"] = watched.rows[:, -1]
            for name, values in scores.items():
                smooth = scored(watched, values[:, None], options).scores[:, 0]
                rows[name].append(anomaly.by_moment(smooth, watched.grid))
            kind = np.full(watched.grid.moments, "", object)
            for begin, end, label in truth:
                kind[anomaly.happens([(begin, end)], watched.grid)] = label
            kinds.append(kind)
    kind = np.concatenate(kinds)
    print(
        f"area under the ROC curve by frame, {run}, {len(kind)} frames, {(kind != '').mean():.0%}"
    )
    for name, values in rows.items():
        score = np.concatenate(values)
        each = {}
        for one in UNUSUAL:
            some = (kind == one) | (kind == "")
            each[one] = roc_auc(score[some], kind[some] != "")
        apart = "  ".join(f"{k} {v:.3f}" for k, v in each.items())
        print(f"  {name:<18} {roc_auc(score, kind != ''):.3f}   {apart}", flush=True)


def cost(name: str, run: str, video: str) -> None:
    """Prints the seconds and the memory of a command."""
    given = [sys.executable, "-m", f"vivit_jax.{name}", "--checkpoint", run, video, "--json"]
    begin, most = time.monotonic(), {}
    process = subprocess.Popen(given, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    threading.Thread(target=sample, args=(process, most), daemon=True).start()
    lines = process.communicate()[0].splitlines()
    seconds = time.monotonic() - begin
    made = [json.loads(line) for line in lines]
    length = sum(one.get("seconds", 0.0) for one in made)
    parent, workers = most.pop(process.pid), sum(most.values())
    print(
        f"{name} {video}: exit {process.returncode}, {len(made)} answers, {length:.0f} s of video "
        f"judged in {seconds:.1f} s"
        + (f" ({60 * seconds / length:.2f} s a minute)" if length else "")
        + f"; peak {parent / 1e3:.0f} MB, {len(most)} decoding processes {workers / 1e3:.0f} MB",
        flush=True,
    )


def sample(process: subprocess.Popen, most: dict[int, int]) -> None:
    """Keeps the most memory of a process and of those that it starts, kB, until it ends."""
    while process.poll() is None:
        for pid in (process.pid, *children(process.pid)):
            most[pid] = max(most.get(pid, 0), peak(pid))
        time.sleep(0.25)


def children(pid: int) -> list[int]:
    """Returns the processes that one has started."""
    try:
        return [
            int(child)
            for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
        ]
    except OSError:
        return []


def peak(pid: int) -> int:
    """Returns the most memory that a process has had, kB."""
    try:
        text = pathlib.Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return next((int(x.split()[1]) for x in text.splitlines() if x.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
