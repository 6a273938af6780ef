"""Restores what is missing or noisy in videos, by a masked model of pixels.

    python -m vivit_jax.restore --checkpoint MASKED_RUN VIDEO... --task TASK --out DIR [--json]
        fill         --region X,Y,W,H or --mask PNG: what a part of the picture holds
        interpolate  --drop N: every N-th slot of frames, made up from the others
        denoise      noise taken out, as much as is measured

The model sees the middle square of a picture at its own size; DIR/NAME.restored.mp4 shows it as it
was, as it was given to the model (what is hidden is grey), and restored. --region is in shares of
this square, from its upper left corner; in a mask, what is not black is filled.

What is restored is a mixture of the model's prediction and a plain one, by shares that are learnt
in the video itself, where both can be checked. --evaluate takes the video for the truth and tells
PSNR and SSIM of the pixels that were hidden, beside the plain one (interpolate: linear in time;
fill: between the region's borders; denoise: a Gaussian filter, and noise of --noise is added
first), so that one sees whether the model is worth it.

Exit codes: 0 all of all videos was read, 1 it was not, 2 something that was given cannot be used;
130 after Ctrl-C.
"""

import argparse
import pathlib
import sys
from typing import TYPE_CHECKING

import numpy as np

from vivit_jax import command_line
from vivit_jax.analysis.choices import TASKS
from vivit_jax.errors import InputError
from vivit_jax.terminal import command_parser, run, speak

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.analysis.inpainting import Inpainter
    from vivit_jax.analysis.restoring import Task

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
    task = make_task(given, inpainter, observer.experiment.data.image_size)
    paths = command_line.videos(given.videos)
    names = command_line.names(paths)
    command_line.make_folder(given.out)
    with command_line.watcher(observer, given, share=0.5) as watcher:
        restorer = Restorer(watcher, task, inpainter.tubelet[0], given.evaluate)

        def of(path: str) -> command_line.Answer:
            watched, answer = restorer.restore(path, given.out / f"{names[path]}.restored.mp4")
            return {**command_line.about(watched), "task": given.task, **answer}

        return command_line.answer(paths, of, table, given.json)


def make_task(given: argparse.Namespace, inpainter: "Inpainter", size: int) -> "Task":
    """Returns the task of a command line.

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
    region = read_mask(given.mask, size) if given.mask else pixels_of(given.region, size)
    return Fill(inpainter, region)


def pixels_of(region: tuple[float, ...], size: int) -> np.ndarray:
    """Returns the pixels that a region has a part in: bool [size size]."""
    x, y, w, h = region
    pixels = np.zeros((size, size), bool)
    top, bottom = int(y * size + 1e-6), int(np.ceil((y + h) * size - 1e-6))
    left, right = int(x * size + 1e-6), int(np.ceil((x + w) * size - 1e-6))
    pixels[top:bottom, left:right] = True
    return pixels


def read_mask(file: pathlib.Path, size: int) -> np.ndarray:
    """Returns the pixels of a mask picture that are not black: bool [size size].

    Raises:
      InputError: it is no picture.
    """
    from PIL import Image

    try:
        with Image.open(file) as picture:
            grey = picture.convert("L").resize((size, size), Image.Resampling.NEAREST)
            return np.asarray(grey) > 127
    except OSError as error:
        raise InputError(f"--mask={file} is no picture that can be read: {error}.") from error


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
            lines.append(f"  {name:24s}{judged[row]['psnr']:10.2f}{judged[row]['ssim']:9.4f}")
    return "\n".join([*lines, f"  {verdict(judged, plain)}"])


def verdict(judged: dict[str, dict[str, float]], plain: str) -> str:
    """Returns whether a model is worth it, in words."""
    alone = judged["model"]["psnr"] - judged["plain"]["psnr"]
    gain = judged["restored"]["psnr"] - judged["plain"]["psnr"]
    first = f"the model alone is {abs(alone):.2f} dB {'worse' if alone < 0 else 'better'} than "
    if gain < _NOTHING:
        return f"{first}plain ({plain}), and with it is {gain:+.2f} dB: use the plain one here"
    return f"{first}plain ({plain}); what is restored is {gain:.2f} dB better than plain"


if __name__ == "__main__":
    sys.exit(run(main))
