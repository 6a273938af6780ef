"""How commands end: the exit code, and the last line."""

import errno

import pytest

from vivit_jax import terminal
from vivit_jax.errors import Fault, InputError
from vivit_jax.meeting import MissingProcess


def ending(error):
    """Returns a command that ends in an error."""

    def main():
        raise error

    return main


@pytest.mark.parametrize(
    ("error", "code", "last", "traced"),
    [
        (InputError("data.frames = 0"), 2, "error: data.frames = 0", False),
        (Fault("memory ran out"), 1, "error: memory ran out", False),
        (MissingProcess("process 1 is away"), 1, "error: process 1 is away", False),
        (OSError(errno.ENOSPC, "No space left", "a/b"), 1, "No space left: 'a/b'", False),
        (KeyError("a bug"), 1, "error: KeyError: 'a bug'", True),
        (FileNotFoundError(errno.ENOENT, "No such file", "a"), 1, "FileNotFoundError", True),
    ],
)
def test_the_last_line_is_the_cause_and_only_bugs_are_traced(error, code, last, traced, capsys):
    assert terminal.run(ending(error)) == code
    said = capsys.readouterr().err
    assert last in said.splitlines()[-1]
    assert ("Traceback" in said) == traced


def test_notes_of_an_error_are_said_last(capsys):
    error = ValueError("a bug")
    error.add_note("step 5 is on disk")
    assert terminal.run(ending(error)) == 1
    assert capsys.readouterr().err.splitlines()[-1] == "error: ValueError: a bug. step 5 is on disk"
