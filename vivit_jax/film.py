"""Clips to look at: frames side by side in a PNG, and moving in an mp4 and a GIF.

Several clips of the same frames are panels of one picture: rows of the strip, and neighbours in the
film. Small frames are enlarged by whole factors, so that a pixel stays a square of one colour.
"""

import fractions
import pathlib
from collections.abc import Iterable, Iterator

import av
import av.filter
import numpy as np
from av.video.stream import VideoStream
from einops import rearrange
from jaxtyping import UInt8

from vivit_jax.report import replacing

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
    panels = enlarge(panels)
    png, gif, mp4 = (folder / f"{name}.{kind}" for kind in ("png", "gif", "mp4"))
    _encode(png, "image2pipe", "png", "rgb24", _frames(strip(panels)[None], "rgb24"))
    film = side_by_side(panels)
    _encode(gif, "gif", "gif", "pal8", _paletted(film))
    _encode(mp4, "mp4", "libx264", "yuv420p", _frames(film, "yuv420p"), crf="16")
    return [png, gif]


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


def _frames(film: UInt8[np.ndarray, "T h w 3"], pixels: str) -> Iterator[av.VideoFrame]:
    """Yields the frames of a clip in a pixel format of FFmpeg's."""
    for i, picture in enumerate(film):
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
        frame.pts, frame.time_base = i, fractions.Fraction(1, FPS)
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
    **options: str,
) -> None:
    """Writes frames to a file, which appears whole or not at all."""
    with (
        replacing(file) as new,
        new.open("wb") as out,  # FFmpeg would read a % in a name as a pattern
        av.open(out, "w", format=container) as made,
    ):
        stream = made.add_stream(codec, rate=FPS, options=options)
        assert isinstance(stream, VideoStream)
        stream.pix_fmt = pixels
        for i, frame in enumerate(frames):
            if not i:
                stream.width, stream.height = frame.width, frame.height
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
