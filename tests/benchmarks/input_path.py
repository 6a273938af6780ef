"""Clips a second of the whole input path, beside a plain PyAV loop and decord, in one run.

    python tests/benchmarks/input_path.py [--videos 8] [--clips 48] [--repeats 3]

Encodes noisy, textured, moving H.264 videos, 10 s at 30 frames a second, then reads clips of 16
frames, stride 4, at 224 x 224, from random starts. "floor" only decodes the frames that the
plain loop decodes, from the keyframe to the last of the clip, and converts none. The rows take
turns within every repeat, so that a change of the machine's speed meets them alike.
"""

import argparse
import dataclasses
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream

from vivit_jax import config
from vivit_jax.data.decode import read_views
from vivit_jax.data.pipeline import train_batches, train_views
from vivit_jax.data.sources import Example, Listed

SECONDS, FPS, FRAMES, STRIDE, SIZE = 10, 30, 16, 4, 224
BATCH = 8
DATA = config.Data(batch_size=BATCH, frames=FRAMES, stride=STRIDE, image_size=SIZE)


def encode(path: pathlib.Path, width: int, height: int, gop: int, seed: int) -> None:
    """Writes a camera's drift over a textured plane, with the noise of a camera."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (height // 4, width // 4, 3), np.uint8)
    plane = av.VideoFrame.from_ndarray(coarse, "rgb24").reformat(2 * width, 2 * height)
    plane = np.asarray(plane.to_ndarray(), np.int16)
    noise = rng.normal(0, 3, (8, height, width, 1)).astype(np.int16)
    phase = rng.uniform(0, 6, 2)
    with av.open(path, "w") as container:
        options = {"g": str(gop), "crf": "23", "preset": "medium"}
        stream = container.add_stream("libx264", rate=FPS, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(SECONDS * FPS):
            top = int(height * (0.5 + 0.49 * np.sin(i / 40 + phase[0])))
            left = int(width * (0.5 + 0.49 * np.cos(i / 50 + phase[1])))
            pixels = plane[top : top + height, left : left + width] + noise[rng.integers(8)]
            frame = av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), "rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def starts(count: int) -> list[int]:
    """Returns random first frames, the same for every row."""
    last = SECONDS * FPS - (FRAMES - 1) * STRIDE - 1
    return np.random.default_rng(0).integers(0, last + 1, count).tolist()


def plain_loop(paths: list[str], clips: int, convert: bool = True) -> None:
    """Seeks, decodes, converts and resizes as most training code does; one thread."""
    reformatter = VideoReformatter()
    for i, start in enumerate(starts(clips)):
        wanted = set(range(start, start + FRAMES * STRIDE, STRIDE))
        made = []
        with av.open(paths[i % len(paths)]) as container:
            stream = container.streams.video[0]
            stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
            assert stream.time_base
            container.seek(int(start / FPS / stream.time_base), stream=stream)
            for frame in container.decode(stream):
                number = round(float(frame.pts or 0) * float(stream.time_base) * FPS)
                if convert and number in wanted:
                    image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                    side = int(min(image.shape[:2]) * 0.8)
                    cut = av.VideoFrame.from_ndarray(
                        np.ascontiguousarray(image[:side, :side]), "rgb24"
                    )
                    made.append(reformatter.reformat(cut, SIZE, SIZE, threads=1).to_ndarray())
                if number >= start + (FRAMES - 1) * STRIDE:
                    break
        if convert:
            np.stack(made)


def decord_loop(paths: list[str], clips: int) -> None:
    """Reads with decord, one thread, resized by its own decoder's scaler."""
    import decord

    for i, start in enumerate(starts(clips)):
        reader = decord.VideoReader(paths[i % len(paths)], width=SIZE, height=SIZE, num_threads=1)
        reader.get_batch(range(start, start + FRAMES * STRIDE, STRIDE)).asnumpy()


def one_process(paths: list[str], clips: int) -> None:
    """Reads with the decoder alone, without workers or tf.data."""
    views = train_views(DATA)
    for i in range(clips):
        read_views(paths[i % len(paths)], *views, (0, i))


def whole_path(paths: list[str], clips: int, workers: int) -> float:
    """Returns the seconds of reading batches, after the processes have started."""
    source = Listed([Example(path, path, 0) for path in paths])
    data = dataclasses.replace(DATA, workers=workers)
    with train_batches(source, data, seed=0) as batches:
        for _ in range(4):  # what was read ahead while TensorFlow came up does not count
            next(batches)
        began = time.perf_counter()
        for _ in range(clips // BATCH):
            next(batches)
        return time.perf_counter() - began


def rows() -> dict[str, Callable[[list[str], int], float | None]]:
    """Returns what is measured, by name; each may time itself."""
    found: dict[str, Callable[[list[str], int], float | None]] = {
        "floor: decode only, one thread": lambda paths, n: plain_loop(paths, n, convert=False),
        "plain PyAV loop, one thread": plain_loop,
        "read_views, one process": one_process,
        "whole path, 1 worker": lambda paths, n: whole_path(paths, n, 1),
        "whole path, 2 workers": lambda paths, n: whole_path(paths, n, 2),
    }
    try:
        import decord  # noqa: F401

        found["decord, one thread"] = decord_loop
    except ImportError:
        print("decord is not installed: its row is left out")
    return found


def main() -> None:
    """Prints a table of clips a second: median, and lowest and highest of the repeats."""
    parser = argparse.ArgumentParser(description="Measures the input path; prints tables.")
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--clips", type=int, default=48, help="a repeat; a multiple of 8")
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    for width, height in ((320, 240), (640, 360)):
        for gop in (12, 250):
            with tempfile.TemporaryDirectory() as folder:
                paths = [f"{folder}/{i}.mp4" for i in range(arguments.videos)]
                for i, path in enumerate(paths):
                    encode(pathlib.Path(path), width, height, gop, i)
                size = sum(pathlib.Path(path).stat().st_size for path in paths) / len(paths)
                rates: dict[str, list[float]] = {}
                for _ in range(arguments.repeats):
                    for name, row in rows().items():
                        began = time.perf_counter()
                        seconds = row(paths, arguments.clips) or time.perf_counter() - began
                        rates.setdefault(name, []).append(arguments.clips / seconds)
            plain = statistics.median(rates["plain PyAV loop, one thread"])
            print(f"\n{width}x{height}, keyframe every {gop}, {size / 1e6:.1f} MB a video")
            print("| | clips/s | lowest | highest | of plain |\n|---|---|---|---|---|")
            for name, found in rates.items():
                middle = statistics.median(found)
                ends = f"{min(found):.1f} | {max(found):.1f}"
                print(f"| {name} | {middle:.1f} | {ends} | {middle / plain:.2f} |")


if __name__ == "__main__":
    main()
