"""All videos examined, in parallel, whatever some of them do to the decoder.

What is measured of a video is written to checks.jsonl as soon as it is known, so a survey that was
stopped goes on: a video whose file has the same size and date is not decoded again. A video that
several examples are parts of is decoded once.
"""

import concurrent.futures
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from vivit_jax.data import examine
from vivit_jax.data.container import DecodeError
from vivit_jax.data.examine import Facts
from vivit_jax.data.examples import Example, Source, content_of
from vivit_jax.data.pool import DecodeFailure, DecodePool
from vivit_jax.files import replacing, stamp
from vivit_jax.metrics import Progress, append, read_lines

CHECKS = "checks.jsonl"
_AHEAD = 4  # videos a worker that are handed out before the first of them is done
_ANEW = ("crashed", "timeout")  # perhaps the machine's fault


class Subject(NamedTuple):
    """An example without its content.

    Attributes:
      id: the example's.
      split: where it is from.
      path: of its file; empty where it has none.
      label: the example's.
      span: likewise.
      size: bytes of its video.
      date: of its file, nanoseconds; 0 where it has none.
    """

    id: str
    split: str
    path: str
    label: int | tuple[int, ...]
    span: tuple[float, float] | None
    size: int
    date: int

    @property
    def video(self) -> tuple[str, int, int]:
        """What its video is known by; several examples can be parts of one."""
        return self.path or self.id, self.size, self.date


class Survey:
    """The videos of some splits.

    Attributes:
      subjects: all examples, in order, once `run` has ended.
      facts: of their videos.
      measured: videos that were not known from an earlier survey.
    """

    def __init__(self, splits: Mapping[str, Source], out: pathlib.Path):
        """Reads what an earlier survey has measured.

        Args:
          splits: by name.
          out: a folder, where checks.jsonl is and goes.
        """
        self._splits, self._file = splits, out / CHECKS
        self._known = dict(_read(self._file))
        self.subjects: list[Subject] = []
        self.facts: dict[tuple[str, int, int], Facts] = {}
        self.measured = 0

    def run(self, pool: DecodePool, workers: int) -> None:
        """Examines what is not known yet.

        Args:
          pool: that decodes.
          workers: its processes.
        """
        total = sum(map(len, self._splits.values()))
        progress = Progress("checking", max(1, total - len(self._known)))
        skipped = 0
        with concurrent.futures.ThreadPoolExecutor(workers) as threads:
            waiting: dict[concurrent.futures.Future, Subject] = {}
            try:
                for subject, content in self._videos():
                    if subject.video in self._known:
                        self.facts[subject.video] = self._known[subject.video]
                        skipped += 1
                        continue
                    task = threads.submit(pool.call, examine.examine, content)
                    waiting[task] = subject
                    if len(waiting) >= _AHEAD * workers:
                        self._collect(waiting)
                        progress.look(len(self.subjects) - len(waiting) - skipped)
                while waiting:
                    self._collect(waiting)
                    progress.look(len(self.subjects) - len(waiting) - skipped)
            except BaseException:  # leaving waits for the threads, and these wait for the pool
                pool.close()
                raise

    def _videos(self) -> Iterator[tuple[Subject, str | bytes]]:
        """Yields each video once, with its path or bytes; notes every example."""
        seen = set()
        for split, source in self._splits.items():
            for example in map(source.example, range(len(source))):
                video = readable(example)
                path = video if isinstance(video, str) else ""
                status = stamp(path) if path else (len(video), 0)
                subject = Subject(example.id, split, path, example.label, example.span, *status)
                self.subjects.append(subject)
                if subject.video not in seen:
                    seen.add(subject.video)
                    yield subject, video

    def _collect(self, waiting: dict[concurrent.futures.Future, Subject]) -> None:
        """Takes in what is done; waits until something is."""
        first = concurrent.futures.FIRST_COMPLETED
        for task in concurrent.futures.wait(waiting, return_when=first).done:
            subject, facts = waiting.pop(task), task.result()
            if isinstance(facts, DecodeFailure):
                facts = Facts(cause=facts.cause, message=facts.message)
            self.facts[subject.video] = facts
            self.measured += 1
            append(self._file, _record(subject, facts))

    def write(self, about: Sequence[dict[str, Any]]) -> None:
        """Writes checks.jsonl anew: a line an example, in order.

        Args:
          about: what else the line of each example says.
        """
        with replacing(self._file) as new, new.open("w", encoding="utf-8") as file:
            for subject, more in zip(self.subjects, about, strict=True):
                record = _record(subject, self.facts[subject.video])
                file.write(json.dumps(record | more) + "\n")


def readable(example: Example) -> str | bytes:
    """Returns the path or the content of an example's video; no bytes where nothing is stored.

    Raises:
      InputError: it is stored as pictures.
    """
    try:
        return content_of(example)
    except DecodeError:
        return b""


def _record(subject: Subject, facts: Facts) -> dict[str, Any]:
    """Returns what `_read` reads."""
    video, size, date = subject.video
    return {
        "id": subject.id,
        "video": video,
        "bytes": size,
        "date": date,
        "version": examine.VERSION,
        "facts": dataclasses.asdict(facts),
    }


def _read(file: pathlib.Path) -> Iterator[tuple[tuple[str, int, int], Facts]]:
    """Yields what an earlier survey has measured, by video."""
    for record in read_lines(file):
        if record.get("version") == examine.VERSION:
            facts = Facts(**record["facts"])
            if facts.cause not in _ANEW:
                yield (record["video"], record["bytes"], record["date"]), facts
