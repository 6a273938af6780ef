"""Videos as hard to decode as a camera's, made for measuring: textured, moving and noisy."""

import pathlib

import av
import numpy as np
from av.video.stream import VideoStream

SECONDS, FPS = 10, 30


def encode(path: pathlib.Path, width: int, height: int, gop: int, seed: int) -> None:
    """Writes a camera's drift over a textured plane, with the noise of a camera, as H.264.

    Args:
      path: of the file.
      width: pixels.
      height: likewise.
      gop: frames from a keyframe to the next.
      seed: of the texture and the way.
    """
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
