"""Eight motions as real video files, to learn from within minutes and to prove that time is learnt.

Only the order of the frames tells the class. A scene is a stack of noise layers, an octave apart,
that never ends in any direction: sideways it is periodic, in angle it is a circle, and in scale a
layer that grows too coarse fades out while a new finest one fades in (Shepard's endless scale). A
video starts at a pose drawn uniformly from all of these and each motion only moves along one of
them, so every frame of every class has the same distribution, and every motion is its opposite
played backwards. A model that sees one frame can do no better than chance, 1/8; one that sees all
frames without their order can at best tell the four pairs of opposites apart, 1/2.
"""

import concurrent.futures
import dataclasses
import os
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping

import av
import numpy as np
from av.video.reformatter import VideoReformatter

FRAMES, HEIGHT, WIDTH, FPS = 32, 64, 80, 16
OCTAVES = 4  # layers of a scene
TILE = 256  # samples of a layer's side before it repeats
WAVE = 24  # samples of a wave of a layer
FINEST = 8.0  # pixels of a wave of a layer where it fades in
RADIUS = 24.0  # pixels from its centre at which a turn or zoom moves as fast as a shift does

MOTIONS = {  # what one pixel of speed adds to (right, down, clockwise, larger), a frame
    "left": (-1.0, 0.0, 0.0, 0.0),
    "right": (1.0, 0.0, 0.0, 0.0),
    "up": (0.0, -1.0, 0.0, 0.0),
    "down": (0.0, 1.0, 0.0, 0.0),
    "clockwise": (0.0, 0.0, 1.0, 0.0),
    "anticlockwise": (0.0, 0.0, -1.0, 0.0),
    "zoom_in": (0.0, 0.0, 0.0, 1.0),
    "zoom_out": (0.0, 0.0, 0.0, -1.0),
}


@dataclasses.dataclass(frozen=True)
class Split:
    """What the videos of one split look like.

    Attributes:
      videos: of each class.
      speeds: ranges in pixels a frame, one of them drawn for each video.
      curves: what is done to the sum of the layers, one of them drawn for each video.
    """

    videos: int
    speeds: tuple[tuple[float, float], ...]
    curves: tuple[Callable[[np.ndarray], np.ndarray], ...]


SPLITS = {  # held-out scenes have textures and speeds that no training scene has
    "train": Split(
        videos=96,
        speeds=((0.8, 1.2), (1.7, 2.4)),
        curves=(lambda x: x, lambda x: np.tanh(3 * x), lambda x: 2 * np.abs(x) - 1),
    ),
    "val": Split(
        videos=16,
        speeds=((1.2, 1.7),),
        curves=(lambda x: np.sin(2 * x), lambda x: np.clip(np.exp(x) - 1, -1.5, 1.5)),
    ),
}


def layer(rng: np.random.Generator) -> np.ndarray:
    """Returns periodic noise [TILE, TILE] of unit variance, its waves within an octave at WAVE."""
    f = np.fft.fftfreq(TILE, 1.0)[:, None], np.fft.rfftfreq(TILE, 1.0)[None]
    octaves = np.log2(np.maximum(np.hypot(*f), 1e-9) * WAVE)  # from one wave in WAVE samples
    noise = np.fft.rfft2(rng.standard_normal((TILE, TILE)))
    x = np.fft.irfft2(np.where(np.abs(octaves) < 0.5, noise, 0), s=(TILE, TILE))
    return (x / x.std()).astype(np.float32)


def render(motion: str, split: Split, rng: np.random.Generator, frames: int = FRAMES) -> np.ndarray:
    """Returns one video of `motion`, uint8 [frames, HEIGHT, WIDTH, 3]."""
    speed = rng.uniform(*split.speeds[rng.integers(len(split.speeds))])
    right, down, turn, zoom = np.outer(MOTIONS[motion], speed * np.arange(frames))
    angle = rng.uniform(0, 2 * np.pi) + turn / RADIUS
    octave = rng.uniform(0, OCTAVES) + zoom / RADIUS / np.log(2)
    centre = rng.uniform(0.35, 0.65, 2) * (HEIGHT, WIDTH)

    y = np.arange(HEIGHT)[:, None] - centre[0] - down[:, None, None]
    x = np.arange(WIDTH) - centre[1] - right[:, None, None]
    cos, sin = np.cos(angle)[:, None, None], np.sin(angle)[:, None, None]
    x, y = cos * x + sin * y, cos * y - sin * x  # scene, in pixels [frames, HEIGHT, WIDTH]
    x, y = x.astype(np.float32), y.astype(np.float32)
    total, other = np.zeros_like(x), np.zeros_like(x)
    for i in range(OCTAVES):
        size = (octave + i) % OCTAVES
        weight = np.sin(np.pi * size / OCTAVES).astype(np.float32)[:, None, None]
        scale = (WAVE / FINEST * 2**-size).astype(np.float32)[:, None, None]
        row, column = rng.uniform(0, TILE, 2).astype(np.float32)
        # The nearest sample will do: a wave has many, and the sensor's noise is larger.
        place = (y * scale + row).astype(np.int32) % TILE * TILE
        place += (x * scale + column).astype(np.int32) % TILE
        values = weight * layer(rng).ravel()[place]
        total += values
        other += values if i % 2 else -values
    colours = rng.uniform(-1, 1, (2, 3)).astype(np.float32) * 20
    colours[0] += rng.choice((-1, 1)) * 40  # light and dark, tinted
    curve = split.curves[rng.integers(len(split.curves))]
    video = rng.uniform(100, 155, 3).astype(np.float32) + curve(total)[..., None] * colours[0]
    video += other[..., None] * colours[1]
    video += rng.uniform(2, 8) * rng.standard_normal(video.shape, dtype=np.float32)
    return np.clip(np.rint(video), 0, 255).astype(np.uint8)


def write(path: pathlib.Path, video: Iterable[np.ndarray]) -> None:
    """Writes frames, each uint8 [H, W, 3], as H.264 in an mp4."""
    reformatter = VideoReformatter()
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS)
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "preset": "veryfast", "tune": "fastdecode", "threads": "1"}
        stream.options |= {"mbtree": "0"}  # with it the same frames give other bytes now and then
        for number, frame in enumerate(video):
            if not number:
                stream.height, stream.width = frame.shape[:2]
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            file.mux(stream.encode(reformatter.reformat(picture, format="yuv420p", threads=1)))
        file.mux(stream.encode())


def encode_motions(folder: pathlib.Path, splits: Mapping[str, Split] = SPLITS) -> pathlib.Path:
    """Returns the root of train/CLASS/*.mp4 and val/CLASS/*.mp4, made in `folder` on first use.

    The root appears when its last file is written and not before, so a run that was killed while
    encoding leaves nothing that a later run could take for the data set.
    """
    root = folder / "motions"
    if root.exists():
        return root
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="motions-unfinished-", dir=folder) as unfinished:
        made = pathlib.Path(unfinished) / "motions"
        encode_all(made, splits)
        try:
            made.rename(root)
        except OSError:  # another process of the same run was first
            if not root.exists():
                raise
    return root


def encode_all(root: pathlib.Path, splits: Mapping[str, Split]) -> None:
    """Writes every video of every split, in threads: numpy and the codec release Python's lock."""
    videos = [
        (s, m, number)
        for s, split in enumerate(splits.values())
        for m in range(len(MOTIONS))
        for number in range(split.videos)
    ]
    names, motions = list(splits), list(MOTIONS)
    for name in names:
        for motion in motions:
            (root / name / motion).mkdir(parents=True)

    def encode(video: tuple[int, int, int]) -> None:
        s, m, number = video
        frames = render(motions[m], splits[names[s]], np.random.default_rng(video))
        write(root / names[s] / motions[m] / f"{number:03d}.mp4", frames)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, _ in enumerate(pool.map(encode, videos), 1):
            if done % 32 == 0 or done == len(videos):
                print(f"\rencoding motions: {done}/{len(videos)}", end="", file=sys.stderr)
    print(file=sys.stderr)
