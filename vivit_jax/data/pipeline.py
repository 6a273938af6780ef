"""Batches of decoded clips for this process: tf.data around the decoding processes.

Everything about a clip is a pure function of (seed, position): position p is place p % n of epoch p
// n, in the order of order.py, and what is drawn for the clip comes from (seed, epoch, place). So
there is no shuffle buffer and no state to save, and neither workers nor processes change what is
seen. Step s is positions s * batch_size and up, the rows of its batch; a process gives those rows
that its devices hold. Where several processes hold a row, each of them reads the video, and one of
them counts it.

With repeated augmentation (Hoffer et al. 2020) a position gives several clips: the same frames,
decoded once, in boxes of their own. They stand side by side in the batch, so where mixing pairs
clip i with clip B - 1 - i, it pairs video v with video V - 1 - v: two clips of one video never
meet, but in the middle of a batch of an odd number of videos, which is another video every step.

A tf.data iterator that is alive when Python ends hangs the process (its threads wait for the
interpreter lock that its destructor holds), so batches come from context managers, which end
the decoding and destroy the iterator whatever happens inside.
"""

import contextlib
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from einops import rearrange

from vivit_jax import config
from vivit_jax.data.bad_videos import BadVideos
from vivit_jax.data.clips import Sampling
from vivit_jax.data.examples import Source, media_of
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.order import Orders, order_within
from vivit_jax.data.pixels import Pixels, open_pixels
from vivit_jax.data.pool import DecodeFailure, Reading
from vivit_jax.data.views import eval_views, train_views
from vivit_jax.errors import InputError
from vivit_jax.host_tensorflow import host_tensorflow

_TRAIN, _TEST = 0, 1  # so that training and testing never draw alike
_BATCHES_AHEAD = 2
_CALLS_WAITING = 2  # calls beyond one a worker, so that none waits for its pixels to be copied
_ENDLESS = 2**40  # steps

Batch = dict[str, np.ndarray]
Rows = Sequence[int] | np.ndarray  # of a batch, by their numbers in it


@contextlib.contextmanager
def train_batches(
    source: Source,
    data: config.Data,
    *,
    seed: int,
    num_outputs: int = 0,
    start_step: int = 0,
    orders: Orders = (),
    rows: Rows | None = None,
    counted: Rows | None = None,
    process_index: int = 0,
    workdir: pathlib.Path | None = None,
) -> Iterator["Batches"]:
    """Yields this process's rows of the training batches, from a step on, without end.

    A batch is {"video": uint8 [b T H W 3], "label": see below, "valid": bool [b], "position":
    uint32 [b], "index": int32 [b]} with b = repeats * len(rows), the clips of a video side by side;
    "position" is a clip's own. A label is int32 [b], for data.labels "heads"
    int32 [b heads], for "multi" float32 [b K], multi-hot, and for "none" int32 [b 0]. A video that
    cannot be read is zeros and not valid.

    Args:
      source: the training videos.
      data: how clips are made; batch_size is over all processes.
      seed: of the order and of everything drawn.
      num_outputs: K; read for data.labels "multi".
      start_step: the first batch's.
      orders: steps, rising, and which order of the videos there is from each on; 0 before.
      rows: the videos of a batch that this process gives, rising; None for all.
      counted: those of them that it reports on; None for all that it gives.
      process_index: this process's number, by which its file of bad videos is called.
      workdir: where bad_videos.jsonl goes.

    Raises:
      InputError: from `next`, when more than data.max_bad of the videos cannot be read.
    """
    rows = _rows(rows, data.batch_size)
    size = len(source)
    changes = tuple((step * data.batch_size, order) for step, order in orders)

    def place(local: int) -> tuple[int, int, tuple[int, ...]]:
        step, offset = divmod(local, len(rows))
        position = step * data.batch_size + int(rows[offset])
        epoch, place = divmod(position, size)
        index = int(order_within(seed, epoch, size, changes)[place])
        return position, index, (_TRAIN, seed, epoch, place)

    bad = BadVideos(workdir, "train", process_index)
    counts = _counts(rows, counted)
    reader = _Reader(source, data, train_views(data), num_outputs, place, bad, counts)
    with _open(reader, range(start_step, _ENDLESS)) as batches:
        yield batches


@contextlib.contextmanager
def eval_batches(
    source: Source,
    data: config.Data,
    *,
    clips: int,
    crops: int,
    batch_size: int,
    resize: int = 0,
    num_outputs: int = 0,
    rows: Rows | None = None,
    counted: Rows | None = None,
    process_index: int = 0,
    workdir: pathlib.Path | None = None,
    split: str = "eval",
) -> Iterator["Batches"]:
    """Yields this process's rows of one pass over all videos, each in one row of one batch.

    A batch is {"video": uint8 [b V T H W 3] (clip by clip, then crop by crop), "label", "valid":
    bool [b], "index": int32 [b]}. The last is filled up: index -1, not valid. A video that cannot
    be read keeps its index, is not valid, and where it is counted is in `bad.records` of what is
    yielded.

    Args:
      source: the videos to judge by.
      data: how clips are made.
      clips: clips of a video.
      crops: crops of a clip: 1 or 3.
      batch_size: videos at once over all processes.
      resize: short side before the crop, pixels; 0 means data.image_size.
      num_outputs: K; read for data.labels "multi".
      rows: the videos of a batch that this process gives, rising; None for all.
      counted: those of them that it reports on; None for all that it gives.
      process_index: this process's number, by which its file of bad videos is called.
      workdir: where bad_videos.jsonl goes.
      split: as written there.
    """
    rows = _rows(rows, batch_size)
    size = len(source)

    def place(local: int) -> tuple[int, int, tuple[int, ...]]:
        step, offset = divmod(local, len(rows))
        index = step * batch_size + int(rows[offset])
        return index, index if index < size else -1, (_TEST, index)

    bad = BadVideos(workdir, split, process_index)
    views = eval_views(data, clips, crops, resize)
    reader = _Reader(source, data, views, num_outputs, place, bad, _counts(rows, counted))
    with _open(reader, range(-(-size // batch_size))) as batches:
        yield batches


class Batches:
    """An iterator over batches; `bad` is the record of those unreadable, as far as given."""

    def __init__(self, dataset, reader: "_Reader", steps: range):
        self._iterator: Iterator = iter(dataset)
        self._reader, self._steps = reader, steps
        self.bad = reader.bad
        self._closed = False

    def __len__(self) -> int:
        """Returns how many batches there are; the same on every process."""
        return len(self._steps)

    def __iter__(self) -> "Batches":
        """Returns itself."""
        return self

    def __next__(self) -> Batch:
        """Returns the next batch, after its unreadable videos were recorded.

        Raises:
          InputError: in training, too many could not be read.
        """
        try:
            values = next(self._iterator)
        except StopIteration:
            raise
        except Exception as error:  # TensorFlow's wrapping of what happened in a thread of its own
            raise self._reader.error or error from error
        if self._closed:  # meanwhile: what it lacks is no fault of the videos
            raise StopIteration
        batch = {key: np.asarray(memoryview(value)) for key, value in values.items()}
        self._reader.record(batch)
        return self._reader.finish(batch)

    def reading(self) -> Reading:
        """Returns what was read so far, ahead of what was given."""
        return self._reader.pixels.reading()

    def close(self) -> None:
        """Ends the decoding, then destroys the iterator while Python can still serve it."""
        self._closed = True
        self._reader.pixels.close()
        self._iterator = iter(())


class _Reader:
    """From a number of this process's sequence to an example's pixels and label."""

    def __init__(
        self,
        source: Source,
        data: config.Data,
        views: tuple[Sampling, Geometry],
        num_outputs: int,
        place: Callable[[int], tuple[int, int, tuple[int, ...]]],
        bad: BadVideos,
        counts: np.ndarray,
    ):
        self.counts = counts  # which of the rows are reported on
        self._source, self.data, self.views = source, data, views
        self._place, self.bad = place, bad
        sampling, geometry = views
        self.testing = geometry.test_crops > 0
        count = sampling.clips * geometry.boxes
        self.shape = (count, sampling.frames, geometry.size, geometry.size, 3)
        heads = source.example(0).label if data.labels == "heads" and len(source) else ()
        self.label = {
            "single": ((), np.int32),
            "heads": ((len(heads),) if isinstance(heads, tuple) else (), np.int32),
            "multi": ((num_outputs,), np.float32),
            "none": ((0,), np.int32),
        }[data.labels]
        self.media = media_of(source)
        self.pixels: Pixels
        self.error: BaseException | None = None
        self._failures: dict[int, DecodeFailure] = {}

    def load(self, local: np.int64):
        """Returns label, valid, position, index and what the graph makes the video of.

        It runs in TensorFlow's threads.
        """
        try:
            return self._load(int(local))
        except BaseException as error:
            self.error = error
            raise

    def record(self, batch: Batch) -> None:
        """Records the unreadable videos of a batch that are counted, in its order.

        Raises:
          InputError: in training, too many could not be read.
        """
        for counts, valid, index, position in zip(
            self.counts, batch["valid"], batch["index"], batch["position"], strict=True
        ):
            self.bad.seen += counts and index >= 0
            if index >= 0 and not valid:
                failure = self._failures.pop(int(position))
                if counts:
                    self.bad.add(self._source.example(int(index)).id, failure)
        if not self.testing:
            self.bad.check(self.data.max_bad, len(self._source))

    def finish(self, batch: Batch) -> Batch:
        """Returns a batch of videos without positions to test, or one of clips to train on."""
        position = batch.pop("position")
        if self.testing:
            return batch
        repeats = self.shape[0]
        clips = {
            name: np.repeat(value, repeats, axis=0)
            for name, value in batch.items()
            if name != "video"
        }
        # A number for each clip: it is what the device's augmentation is drawn by.
        position = position[:, None] * repeats + np.arange(repeats)
        video = rearrange(batch["video"], "b r t h w c -> (b r) t h w c")
        return {"video": video, "position": position.ravel().astype(np.uint32), **clips}

    def _load(self, local: int):
        position, index, key = self._place(local)
        label = np.zeros(*self.label)
        parts = DecodeFailure("padding", "")
        if index >= 0:
            example = self._source.example(index)
            if self.data.labels == "multi":
                label[list(np.atleast_1d(example.label))] = 1
            else:
                label[...] = example.label
            parts = self.pixels.read(example, key)
        valid = not isinstance(parts, DecodeFailure)
        if isinstance(parts, DecodeFailure):
            if index >= 0:
                self._failures[position] = parts
            parts = self.pixels.nothing
        return label, np.bool_(valid), np.int64(position), np.int32(index), *parts


@contextlib.contextmanager
def _open(reader: _Reader, steps: range) -> Iterator[Batches]:
    """Yields batches of this process's rows; ends the decoding at the end."""
    share = len(reader.counts)
    with open_pixels(reader.media, reader.views, reader.shape, reader.data) as pixels:
        reader.pixels = pixels
        tf = host_tensorflow()
        parts = [np.asarray(part) for part in pixels.nothing]
        kinds = (reader.label[1], tf.bool, tf.int64, tf.int32)
        kinds += tuple(tf.string if part.dtype == object else part.dtype for part in parts)
        shapes = (reader.label[0], (), (), (), *(part.shape for part in parts))
        names = ("label", "valid", "position", "index")

        @tf.autograph.experimental.do_not_convert  # it is a graph as it stands
        def load(local):
            values = tf.numpy_function(reader.load, [local], kinds, stateful=False)
            values = [tf.ensure_shape(*pair) for pair in zip(values, shapes, strict=True)]
            batch = dict(zip(names, values, strict=False))
            return {**batch, "video": pixels.in_graph(tuple(values[len(names) :]), batch["valid"])}

        calls = pixels.reading().workers + _CALLS_WAITING
        dataset = tf.data.Dataset.range(steps.start * share, steps.stop * share)
        dataset = dataset.map(load, num_parallel_calls=calls, deterministic=True)
        dataset = dataset.batch(share, drop_remainder=True).prefetch(_BATCHES_AHEAD)
        options = tf.data.Options()
        options.autotune.enabled = False
        options.threading.private_threadpool_size = calls + 2  # for calls that only wait
        batches = Batches(dataset.with_options(options), reader, steps)
        try:
            yield batches
        finally:
            batches.close()


def _rows(rows: Rows | None, batch_size: int) -> np.ndarray:
    """Returns the rows of a batch that this process gives."""
    if batch_size < 1:
        raise InputError(f"A batch of {batch_size} videos is none; expected at least 1.")
    return np.arange(batch_size) if rows is None else np.asarray(rows)


def _counts(rows: np.ndarray, counted: Rows | None) -> np.ndarray:
    """Returns for each row whether this process reports on it."""
    return np.isin(rows, rows if counted is None else counted)
