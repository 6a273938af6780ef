"""What a run writes down as it goes: metrics.jsonl, results.jsonl and TensorBoard.

The files are JSON, a line an object. A run that goes on from a step first drops the lines after it,
and a last line that a crash tore, so that the files read as if it had never stopped.
"""

import contextlib
import json
import logging
import math
import os
import pathlib
import struct
import time
from collections.abc import Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from vivit_jax.host_tensorflow import host_tensorflow

log = logging.getLogger(__name__)
METRICS, RESULTS, SKIPPED = "metrics.jsonl", "results.jsonl", "skipped_updates.jsonl"
ROLLBACKS = "rollbacks.jsonl"
HELD_OUT = "eval"  # a split


def read_lines(file: pathlib.Path) -> list[dict[str, Any]]:
    """Returns the records of a file, without what a crash left half written; [] for no file."""
    records = []
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            records.append(json.loads(line))
        except ValueError:
            log.warning("%s: left out a line that is not whole: %.60r", file, line)
    return records


def split_of(result: Mapping[str, Any]) -> str:
    """Returns of which videos a result is: HELD_OUT, as of older ones; "train"."""
    return str(result.get("split", HELD_OUT))


def held_out(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns the results of held-out videos; where there are none, those of training videos."""
    return [result for result in results if split_of(result) == HELD_OUT] or results


def drop_after(file: pathlib.Path, step: int) -> None:
    """Rewrites a file without the records of later steps."""
    if not file.exists():
        return
    lines = [as_line(record) for record in read_lines(file) if record["step"] <= step]
    new = file.with_suffix(".new")
    new.write_text("".join(lines), encoding="utf-8")
    os.replace(new, file)


def as_line(record: Mapping[str, Any]) -> str:
    """Returns a record as a line of ASCII; what is not finite, which JSON lacks, becomes null."""
    values = {
        k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in record.items()
    }
    return json.dumps(values) + "\n"


def append(file: pathlib.Path, record: Mapping[str, Any]) -> None:
    """Adds a record to a file."""
    with file.open("a", encoding="utf-8") as out:
        out.write(as_line(record))


@contextlib.contextmanager
def losing(what: str) -> Iterator[None]:
    """Warns, and goes on, where what is within cannot be written."""
    try:
        yield
    except OSError as error:
        log.warning("%s cannot be written, and the run goes on without it: %s", what, error)


class Lines:
    """A file of records that outlives a disk that is full or away for a while.

    What cannot be written is kept, and written before what comes next; one warning tells.
    """

    def __init__(self, file: pathlib.Path):
        """Takes a file, which need not be there."""
        self._file, self._kept = file, ""
        self._warned = False

    def add(self, record: Mapping[str, Any]) -> None:
        """Adds a record, or keeps it for later."""
        self._kept += as_line(record)
        self._write()

    def _write(self) -> None:
        size = None
        try:
            with self._file.open("ab", buffering=0) as out:
                size = out.seek(0, os.SEEK_END)
                left = memoryview(self._kept.encode())
                while left:
                    left = left[out.write(left) :]
                self._kept = ""
        except OSError as error:
            if size is not None:
                with contextlib.suppress(OSError):
                    os.truncate(self._file, size)  # of a line that only fitted in part
            if not self._warned:
                self._warned = True
                log.warning("%s cannot be written: %s. Its lines are kept.", self._file, error)

    def close(self) -> None:
        """Writes what is kept; tells what is lost where that fails."""
        if self._kept:
            self._write()
        if self._kept:
            lost = self._kept.splitlines()
            log.warning("%s lacks its last %d lines: %s", self._file, len(lost), "; ".join(lost))


class Writer:
    """Writes a run's records to its files and to TensorBoard; a context manager."""

    def __init__(self, workdir: pathlib.Path, start_step: int | None = None, active: bool = True):
        """Prepares the files.

        Args:
          workdir: of the run.
          start_step: from which a run goes on; None leaves every line.
          active: False for a process that writes nothing.
        """
        self._workdir, self._active, self._board = workdir, active, None
        self._files: dict[str, Lines] = {}
        if active:
            if start_step is not None:
                for name in (METRICS, RESULTS, SKIPPED):
                    drop_after(workdir / name, start_step)
            host_tensorflow()  # before clu imports it
            from clu.metric_writers import SummaryWriter

            with self._board_may_fail():
                self._board = SummaryWriter(str(workdir))

    def write(self, name: str, record: Mapping[str, Any]) -> None:
        """Adds a record, with a "step", to the file of this name; numbers to TensorBoard too."""
        if not self._active:
            return
        self._files.setdefault(name, Lines(self._workdir / name)).add(record)
        group = "train" if name == METRICS else split_of(record)
        numbers = {
            f"{group}/{key}": value
            for key, value in record.items()
            if isinstance(value, int | float) and key != "step"
        }
        if numbers and self._board is not None:
            with self._board_may_fail():
                self._board.write_scalars(record["step"], numbers)

    def write_pictures(self, step: int, group: str, files: Iterable[pathlib.Path]) -> None:
        """Adds PNG and GIF files to TensorBoard as they are, so that a GIF moves there too.

        Args:
          step: of the run.
          group: under which they stand, such as "eval".
          files: each stands there by its name.
        """
        if self._board is None:
            return
        from tensorboard.plugins.image.metadata import create_summary_metadata

        metadata = create_summary_metadata(display_name=None, description=None)
        for file in files:
            name, data = f"{group}/{file.name}", file.read_bytes()
            sides = (str(side).encode() for side in _width_and_height(data))
            value = np.array([*sides, data], object)
            with self._board_may_fail():
                self._board.write_summaries(step, {name: value}, {name: metadata})
            if self._board is None:
                return

    def __enter__(self) -> "Writer":
        """Returns itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Writes out what is kept, and what TensorBoard's writer still holds."""
        for file in self._files.values():
            file.close()
        if self._board is not None:
            with self._board_may_fail():
                self._board.close()

    @contextlib.contextmanager
    def _board_may_fail(self) -> Iterator[None]:
        """Goes on without TensorBoard where it cannot write; TensorFlow has its own errors."""
        try:
            yield
        except Exception as error:
            self._board = None
            log.warning(
                "TensorBoard's events cannot be written to %s; the run goes on without them, and "
                "%s and %s have all numbers. %s: %s",
                *(self._workdir, METRICS, RESULTS, type(error).__name__, error),
            )


def _width_and_height(data: bytes) -> tuple[int, int]:
    """Returns what the header of a PNG or GIF says, in pixels."""
    if data[1:4] == b"PNG":
        return struct.unpack(">II", data[16:24])
    return struct.unpack("<HH", data[6:10])


class Progress:
    """Tells now and then how far something is, and when it will end."""

    def __init__(self, what: str, total: int, every: float = 10.0):
        """Starts the clock.

        Args:
          what: is being done.
          total: parts of it.
          every: seconds between lines.
        """
        self._what, self._total, self._every = what, total, every
        self._start = self._last = time.perf_counter()

    def look(self, done: int) -> None:
        """Logs a line, if the last is long enough ago."""
        now = time.perf_counter()
        if now - self._last >= self._every:
            self._last = now
            left = (self._total - done) * (now - self._start) / done
            log.info("%s %d/%d, ETA %s", self._what, done, self._total, duration(left))


def duration(seconds: float) -> str:
    """Returns seconds as "1:02:03", "2:03" or "0:03"."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
