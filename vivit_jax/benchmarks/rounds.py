"""Rows that take turns within every round: a change of the machine's speed meets them alike."""

import json
import logging
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from vivit_jax.files import replacing
from vivit_jax.metrics import duration

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """What is measured.

    Attributes:
      name: of the row.
      run: does it once, to the end; returns its seconds where not all of the call counts.
      work: what a call does, in the table's unit.
      needs: of what the machine's rate is told in, such as multiply-accumulates; 0 for no such.
      about: more of the row, for the JSON.
    """

    name: str
    run: Callable[[], float | None]
    work: float = 1.0
    needs: float = 0.0
    about: Mapping[str, Any] = {}


class Measured(NamedTuple):
    """A row's calls.

    Attributes:
      row: what was run.
      seconds: of each call that counts.
    """

    row: Row
    seconds: Sequence[float]

    @property
    def median(self) -> float:
        """Seconds of the call in the middle."""
        return statistics.median(self.seconds)


class Table(NamedTuple):
    """Rows that are measured together.

    Attributes:
      title: of the table.
      rows: whose turns alternate.
      unit: of their work, in the plural, such as "clips".
      than: the name of the row that others are compared with.
      of: what of the machine's their `needs` are held against, such as "matrix products".
      rate: from what was measured, what of it the machine does in a second; None for none.
      again: each turn is two calls, of which the second counts: its memory and caches are then what
        they are where nothing else runs between.
    """

    title: str
    rows: Sequence[Row]
    unit: str
    than: str
    of: str = ""
    rate: Callable[[Sequence[Measured]], float] | None = None
    again: bool = False


def done(arrays: Any) -> None:
    """Waits until arrays of JAX's are computed."""
    import jax

    jax.block_until_ready(arrays)


def take_turns(table: Table, rounds: int, warm_up: int = 1) -> list[Measured]:
    """Returns the rows of a table with the seconds of their calls.

    Args:
      table: each of whose rows has a turn a round.
      rounds: that count.
      warm_up: rounds before, which don't: they compile, and fill caches.
    """
    seconds: list[list[float]] = [[] for _ in table.rows]
    begun = time.perf_counter()
    for number in range(warm_up + rounds):
        for row, of in zip(table.rows, seconds, strict=True):
            if table.again:
                row.run()
            start = time.perf_counter()
            told = row.run()
            took = time.perf_counter() - start
            if number >= warm_up:
                of.append(took if told is None else told)
        each = (time.perf_counter() - begun) / (number + 1)
        left = duration(each * (warm_up + rounds - number - 1))
        log.info("Round %d of %d; ETA %s", number + 1, warm_up + rounds, left)
    return [Measured(*pair) for pair in zip(table.rows, seconds, strict=True)]


def in_words(table: Table, measured: Sequence[Measured]) -> str:
    """Returns the table in Markdown: a line a row."""
    a_unit = {each.row.name: each.median / each.row.work for each in measured}
    rate = table.rate(measured) if table.rate else 0.0
    head = ["", "ms", "lowest", "highest", f"{table.unit}/s", f"time of {table.than}"]
    head += [f"of the rate of {table.of}"] if rate else []
    lines = [head, ["---"] * len(head)]
    for each in measured:
        row, seconds = each
        line = [row.name, *(f"{1e3 * x:.4g}" for x in (each.median, min(seconds), max(seconds)))]
        line += [f"{1 / a_unit[row.name]:.4g}", f"{a_unit[row.name] / a_unit[table.than]:.2f}"]
        if rate:
            line.append(f"{100 * row.needs / rate / each.median:.0f} %" if row.needs else "")
        lines.append(line)
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write(
    file: pathlib.Path, tables: Sequence[tuple[Table, Sequence[Measured]]], about: Mapping[str, Any]
) -> None:
    """Writes a JSON file: what was measured where, and every call of every row."""
    content = [
        {
            "title": table.title,
            "unit": table.unit,
            "rows": [
                {
                    "name": each.row.name,
                    "work": each.row.work,
                    "needs": each.row.needs,
                    "median_seconds": each.median,
                    "seconds": list(each.seconds),
                    **each.row.about,
                }
                for each in measured
            ],
        }
        for table, measured in tables
    ]
    with replacing(file) as new:
        new.write_text(json.dumps({**about, "tables": content}, indent=2) + "\n")
