"""How other libraries read a clip: sought, decoded to its last frame, cut and scaled.

Each is written as its own documentation would have it, and is given one thread; "tf.data" and
"grain" call the plain PyAV reader from theirs.
"""

import functools
import importlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from vivit_jax.host_tensorflow import host_tensorflow

CUT = 0.8  # of the short side: about what a random resized crop leaves


class Video(NamedTuple):
    """A file, and what a reader by frame numbers must know of it beforehand."""

    path: str
    frames: int
    fps: float


class Ask(NamedTuple):
    """A clip: its video, and the numbers of its frames, rising."""

    video: Video
    numbers: Sequence[int]
    size: int


def look_at(path: str) -> Video:
    """Returns a video with its number of frames, which are counted where the header is silent."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        frames = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
        return Video(path, frames, float(stream.average_rate or 25))


def pyav(ask: Ask, convert: bool = True) -> np.ndarray | None:
    """Returns a clip by a plain loop over PyAV's frames; None where nothing is converted."""
    wanted, made, reformatter = {*ask.numbers}, [], VideoReformatter()
    with av.open(ask.video.path) as container:
        stream = container.streams.video[0]
        stream.thread_type, stream.codec_context.thread_count = "SLICE", 1
        tick, begin = float(stream.time_base or 0), stream.start_time or 0
        container.seek(begin + int(ask.numbers[0] / ask.video.fps / tick), stream=stream)
        for frame in container.decode(stream):
            number = round(((frame.pts or 0) - begin) * tick * ask.video.fps)
            if convert and number in wanted:
                wanted.remove(number)
                image = np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)
                side = int(min(image.shape[:2]) * CUT)
                cut = av.VideoFrame.from_ndarray(np.ascontiguousarray(image[:side, :side]), "rgb24")
                scaled = reformatter.reformat(cut, ask.size, ask.size, threads=1)
                made.append(np.asarray(scaled.to_ndarray(), np.uint8))
            if number >= ask.numbers[-1]:
                break
    made += made[-1:] * (len(ask.numbers) - len(made))  # where time stamps leave a frame out
    return np.stack(made) if made else None


def decord(ask: Ask) -> np.ndarray:
    """Returns a clip by decord, which scales whole frames itself."""
    import decord  # type: ignore[import]

    size = ask.size
    reader = decord.VideoReader(ask.video.path, width=size, height=size, num_threads=1)
    return reader.get_batch(list(ask.numbers)).asnumpy()


def opencv(ask: Ask) -> np.ndarray:
    """Returns a clip by OpenCV: grabs every frame from the first, retrieves those wanted."""
    import cv2  # type: ignore[import-not-found]

    cv2.setNumThreads(1)
    wanted, made = {*ask.numbers}, []
    capture = cv2.VideoCapture(ask.video.path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    capture.set(cv2.CAP_PROP_POS_FRAMES, ask.numbers[0])
    for number in range(ask.numbers[0], ask.numbers[-1] + 1):
        capture.grab()
        if number in wanted:
            _, image = capture.retrieve()
            side = int(min(image.shape[:2]) * CUT)
            scaled = cv2.resize(image[:side, :side], (ask.size, ask.size))
            made.append(cv2.cvtColor(scaled, cv2.COLOR_BGR2RGB))
    capture.release()
    return np.stack(made)


def torchcodec(ask: Ask) -> Any:
    """Returns a clip by torchcodec, scaled by PyTorch."""
    import torch
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    decoder = VideoDecoder(ask.video.path, num_ffmpeg_threads=1, seek_mode="approximate")
    frames = decoder.get_frames_at(list(ask.numbers)).data
    side = int(min(frames.shape[2:]) * CUT)
    cut = frames[:, :, :side, :side].float()
    return torch.nn.functional.interpolate(cut, (ask.size, ask.size), mode="bilinear").byte()


READERS: dict[str, tuple[Callable[[Ask], Any], str]] = {  # and the module that each needs
    "pyav": (pyav, "av"),
    "decord": (decord, "decord"),
    "opencv": (opencv, "cv2"),
    "torchcodec": (torchcodec, "torchcodec.decoders"),
}


def with_tf_data(asks: Sequence[Ask], batch: int, threads: int) -> Iterator[Any]:
    """Yields batches of clips by the plain PyAV loop within tf.data's numpy_function."""
    tf = host_tensorflow()
    shape = (len(asks[0].numbers), asks[0].size, asks[0].size, 3)

    def read(index: Any) -> Any:
        clip = tf.numpy_function(lambda i: pyav(asks[int(i)]), [index], tf.uint8, stateful=False)
        return tf.ensure_shape(clip, shape)

    dataset = tf.data.Dataset.range(len(asks)).map(read, num_parallel_calls=threads)
    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    yield from dataset.batch(batch).prefetch(2).with_options(options).as_numpy_iterator()


def with_grain(asks: Sequence[Ask], batch: int, threads: int) -> Iterator[Any]:
    """Yields batches of clips by the plain PyAV loop within Grain's threads."""
    import grain  # type: ignore[import-not-found]

    dataset = grain.MapDataset.source(asks).map(pyav)
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * batch)
    yield from dataset.to_iter_dataset(options).batch(batch)


LOADERS: dict[str, tuple[Callable[[Sequence[Ask], int, int], Iterator[Any]], str]] = {
    "tf.data": (with_tf_data, "tensorflow"),
    "grain": (with_grain, "grain"),
}


@functools.cache
def missing(module: str) -> str:
    """Returns why a module cannot be used; nothing where it can."""
    try:
        importlib.import_module(module)
    except Exception as error:  # torchcodec raises a RuntimeError where FFmpeg's libraries are not
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return ""
