"""Tables as HTML: what is given is escaped, numbers stand to the right and can be sorted by."""

import math
from collections.abc import Sequence
from typing import Any

from vivit_jax.text import escaped


class Markup(str):
    """Text that is HTML already."""


class Number(float):
    """A number that is written in its own way: `text` for its digits, itself to be sorted by."""

    text: str

    def __new__(cls, value: float, text: str) -> "Number":
        """Returns a number with its text."""
        made = super().__new__(cls, value)
        made.text = text
        return made


def table(columns: Sequence[Any], rows: Sequence[Sequence[Any]], kind: str = "") -> Markup:
    """Returns a table.

    Args:
      columns: heads.
      rows: of text, numbers, None for nothing, or Markup.
      kind: classes of CSS: "sortable" lets people sort it, "long" makes a long one scroll.
    """
    numeric = [any(_is_number(row[i]) for row in rows) for i in range(len(columns))]
    head = "".join(
        f'<th scope="col"{" class=n" * number}>{cell(column)}</th>'
        for column, number in zip(columns, numeric, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_column, row, numeric))}</tr>" for row in rows)
    return Markup(
        f'<div class="table {"long" * ("long" in kind)}"><table class="{kind}"><thead><tr>{head}'
        f"</tr></thead><tbody>{body}</tbody></table></div>"
    )


def cell(value: Any) -> str:
    """Returns a value as HTML."""
    if isinstance(value, Markup):
        return value
    if value is None:
        return '<span class="dim">–</span>'
    if isinstance(value, Number):
        return value.text
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return escaped(plain(value) if isinstance(value, float) else str(value))


def plain(value: float) -> str:
    """Returns a number in four digits."""
    if not math.isfinite(value):
        return "no number"
    if value and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}"
    return f"{value:.4g}"


def share(value: float | None) -> Number | None:
    """Returns a share from 0 to 1 as percent."""
    if value is None or not math.isfinite(value):
        return None
    return Number(value, f"{100 * value:.1f} %")


def missing(text: str) -> Markup:
    """Returns a line that says what is not there."""
    return Markup(f'<p class="missing">{escaped(text)}</p>')


def section(name: str, title: str, *parts: str) -> Markup:
    """Returns a section of the page; nothing where no part says anything."""
    inside = "".join(parts)
    if not inside:
        return Markup("")
    return Markup(f'<section id="{name}"><h2>{escaped(title)}</h2>{inside}</section>')


def beside(blocks: Sequence[tuple[str, int, str]], named: bool) -> Markup:
    """Returns what is said of several runs, side by side where there is room.

    Args:
      blocks: name and number of a run, and HTML.
      named: whether the names are shown, as where a page has several runs.
    """
    several = len(blocks) > 1
    made = "".join(
        f'<div class="block">{run_name(name, number) if named else ""}{inside}</div>'
        for name, number, inside in blocks
    )
    return Markup(f'<div class="beside{" several" * several}">{made}</div>')


def run_name(name: str, number: int) -> Markup:
    """Returns the head of what is said of a run, with its colour."""
    return Markup(f'<h3><i class="swatch run{number % 8}"></i>{escaped(name)}</h3>')


def _column(value: Any, numeric: bool) -> str:
    """Returns a cell with its tags."""
    known = _is_number(value) and math.isfinite(value)
    by = f' data-v="{float(value)}"' if known else ""
    return f"<td{' class=n' * numeric}{by}>{cell(value)}</td>"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
