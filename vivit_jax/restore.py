"""Restores what is missing or noisy in videos, by a masked model of pixels.

    python -m vivit_jax.restore --checkpoint MASKED_RUN VIDEO... --task TASK --out DIR [--json]
        fill         --region X,Y,W,H or --mask PNG: what a part of the picture holds
        interpolate  --drop N: every N-th slot of frames, made up from the others
        denoise      noise taken out, as much as is measured

The model sees the middle square of a picture at its own size; DIR/NAME.restored.mp4 shows it as it
was, as it was given to the model (what is hidden is grey), and restored. --region is in shares of
this square, from its upper left corner. A mask is painted over the whole picture, of any size: what
is not black, nor transparent, in its middle square is filled.

What is restored is a mixture of the model's prediction and a plain one, by shares that are learnt
in the video itself, where both can be checked. --evaluate takes the video for the truth and tells
PSNR and SSIM of the pixels that were hidden, beside the plain one (interpolate: linear in time;
fill: between the region's borders; denoise: a Gaussian filter, and noise of --noise is added
first), so that one sees whether the model is worth it. PSNR is "exact" where nothing is wrong: null
with --json.

Exit codes: 0 all of all videos was read, 1 it was not, 2 something that was given cannot be used;
130 after Ctrl-C.
"""

import argparse
import pathlib
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from vivit_jax import command_line
from vivit_jax.analysis.choices import TASKS
from vivit_jax.errors import InputError
from vivit_jax.terminal import command_parser, run, speak

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.analysis.inpainting import Inpainter
    from vivit_jax.analysis.restoring import Task
    from vivit_jax.data.geometry import Geometry

PLAIN = {
    "fill": "borders of the region",
    "interpolate": "linear in time",
    "denoise": "Gaussian filter",
}
_NOTHING = 0.05  # dB that nobody sees
_OF_TASK = {"fill": ("region", "mask"), "interpolate": ("drop",), "denoise": ("noise",)}


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.restore", __doc__)
    command_line.add_model(parser)
    command_line.add_videos(parser)
    command_line.add_windows(parser, hop="half of a window's", crops=False)
    parser.add_argument("--task", required=True, choices=TASKS)
    parser.add_argument("--out", required=True, type=pathlib.Path, help="folder of the films")
    parser.add_argument("--region", type=box, help="to fill: X,Y,W,H from 0 to 1")
    parser.add_argument("--mask", type=pathlib.Path, help="to fill: a PNG")
    parser.add_argument("--drop", type=int, help="every so many-th slot; 2")
    parser.add_argument("--evaluate", action="store_true", help="against the video itself")
    noise = command_line.at_least(0.0)
    parser.add_argument("--noise", type=noise, help="added to evaluate, of 255; 20")
    given = parser.parse_args()
    for task, options in _OF_TASK.items():
        for option in options:
            if task != given.task and getattr(given, option) is not None:
                parser.error(f"--{option} is for --task {task}, and this is {given.task}")
    if given.task == "fill" and (given.region is None) == (given.mask is None):
        parser.error("--task fill needs --region or --mask")
    if given.noise is not None and not given.evaluate:
        parser.error("--noise adds noise, to --evaluate how much of it is taken out")
    return restore(given)


def box(text: str) -> tuple[float, ...]:
    """Returns a region: left, top, width and height, as shares of the picture."""
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text}: expected X,Y,W,H") from None
    if not (x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 1 + 1e-9 and y + h <= 1 + 1e-9):
        raise argparse.ArgumentTypeError(
            f"{text} is not within the picture: expected X,Y,W,H from 0 to 1, X + W and Y + H at "
            "most 1, W and H above 0"
        )
    return x, y, w, h


def restore(given: argparse.Namespace) -> int:
    """Restores the videos of a command line; returns the exit code.

    Raises:
      InputError: something that was given cannot be used.
    """
    from vivit_jax.analysis.inpainting import Inpainter
    from vivit_jax.analysis.restored_film import Restorer
    from vivit_jax.observer import Observer

    speak(True)
    observer = Observer(given.checkpoint)
    inpainter = Inpainter(observer)
    task = make_task(given, inpainter, observer.geometry())
    paths = command_line.videos(given.videos)
    names = command_line.names(paths)
    command_line.make_folder(given.out)
    with command_line.watcher(observer, given, share=0.5) as watcher:
        size = observer.experiment.data.image_size
        restorer = Restorer(watcher, task, inpainter.tubelet[0], size, given.evaluate)

        def of(path: str) -> command_line.Answer:
            watched, answer = restorer.restore(path, given.out / f"{names[path]}.restored.mp4")
            return {**command_line.about(watched), "task": given.task, **answer}

        return command_line.answer(paths, of, table, given.json)


def make_task(given: argparse.Namespace, inpainter: "Inpainter", geometry: "Geometry") -> "Task":
    """Returns the task of a command line; `geometry` is what the model sees of a picture.

    Raises:
      InputError: it cannot be done.
    """
    from vivit_jax.analysis.holes import Fill, Interpolate
    from vivit_jax.analysis.restoring import Denoise

    if given.task == "interpolate":
        return Interpolate(inpainter, 2 if given.drop is None else given.drop)
    if given.task == "denoise":
        noise = 20.0 if given.noise is None else given.noise
        return Denoise(inpainter, noise / 255 if given.evaluate else 0.0)
    if given.mask:
        return Fill(inpainter, read_mask(given.mask, geometry))
    return Fill(inpainter, pixels_of(given.region, geometry.size))


def pixels_of(region: tuple[float, ...], size: int) -> np.ndarray:
    """Returns the pixels that a region has a part in: bool [size size]."""
    x, y, w, h = region
    pixels = np.zeros((size, size), bool)
    top, bottom = int(y * size + 1e-6), int(np.ceil((y + h) * size - 1e-6))
    left, right = int(x * size + 1e-6), int(np.ceil((x + w) * size - 1e-6))
    pixels[top:bottom, left:right] = True
    return pixels


def read_mask(file: pathlib.Path, geometry: "Geometry") -> np.ndarray:
    """Returns the pixels that have a part in what is not black of a mask: bool [size size].

    Args:
      file: a picture of the whole frame.
      geometry: which part of it the model sees.

    Raises:
      InputError: it is no picture.
    """
    from PIL import Image

    from vivit_jax.data.geometry import choose_boxes

    try:
        with Image.open(file) as picture:
            width, height = picture.size
            *colours, alpha = np.moveaxis(np.asarray(picture.convert("RGBA")), -1, 0)
            painted = np.any(colours, axis=0) & (alpha > 0)  # dark blue is hardly bright
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        raise InputError(f"--mask={file} is no picture that can be read: {error}.") from error
    (box,) = choose_boxes(geometry, height, width, np.random.default_rng(0))
    corners = (box.left, box.top, box.left + box.width, box.top + box.height)
    whole, size = Image.fromarray(painted.astype(np.float32)), (geometry.size, geometry.size)
    return np.asarray(whole.resize(size, Image.Resampling.BOX, corners)) > 0


def table(made: command_line.Answer) -> str:
    """Returns an answer for people."""
    lines = [f"  {made['file']}"]
    shares = {
        "share_of_model": "the model's share is {:.0%}",
        "share_of_filter": "the filter's {:.0%}",
        "noise": "noise is {:.4f} of white",
    }
    told = [text.format(made[name]) for name, text in shares.items() if name in made]
    lines.append("  " + ", ".join(told))
    if "evaluation" not in made:
        return "\n".join(lines)
    judged, plain = made["evaluation"], PLAIN[made["task"]]
    names = {"given": "as given", "plain": plain, "model": "model alone", "restored": "restored"}
    lines.append(f"  {'of what was hidden':24s}{'PSNR, dB':>10s}{'SSIM':>9s}")
    for row, name in names.items():
        if row != "given" or made["task"] == "denoise":
            psnr = judged[row]["psnr"]
            decibels = "exact" if psnr is None else f"{psnr:.2f}"
            lines.append(f"  {name:24s}{decibels:>10s}{judged[row]['ssim']:9.4f}")
    return "\n".join([*lines, f"  {verdict(judged, plain)}"])


def verdict(judged: Mapping[str, Mapping[str, float | None]], plain: str) -> str:
    """Returns whether a model is worth it, in words.

    Args:
      judged: PSNR of every row; None where it is exact.
      plain: what the plain way is.
    """
    least, alone, restored = (judged[row]["psnr"] for row in ("plain", "model", "restored"))
    if least is None:
        return f"plain ({plain}) is exact: use the plain one here"
    if alone is None:
        first = f"the model alone is exact, and plain ({plain}) is not"
    else:
        how = "worse" if alone < least else "better"
        first = f"the model alone is {abs(alone - least):.2f} dB {how} than plain ({plain})"
    if restored is None:
        return f"{first}; what is restored is exact"
    gain = restored - least
    if gain < _NOTHING:
        return f"{first}, and with it is {gain:+.2f} dB: use the plain one here"
    return f"{first}; what is restored is {gain:.2f} dB better than plain"


if __name__ == "__main__":
    sys.exit(run(main))
