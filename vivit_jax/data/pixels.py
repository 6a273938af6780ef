"""How an example becomes pixels: in decoding processes, or from JPEG frames in the graph.

Both give the parts that go into the graph for one example, say which these are, and turn them into
its views there.
"""

import contextlib
import itertools
import math
from collections import Counter
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from vivit_jax import config
from vivit_jax.data import jpeg_clips
from vivit_jax.data.clips import Sampling
from vivit_jax.data.container import DecodeError
from vivit_jax.data.examples import Example, content_of
from vivit_jax.data.frames import Frames, Wanted, choose
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pool import DecodeFailure, DecodePool, Reading, cores
from vivit_jax.data.worker import Task
from vivit_jax.errors import InputError
from vivit_jax.host_tensorflow import host_tensorflow

COSTLY = ("crashed", "timeout", "memory")  # what a video can do to the process that reads it
_CHANCES = 2  # after which a video that did is no more given to one
Parts = tuple[Any, ...]
Shape = tuple[int, int, int, int, int]


class Pixels(Protocol):
    """Where pixels come from.

    Attributes:
      nothing: the parts of an example that has no pixels.
    """

    nothing: Parts

    def read(self, example: Example, key: tuple[int, ...]) -> Parts | DecodeFailure:
        """Returns the parts of an example, or why there are none; runs in TensorFlow's threads.

        Args:
          example: which.
          key: seeds what is drawn.
        """
        ...

    def in_graph(self, parts: Parts, valid: Any) -> Any:
        """Returns the views as a tensor, uint8 [V T H W 3]; zeros where `valid` is False."""
        ...

    def reading(self) -> Reading:
        """Returns what was read so far."""
        ...

    def close(self) -> None:
        """Ends what is under way."""
        ...


@contextlib.contextmanager
def open_pixels(
    kind: str, views: tuple[Sampling, Geometry], shape: Shape, data: config.Data
) -> Iterator[Pixels]:
    """Yields where the pixels of a source come from.

    Args:
      kind: "jpeg" for examples that are stored as JPEG frames, else "video".
      views: which moments and which part of the picture.
      shape: of the views.
      data: how many decoding processes there are, and what a video may take of one.
    """
    workers = data.workers or cores()
    if kind == "jpeg":
        if views[0].kind == "key_frames":
            raise InputError(
                "data.sampling = 'key_frames' looks at a whole video first, and these are stored "
                "as frames that are not decoded until they are chosen: use the video files, or "
                "'segments'."
            )
        yield InGraph(views, shape, workers)
        return
    memory = int(data.worker_memory * 1e9)
    with DecodePool(workers, math.prod(shape), data.timeout, memory) as pool:
        yield InProcesses(pool, views, shape)


class InProcesses:
    """Pixels that come ready out of decoding processes.

    A video that cost one of them, and then another, is not read again: every epoch would wait.
    """

    def __init__(self, pool: DecodePool, views: tuple[Sampling, Geometry], shape: Shape):
        self._pool, self._views, self._shape = pool, views, shape
        self.nothing: Parts = (np.zeros(shape, np.uint8),)
        self._costly: Counter[str] = Counter()  # times that a video did, by its id
        self._last: dict[str, DecodeFailure] = {}
        self.close, self.reading = pool.close, pool.reading

    def read(self, example: Example, key: tuple[int, ...]) -> Parts | DecodeFailure:
        """Returns the pixels of an example, or why there are none."""
        if self._costly[example.id] >= _CHANCES:
            return self._last[example.id]
        try:
            video = content_of(example)
        except DecodeError as error:
            return DecodeFailure(error.cause, error.message)
        pixels = self._pool.decode(Task(video, *self._views, key, example.span, example.digest))
        if isinstance(pixels, DecodeFailure) and pixels.cause in COSTLY:
            self._last[example.id] = pixels
            self._costly[example.id] += 1
        return pixels if isinstance(pixels, DecodeFailure) else (pixels.reshape(self._shape),)

    def in_graph(self, parts: Parts, valid: Any) -> Any:
        """Returns the pixels."""
        return parts[0]


class InGraph:
    """Pixels that TensorFlow's graph decodes from JPEG frames."""

    def __init__(self, views: tuple[Sampling, Geometry], shape: Shape, threads: int):
        self._views, self._shape, self._threads = views, shape, threads
        self._read = itertools.count()
        self._videos = 0
        clips, crops = views[0].clips, views[1].boxes
        self.nothing: Parts = Wanted(
            np.full(clips * shape[1], b"", object),
            np.int32(0),
            np.zeros(4, np.int32),
            np.zeros((crops, 4), np.int32),
        )

    def read(self, example: Example, key: tuple[int, ...]) -> Parts | DecodeFailure:
        """Returns the frames of an example that are wanted, or why there are none."""
        assert not isinstance(example.video, str | bytes)
        self._videos = next(self._read) + 1  # from several threads
        try:
            frames = example.video.read()
            assert isinstance(frames, Frames)
            return choose(frames, *self._views, key)
        except DecodeError as error:
            return DecodeFailure(error.cause, error.message)

    def in_graph(self, parts: Parts, valid: Any) -> Any:
        """Returns the pixels, decoded."""
        tf = host_tensorflow()
        tensors: Any = map(tf.convert_to_tensor, parts)  # arrays, where there is no graph
        wanted = Wanted(*tensors)
        return tf.cond(
            valid,
            lambda: jpeg_clips.decode(wanted, self._shape),
            lambda: tf.zeros(self._shape, tf.uint8),
        )

    def reading(self) -> Reading:
        """Returns what was read so far; TensorFlow does not tell how long its decoding took."""
        return Reading(self._videos, math.nan, self._threads)

    def close(self) -> None:
        """Does nothing: what is under way ends with the iterator."""
