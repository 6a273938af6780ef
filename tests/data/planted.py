"""Videos with something wrong with them, each made from good ones, with the cause to be found.

Good videos are those of data/synthetic.py: H.264 in mp4, 2 s, moving all over.
"""

import pathlib
import shutil
from collections.abc import Callable
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.video.stream import VideoStream

from vivit_jax.data.synthetic import FPS, MOTIONS, SPLITS, render

Frames = np.ndarray


class Fault(NamedTuple):
    """How a fault is planted: what must be found, the file's ending, and what makes the file.

    `make` is given the path to write, the path of a good video, and a generator.
    """

    cause: str
    ending: str
    make: Callable[[pathlib.Path, pathlib.Path, np.random.Generator], None]


def scene(rng: np.random.Generator) -> Frames:
    """Returns the frames of a new video, uint8 [32 64 80 3]."""
    motions = list(MOTIONS)
    return render(motions[rng.integers(len(motions))], SPLITS["train"], rng)


def read(path: pathlib.Path) -> Frames:
    """Returns the frames of a video."""
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def encode(
    path: pathlib.Path,
    frames: Frames,
    codec: str = "libx264",
    *,
    fps: int = FPS,
    times: list[float] | None = None,
    rotation: int = 0,
    pixel_width: Fraction | None = None,
    sound: bool = False,
    **options: str,
) -> None:
    """Writes frames as a video; `times` are seconds, and go before fps."""
    unit = Fraction(1, 1000) if times else Fraction(1, fps)
    index_first = {"movflags": "faststart"} if path.suffix in (".mp4", ".mov") else {}
    with av.open(str(path), "w", options=index_first) as file:
        stream = file.add_stream(codec, rate=fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv444p" if frames.shape[1] % 2 or frames.shape[2] % 2 else "yuv420p"
        stream.codec_context.time_base = unit
        if pixel_width:
            stream.codec_context.sample_aspect_ratio = pixel_width
        if rotation:
            stream.set_display_rotation(rotation)
        tone = file.add_stream("aac", rate=16000) if sound else None
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, "rgb24")
            frame.time_base = unit
            frame.pts = round(times[i] / unit) if times else i
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
        if tone is not None:
            file.mux(tone.encode(_tone(len(frames) / fps)))
            file.mux(tone.encode(None))


def _tone(seconds: float) -> AudioFrame:
    """Returns a tone."""
    wave = np.sin(np.arange(round(16000 * seconds)) / 10).astype(np.float32)[None]
    sound = AudioFrame.from_ndarray(wave, "fltp", "mono")
    sound.sample_rate = 16000
    return sound


def remux(path: pathlib.Path, good: pathlib.Path) -> None:
    """Writes the same compressed pictures into another container."""
    with av.open(str(good)) as file, av.open(str(path), "w") as made:
        source = file.streams.video[0]
        stream = made.add_stream_from_template(source)
        for packet in file.demux(source):
            if packet.size:
                packet.stream = stream
                made.mux(packet)


def cut(path: pathlib.Path, share: float) -> None:
    """Keeps the beginning of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: round(share * len(data))])


def blank(path: pathlib.Path, first: float, last: float) -> None:
    """Zeroes a part of a file."""
    data = bytearray(path.read_bytes())
    a, b = round(first * len(data)), round(last * len(data))
    data[a:b] = bytes(b - a)
    path.write_bytes(data)


def _after(change: Callable[[pathlib.Path], None], codec: str = "libx264", **options):
    """Returns a maker of a new video that is then changed."""

    def make(path: pathlib.Path, good: pathlib.Path, rng: np.random.Generator) -> None:
        encode(path, scene(rng), codec, **options)
        change(path)

    return make


def _of(change: Callable[[Frames], Frames], codec: str = "libx264", **options):
    """Returns a maker of a video of changed pictures."""
    return lambda path, good, rng: encode(path, change(scene(rng)), codec, **options)


def _again(codec: str = "libx264", change: Callable[[Frames], Frames] = lambda x: x, **options):
    """Returns a maker of a video of a good one's pictures."""
    return lambda path, good, rng: encode(path, change(read(good)), codec, **options)


def _text(text: str | bytes):
    """Returns a maker of a file that is no video."""
    data = text.encode() if isinstance(text, str) else text
    return lambda path, good, rng: path.write_bytes(data)


def _sound(path: pathlib.Path, good: pathlib.Path, rng: np.random.Generator) -> None:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        file.mux(stream.encode(_tone(2)))
        file.mux(stream.encode(None))


def _playlist(path: pathlib.Path, good: pathlib.Path, rng: np.random.Generator) -> None:
    path.write_text(f"ffconcat version 1.0\nfile '{good.name}'\n")


def _larger(frames: Frames) -> Frames:
    return frames.repeat(2, axis=1).repeat(2, axis=2)


def _uneven() -> list[float]:
    return np.cumsum([0.02, 0.15, 0.05, 0.03] * 8).tolist()


FAULTS = {
    "empty": Fault("empty", ".mp4", _text("")),
    "text": Fault("unreadable", ".mp4", _text("404 Not Found\n" * 50)),
    "playlist": Fault("unreadable", ".mp4", _playlist),
    "picture_renamed": Fault("unreadable", ".mp4", _text(b"\x89PNG\r\n\x1a\n" + bytes(500))),
    "moov_cut": Fault("unreadable", ".mp4", lambda p, g, r: (shutil.copy(g, p), cut(p, 0.6))[0]),
    "sound_only": Fault("no_video", ".mp4", _sound),
    "truncated_mp4": Fault("truncated", ".mp4", _after(lambda p: cut(p, 0.6))),
    "truncated_mp4_90": Fault("truncated", ".mp4", _after(lambda p: cut(p, 0.85))),
    "truncated_avi": Fault("truncated", ".avi", _after(lambda p: cut(p, 0.75), "mpeg4")),
    "truncated_webm": Fault("truncated", ".webm", _after(lambda p: cut(p, 0.6), "libvpx-vp9")),
    "truncated_mkv": Fault("truncated", ".mkv", _after(lambda p: cut(p, 0.6), sound=True)),
    "truncated_mov": Fault("truncated", ".mov", _after(lambda p: cut(p, 0.5), sound=True)),
    "zeroed_mp4": Fault("corrupt", ".mp4", _after(lambda p: blank(p, 0.4, 0.6))),
    "zeroed_mkv": Fault("corrupt", ".mkv", _after(lambda p: blank(p, 0.4, 0.6))),
    "zeroed_hevc": Fault("corrupt", ".mp4", _after(lambda p: blank(p, 0.4, 0.6), "libx265")),
    "zeroed_avi": Fault("truncated", ".avi", _after(lambda p: blank(p, 0.7, 0.8), "mpeg4")),
    "zeroed_webm": Fault("corrupt", ".webm", _after(lambda p: blank(p, 0.5, 0.8), "libvpx")),
    "constant": Fault("constant", ".mp4", _of(lambda x: np.full_like(x, 127))),
    "black": Fault("black", ".mp4", _of(lambda x: x // 30)),
    "frozen": Fault("frozen", ".mp4", _of(lambda x: x[:1].repeat(32, 0), crf="28")),
    "frozen_avi": Fault("frozen", ".avi", _of(lambda x: x[:1].repeat(32, 0), "mpeg4", b="1000000")),
    "frozen_tail": Fault("frozen_part", ".mp4", _of(lambda x: x[np.minimum(range(32), 12)])),
    "short": Fault("short", ".mp4", _of(lambda x: x[:3])),
    "fps_5": Fault("odd_rate", ".mp4", _of(lambda x: x, fps=5)),
    "fps_240": Fault("odd_rate", ".mp4", _of(lambda x: np.concatenate([x] * 6), fps=240)),
    "fps_variable": Fault("odd_rate", ".mp4", _of(lambda x: x, times=_uneven())),
    "rotated": Fault("rotated", ".mp4", _of(lambda x: x, rotation=90)),
    "anamorphic": Fault("non_square_pixels", ".mp4", _of(lambda x: x, pixel_width=Fraction(4, 3))),
    "odd_size": Fault("odd_size", ".mp4", _of(lambda x: x[:, :63, :79])),
    "copied": Fault("duplicate", ".mp4", lambda p, g, r: shutil.copy(g, p)),
    "remuxed": Fault("duplicate", ".mkv", lambda p, g, r: remux(p, g)),
    "reencoded": Fault("near_duplicate", ".mp4", _again(crf="35")),
    "reencoded_vp9": Fault("near_duplicate", ".webm", _again("libvpx-vp9")),
    "rescaled": Fault("near_duplicate", ".mp4", _again(change=_larger)),
    "slower_rate": Fault("near_duplicate", ".mp4", _again(change=lambda x: x[::2], fps=FPS // 2)),
}
LEAKS = {  # made from a held-out video and put among the training videos
    "leaked": Fault("leak", ".mp4", lambda p, g, r: shutil.copy(g, p)),
    "leaked_reencoded": Fault("leak", ".mkv", _again(crf="33")),
}
