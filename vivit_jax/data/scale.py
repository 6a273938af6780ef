"""From a decoded frame to size x size RGB pixels, upright, in one pass of FFmpeg's own scaler.

Cropping comes first and copies nothing, so that only what is wanted is scaled and converted:
several times faster than converting the frame and cutting it afterwards. The colours follow the
matrix and range that the file declares.
"""

import numpy as np
from av.filter import Graph
from av.video.frame import VideoFrame

from vivit_jax.data.geometry import Box

_UNSPECIFIED_MATRIX = 2


class Scaler:
    """Cuts boxes out of the frames of one video; keeps an FFmpeg graph for each."""

    def __init__(self, size: int):
        self._size = size
        self._graphs = {}

    def __call__(self, frame: VideoFrame, box: Box, out: np.ndarray) -> None:
        """Writes a box, given in shares of the upright picture, into out: uint8 [size size 3]."""
        turns = quarter_turns(frame)
        source, sink = self._graph(frame, _coded(box, turns, frame.height, frame.width))
        source.push(frame)
        plane = sink.pull().planes[0]
        rows = np.frombuffer(plane, np.uint8).reshape(self._size, plane.line_size)
        pixels = rows[:, : self._size * 3].reshape(self._size, self._size, 3)
        out[:] = np.rot90(pixels, turns)

    def _graph(self, frame: VideoFrame, cut: tuple[int, int, int, int]):
        """Returns the two ends of the graph that crops, scales and converts such a frame."""
        matrix, range_ = int(frame.colorspace), int(frame.color_range)
        key = (frame.width, frame.height, frame.format.name, matrix, range_, cut)
        if key not in self._graphs:
            try:
                self._graphs[key] = self._build(*key)
            except (ValueError, OSError):  # a matrix that the scaler does not know
                self._graphs[key] = self._build(*key[:3], _UNSPECIFIED_MATRIX, *key[4:])
        return self._graphs[key][1:]

    def _build(self, width: int, height: int, pixel_format: str, matrix: int, range_: int, cut):
        """Returns a configured graph and its two ends."""
        top, left, rows, columns = cut
        graph = Graph()
        graph.threads = 1
        source = graph.add(
            "buffer",
            f"video_size={width}x{height}:pix_fmt={pixel_format}:time_base=1/1:"
            f"colorspace={matrix}:range={range_}",
        )
        chain = [source]
        if cut != (0, 0, height, width):
            chain.append(graph.add("crop", f"{columns}:{rows}:{left}:{top}:exact=1"))
        chain.append(graph.add("scale", f"{self._size}:{self._size}:flags=bilinear"))
        chain.append(graph.add("format", "rgb24"))
        chain.append(graph.add("buffersink"))
        graph.link_nodes(*chain).configure()
        return graph, source, chain[-1]


def quarter_turns(frame: VideoFrame) -> int:
    """Returns the quarter turns, against the clock, that put the frame upright: 0 to 3.

    Rotations that are not quarter turns are nonsense of the header and are ignored.
    """
    degrees = frame.rotation
    return degrees // 90 % 4 if degrees % 90 == 0 and abs(degrees) <= 360 else 0


def _coded(box: Box, turns: int, height: int, width: int) -> tuple[int, int, int, int]:
    """Returns top, left, rows and columns of an upright box in the frame as it is coded."""
    top, left, rows, columns = box.top, box.left, box.height, box.width
    for _ in range(turns):  # each turns the picture back, with the clock
        top, left, rows, columns = left, 1 - top - rows, columns, rows
    first_row, last_row = round(top * height), round((top + rows) * height)
    first_column, last_column = round(left * width), round((left + columns) * width)
    first_row = min(max(first_row, 0), height - 1)
    first_column = min(max(first_column, 0), width - 1)
    return (
        first_row,
        first_column,
        max(1, min(last_row, height) - first_row),
        max(1, min(last_column, width) - first_column),
    )
