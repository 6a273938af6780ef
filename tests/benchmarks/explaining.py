"""What explanations and restorations are worth beside naive ones, on the quickstart's videos.

    python tests/benchmarks/explaining.py [--classifier RUN] [--masked RUN] [--videos 8] [--seed 0]

The runs are those of configs/quickstart.py and configs/quickstart_pretrain.py; of each class of the
classifier's held-out videos as many are taken in turn. Explanations: area under deletion (lower is
better) and insertion (higher is better) of the window that a video's middle has, +- the standard
error over videos; "wins" are videos where a method is better than the mean of random orders.
Restorations: PSNR and SSIM of what was hidden in whole videos, likewise; "worse" are videos where
what is restored is worse than the plain way by more than 0.05 dB.
"""

import argparse
import pathlib
import tempfile

import numpy as np

from vivit_jax.analysis import deletion
from vivit_jax.analysis.attribution import attribute
from vivit_jax.analysis.choices import METHODS, REMOVED
from vivit_jax.analysis.holes import Fill, Interpolate
from vivit_jax.analysis.inpainting import Inpainter
from vivit_jax.analysis.restored_film import ROWS, Restorer
from vivit_jax.analysis.restoring import Denoise, Task
from vivit_jax.data.decode import read_views
from vivit_jax.data.views import eval_views
from vivit_jax.observer import Observer
from vivit_jax.restore import pixels_of
from vivit_jax.watching import Watcher

RANDOM = 5  # random orders of a clip


def some_videos(run: str, count: int) -> list[pathlib.Path]:
    """Returns held-out videos of a run, of all classes in turn."""
    classes = sorted((pathlib.Path(run) / "motions/val").iterdir())
    each = [sorted(folder.glob("*.mp4")) for folder in classes]
    return [video for row in zip(*each, strict=False) for video in row][:count]


def explanations(run: str, count: int, seed: int) -> None:
    """Prints what each method's order of tubelets is worth."""
    observer = Observer(run)
    views = eval_views(observer.experiment.data, 1, 1)
    videos = some_videos(run, count)
    clips = np.stack([read_views(str(video), *views, (0,)) for video in videos])
    made = {method: attribute(observer, method)(clips) for method in METHODS}
    classes = made[METHODS[0]].classes
    right = [
        observer.label_maps[0][k] == v.parent.name for k, v in zip(classes, videos, strict=True)
    ]
    print(f"{count} videos, {np.mean(right):.0%} recognised")
    for removed in REMOVED:
        rows: dict[str, list[deletion.Areas]] = {name: [] for name in (*METHODS, "random order")}
        for i in range(count):
            orders = [deletion.ranked(made[method].tubelets[i]) for method in METHODS]
            orders += deletion.at_random(RANDOM, orders[0].size, seed + i)
            found = deletion.areas(observer, clips[i, 0], int(classes[i]), orders, removed)
            for name, one in zip(METHODS, found, strict=False):
                rows[name].append(one)
            rows["random order"].append(deletion.mean_of(found[len(METHODS) :]))
        print(f"\nwhat is not there is {removed}")
        print(f"{'order':24s}{'deletion':>18s}{'wins':>6s}{'insertion':>18s}{'wins':>6s}")
        naive = np.array(rows["random order"])
        for name, areas in rows.items():
            values = np.array(areas)
            mean, error = values.mean(axis=0), values.std(axis=0) / np.sqrt(count)
            wins = (values[:, 0] < naive[:, 0]).sum(), (values[:, 1] > naive[:, 1]).sum()
            cells = (
                f"{m:8.4f} +- {e:.4f}{w:6d}" for m, e, w in zip(mean, error, wins, strict=True)
            )
            print(f"{name:24s}" + "".join(f"{cell:>24s}" for cell in cells))


def restorations(run: str, count: int) -> None:
    """Prints what each task restores, beside the plain way and the model alone."""
    observer = Observer(run)
    inpainter = Inpainter(observer)
    size = observer.experiment.data.image_size
    tasks: dict[str, Task] = {
        "interpolate, every 2nd slot": Interpolate(inpainter, 2),
        "interpolate, every 4th slot": Interpolate(inpainter, 4),
        "fill 0.3,0.3,0.2,0.2": Fill(inpainter, pixels_of((0.3, 0.3, 0.2, 0.2), size)),
        "fill 0,0,0.25,0.25": Fill(inpainter, pixels_of((0.0, 0.0, 0.25, 0.25), size)),
        "denoise, noise 20": Denoise(inpainter, 20 / 255),
        "denoise, noise 60": Denoise(inpainter, 60 / 255),
    }
    videos = some_videos(run, count)
    print(f"\n{'task':30s}{'row':10s}{'PSNR, dB':>18s}{'SSIM':>20s}{'worse':>7s}{'share':>8s}")
    with (
        tempfile.TemporaryDirectory() as folder,
        Watcher(observer.frames, observer.rate(), observer.geometry(), share=0.5) as watcher,
    ):
        for name, task in tasks.items():
            restorer = Restorer(watcher, task, inpainter.tubelet[0], size, judges=True)
            file = pathlib.Path(folder) / "restored.mp4"
            answers = [restorer.restore(str(video), file)[1] for video in videos]
            found = {
                row: np.array([[*answer["evaluation"][row].values()] for answer in answers])
                for row in ROWS
            }
            share = np.mean([answer["share_of_model"] for answer in answers])
            worse = (found["restored"][:, 0] < found["plain"][:, 0] - 0.05).sum()
            for row in ROWS if "denoise" in name else ROWS[1:]:
                mean, error = found[row].mean(axis=0), found[row].std(axis=0) / np.sqrt(count)
                text = f"{name:30s}{row:10s}{mean[0]:10.2f} +- {error[0]:.2f}"
                text += f"{mean[1]:12.4f} +- {error[1]:.4f}"
                print(text + (f"{worse:7d}{share:8.1%}" if row == "restored" else ""), flush=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--classifier")
    parser.add_argument("--masked")
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.classifier:
        explanations(given.classifier, given.videos, given.seed)
    if given.masked:
        restorations(given.masked, given.videos)


if __name__ == "__main__":
    main()
