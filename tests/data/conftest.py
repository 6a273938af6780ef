"""Little videos, really encoded: what a file says is what its frames show.

Every frame is grey of one brightness, its number times a step, so that a decoded clip tells which
frames it holds; the four corners tell which way is up.
"""

import fractions
import os
import pathlib
from collections.abc import Callable

import av
import numpy as np
import pytest
from av.video.stream import VideoStream

STEP = 5  # brightness from one frame to the next
REAL_CLIPS = pathlib.Path(
    os.environ.get("VIVIT_JAX_CLIPS", pathlib.Path(__file__).resolve().parents[3] / "shared/clips")
)


def write_video(
    path: pathlib.Path,
    frames: int = 40,
    *,
    codec: str = "libx264",
    height: int = 48,
    width: int = 64,
    fps: int = 10,
    times: list[float] | None = None,
    rotation: int = 0,
    pixel_width: fractions.Fraction | None = None,
    options: dict[str, str] | None = None,
    texture: Callable[[int], np.ndarray] | None = None,
) -> pathlib.Path:
    """Returns the path of a video whose frame i has brightness i * STEP.

    Args:
      path: where; the extension chooses the container.
      frames: how many.
      codec: FFmpeg's name of the encoder.
      height: rows as coded.
      width: columns as coded.
      fps: frames a second.
      times: presentation time of every frame in seconds, in place of fps.
      rotation: what the file asks players to turn the picture by, against the clock.
      pixel_width: display width of a pixel over its height.
      options: of the encoder.
      texture: frame number -> uint8 [height width 3], in place of grey.
    """
    unit = fractions.Fraction(1, 1000 if times else fps)
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=fps, options=options or {"g": "12", "qp": "4"})
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = unit
        stream.codec_context.thread_count = 1
        if pixel_width:
            stream.codec_context.sample_aspect_ratio = pixel_width
        if rotation:
            stream.set_display_rotation(rotation)
        for i in range(frames):
            pixels = texture(i) if texture else np.full((height, width, 3), i * STEP, np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.time_base = unit
            frame.pts = round((times[i] if times else i / fps) / unit)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def write_damaged(path: pathlib.Path, frames: int) -> pathlib.Path:
    """Returns the path of a video of noise, a keyframe every 6, damaged in its middle."""
    noise = np.random.default_rng(0).integers(0, 256, (frames, 48, 64, 3), np.uint8)
    options = {"g": "6", "bf": "0"}
    write_video(path, frames, texture=noise.__getitem__, options=options)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = bytes(200)
    path.write_bytes(data)
    return path


def frames_of(views: np.ndarray) -> np.ndarray:
    """Returns which frames a video of write_video's views show: int [V T]."""
    return np.round(views.mean(axis=(2, 3, 4)) / STEP).astype(int)


@pytest.fixture(scope="session")
def videos(tmp_path_factory) -> dict[str, pathlib.Path]:
    """Returns videos by what is special about them."""
    folder = tmp_path_factory.mktemp("videos")
    uneven = np.cumsum([0.02, 0.3, 0.05, 0.1] * 10).tolist()
    long = {"g": "250", "bf": "3", "qp": "4"}
    return {
        "plain": write_video(folder / "plain.mp4"),
        "uneven": write_video(folder / "uneven.mp4", times=uneven),
        "long_gop": write_video(folder / "long_gop.mkv", options=long),
        "no_reorder": write_video(folder / "no_reorder.mp4", options={"bf": "0", "qp": "4"}),
        "mpeg4_avi": write_video(folder / "b.avi", codec="mpeg4", options={"bf": "2", "q": "2"}),
        "vp9": write_video(folder / "vp9.webm", 20, codec="libvpx-vp9", options={"crf": "10"}),
        "late": write_video(folder / "late.mp4", times=[3 + i / 10 for i in range(40)]),
        "minute": write_video(folder / "minute.mp4", 50, fps=1, options={"g": "5", "qp": "4"}),
    }


@pytest.fixture(scope="session")
def unseekable(tmp_path_factory) -> pathlib.Path:
    """Returns a video of a frame a second whose container calls every frame a keyframe."""
    folder = tmp_path_factory.mktemp("unseekable")
    source = write_video(
        folder / "a.mp4", 50, codec="mpeg4", fps=1, options={"qmin": "1", "qmax": "1"}
    )
    path = folder / "every.mp4"
    with av.open(source) as taken, av.open(path, "w") as made:
        stream = made.add_stream_from_template(taken.streams.video[0])
        for packet in taken.demux(video=0):
            if packet.size:
                packet.is_keyframe, packet.stream = True, stream
                made.mux(packet)
    return path


@pytest.fixture(scope="session")
def real_clips() -> list[pathlib.Path]:
    """Returns the real videos that lie beside the checkout; skips where there are none."""
    if not REAL_CLIPS.is_dir():
        pytest.skip(f"no real clips at {REAL_CLIPS}")
    return sorted(
        path for path in REAL_CLIPS.rglob("*.*") if path.suffix not in (".csv", ".md", ".py")
    )
