"""Clips to look at: frames side by side in a PNG, and moving in an mp4 and a GIF.

Several clips of the same frames are panels of one picture: rows of the strip, and neighbours in the
film. Small frames are enlarged by whole factors, so that a pixel stays a square of one colour.
"""

import fractions
import io
import pathlib
from collections.abc import Iterable, Iterator
from typing import BinaryIO

import av
import av.filter
import numpy as np
from av.video.stream import VideoStream
from einops import rearrange
from jaxtyping import UInt8

from vivit_jax.files import replacing

FPS = 6  # frames a second of a film, slow enough to look at each
_SIDE = 112  # pixels; frames at most half as high are enlarged
_GAP = 4  # pixels between frames
_WHITE = 255
_COLUMNS = 16  # most frames of a strip

Panels = UInt8[np.ndarray, "P T H W 3"]


def write_panels(folder: pathlib.Path, name: str, panels: Panels) -> list[pathlib.Path]:
    """Writes NAME.png, NAME.gif and NAME.mp4; returns the first two, which any page shows.

    Args:
      folder: made where it is missing.
      name: of the files.
      panels: P clips of the same moments.
    """
    png, gif, mp4 = (folder / f"{name}.{kind}" for kind in ("png", "gif", "mp4"))
    write_strip(png, panels)
    film = side_by_side(enlarge(panels))
    _encode(gif, "gif", "gif", "pal8", _paletted(film))
    _encode(mp4, "mp4", "libx264", "yuv420p", _frames(film, "yuv420p"), crf="16")
    return [png, gif]


def write_film(
    file: pathlib.Path, pictures: Iterable[UInt8[np.ndarray, "h w 3"]], fps: float
) -> None:
    """Writes an mp4 of pictures that come one after another; it appears when all have come.

    Args:
      file: which.
      pictures: all of one size, whose sides are even.
      fps: of them a second.
    """
    rate = fractions.Fraction(fps).limit_denominator(1000)
    _encode(file, "mp4", "libx264", "yuv420p", _frames(pictures, "yuv420p", rate), rate, crf="16")


def as_mp4(pictures: Iterable[UInt8[np.ndarray, "h w 3"]], fps: int, **options: str) -> bytes:
    """Returns an mp4 of pictures.

    Args:
      pictures: all of one size, whose sides are even.
      fps: of them a second.
      options: of x264.
    """
    out, rate = io.BytesIO(), fractions.Fraction(fps)
    _encode_to(out, "mp4", "libx264", "yuv420p", _frames(pictures, "yuv420p", rate), rate, options)
    return out.getvalue()


def write_strip(file: pathlib.Path, panels: Panels) -> None:
    """Writes a PNG of clips, enlarged; see `strip`."""
    _encode(file, "image2pipe", "png", "rgb24", _frames(strip(enlarge(panels))[None], "rgb24"))


def enlarge(panels: Panels) -> Panels:
    """Returns panels whose every pixel is a square, of as many pixels as make frames large."""
    factor = max(1, _SIDE // panels.shape[2])
    return panels.repeat(factor, axis=2).repeat(factor, axis=3)


def strip(panels: Panels) -> UInt8[np.ndarray, "h w 3"]:
    """Returns one picture: a row for each panel; of more than 16 frames some, evenly spaced."""
    frames = panels.shape[1]
    shown = np.linspace(0, frames - 1, min(frames, _COLUMNS)).round().astype(int)
    picture = rearrange(_with_gaps(panels[:, shown]), "p t h w c -> (p h) (t w) c")
    return picture[:-_GAP, :-_GAP]


def side_by_side(panels: Panels) -> UInt8[np.ndarray, "T h w 3"]:
    """Returns one clip: the panels from left to right; h and w are even, as H.264 wants them."""
    film = rearrange(_with_gaps(panels), "p t h w c -> t h (p w) c")[:, :-_GAP, :-_GAP]
    odd = [(0, side % 2) for side in film.shape[1:3]]
    return np.pad(film, [(0, 0), *odd, (0, 0)], constant_values=_WHITE)


def _with_gaps(panels: Panels) -> Panels:
    """Returns panels with white below and to the right of every frame."""
    sides = [(0, 0), (0, 0), (0, _GAP), (0, _GAP), (0, 0)]
    return np.pad(panels, sides, constant_values=_WHITE)


def _frames(
    film: Iterable[UInt8[np.ndarray, "h w 3"]],
    pixels: str,
    fps: fractions.Fraction = fractions.Fraction(FPS),
) -> Iterator[av.VideoFrame]:
    """Yields pictures as frames in a pixel format of FFmpeg's."""
    for i, picture in enumerate(film):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
        frame.pts, frame.time_base = i, 1 / fps
        yield frame


def _paletted(film: UInt8[np.ndarray, "T h w 3"]) -> Iterator[av.VideoFrame]:
    """Yields the frames of a clip in the 256 colours that suit it best."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=film.shape[2],
        height=film.shape[1],
        format=av.VideoFormat("rgb24"),
        time_base=fractions.Fraction(1, FPS),
    )
    split, choose, use = (graph.add(name) for name in ("split", "palettegen", "paletteuse"))
    source.link_to(split)
    split.link_to(choose, 0, 0)
    split.link_to(use, 1, 0)
    choose.link_to(use, 0, 1)
    use.link_to(graph.add("buffersink"))
    graph.configure()
    for frame in _frames(film, "rgb24"):
        graph.push(frame)
    graph.push(None)
    for _ in film:
        yield graph.vpull()


def _encode(
    file: pathlib.Path,
    container: str,
    codec: str,
    pixels: str,
    frames: Iterable[av.VideoFrame],
    fps: fractions.Fraction = fractions.Fraction(FPS),
    **options: str,
) -> None:
    """Writes frames to a file, which appears whole or not at all."""
    with replacing(file) as new, new.open("wb") as out:  # in a name FFmpeg reads % as a pattern
        _encode_to(out, container, codec, pixels, frames, fps, options)


def _encode_to(
    out: BinaryIO,
    container: str,
    codec: str,
    pixels: str,
    frames: Iterable[av.VideoFrame],
    fps: fractions.Fraction,
    options: dict[str, str],
) -> None:
    """Writes frames to an open file."""
    with av.open(out, "w", format=container) as made:
        stream = made.add_stream(codec, rate=fps, options=options)
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = pixels
        for i, frame in enumerate(frames):
            if not i:
                stream.width, stream.height = frame.width, frame.height
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
