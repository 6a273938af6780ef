"""The record of videos that could not be read: bad_videos.jsonl, a line for each, and a limit."""

import json
import pathlib
from collections import Counter

from vivit_jax.data.pool import DecodeFailure
from vivit_jax.errors import InputError
from vivit_jax.metrics import Lines

_SURE = 200  # videos seen before a small share of bad ones can stop the training


class BadVideos:
    """Counts unreadable videos by cause and writes them down, each once.

    Attributes:
      counts: unreadable videos of this run by cause.
      records: what is known of each.
      seen: videos that were asked for; one that comes again counts again.
    """

    def __init__(self, workdir: pathlib.Path | None, split: str, process_index: int = 0):
        """Continues the file in the workdir, where there is one.

        Args:
          workdir: where bad_videos.jsonl goes; None for no file.
          split: "train" or "eval", as written.
          process_index: this host's; each writes a file of its own.
        """
        name = f"bad_videos_{process_index}.jsonl" if process_index else "bad_videos.jsonl"
        self._path = workdir / name if workdir else None
        self._lines = Lines(self._path) if self._path else None
        self._split = split
        self.counts: Counter[str] = Counter()
        self.seen = 0
        self.records: list[dict[str, str]] = []
        self._written = set()
        if self._path and self._path.exists():
            lines = self._path.read_text(encoding="utf-8").splitlines()
            self._written = {(row["id"], row["split"]) for row in map(_parse, lines) if row}
        self._known: set[str] = set()

    def add(self, identity: str, failure: DecodeFailure) -> None:
        """Counts a failure, and writes the video down if it is new."""
        if identity in self._known:
            return
        self._known.add(identity)
        self.counts[failure.cause] += 1
        record = {
            "id": identity,
            "cause": failure.cause,
            "message": failure.message,
            "split": self._split,
        }
        self.records.append(record)
        if self._lines and (identity, self._split) not in self._written:
            self._lines.add(record)

    def check(self, limit: float, size: int) -> None:
        """Returns while few enough of the videos seen were unreadable.

        Args:
          limit: largest share of those seen.
          size: videos that there are; the first 200, or all, are waited for.

        Raises:
          InputError: more were.
        """
        bad, seen = len(self.records), min(self.seen, size)
        if bad > limit * max(seen, min(size, _SURE)):
            causes = "\n".join(
                f"  {count:6d}  {cause}" for cause, count in self.counts.most_common()
            )
            where = f"They are listed in {self._path}.\n" if self._path else ""
            first = self.records[0]
            raise InputError(
                f"{bad} of the {seen} videos read so far are unreadable, more than "
                f"data.max_bad ({limit:g}) allows:\n{causes}\n{where}"
                f"The first: {first['id']}: {first['message']}.\n"
                "Mend or remove them, or raise data.max_bad."
            )


def _parse(line: str) -> dict[str, str] | None:
    """Returns a line's record; None for one that a crash left half written."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) and {"id", "split"} <= record.keys() else None
