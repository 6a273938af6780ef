"""The exceptions that more than one part of the project knows, and lists in their messages."""

from collections.abc import Iterable


class InputError(ValueError):
    """Something that the user gave cannot be used.

    Its message stands alone: it names the file, line or field, what was found and what was
    expected, and what to do. The commands print it without a traceback and exit with code 2.
    """


class Unread(InputError):
    """A video cannot be read.

    Attributes:
      cause: one word to count by: DecodeError's, "crashed", "timeout", "not_finite" or "too_short".
    """

    def __init__(self, message: str, cause: str):
        super().__init__(message)
        self.cause = cause


class Damaged(InputError):
    """A checkpoint is not what was saved; the message names the step, and the arrays."""


class Fault(RuntimeError):
    """What ended a command, where nothing given was wrong and no line of ours is to blame.

    Its message stands alone, and says what to do. The commands print it without a traceback and
    exit with code 1.
    """


class NotFinite(Fault):
    """A state holds numbers that are not finite, and so is not saved; the message names where."""


class NotSaved(Fault):
    """A checkpoint did not get onto the disk; the message says what it wanted and what there is."""


def some(names: Iterable[str], most: int) -> str:
    """Returns the first names in a row, and how many more there are."""
    names = [*names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def listed(lines: Iterable[str], most: int = 20) -> str:
    """Returns the first lines, each indented, and how many more there are."""
    lines = [*lines]
    shown = lines[:most] + [f"and {len(lines) - most} more"] * (len(lines) > most)
    return "\n".join(f"  {line}" for line in shown)
