"""How a command speaks to the terminal, and how it ends."""

import argparse
import errno
import logging
import signal
import sys
import traceback
from collections.abc import Callable

from absl import logging as absl_logging

from vivit_jax.errors import Fault, InputError, NotSaved
from vivit_jax.processes import end, leave
from vivit_jax.stopping import STOP, Stopped

_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO, errno.ESTALE}
_LONGEST = 300  # letters of what a library says, in the last line


def speak(first_process: bool) -> None:
    """Lets our modules log to the terminal; from libraries and other processes only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    own = logging.getLogger("vivit_jax")
    own.addHandler(handler)
    own.setLevel(logging.INFO if first_process else logging.WARNING)
    own.propagate = False
    absl_logging.set_verbosity(absl_logging.WARNING)


def command_parser(module: str, about: str | None) -> argparse.ArgumentParser:
    """Returns the parser of a command, without options.

    Args:
      module: such as "vivit_jax.predict".
      about: its docstring.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def add_workers(to: argparse._ActionsContainer) -> None:
    """Adds --workers to a command's options."""

    def number(text: str) -> int:
        if int(text) < 0:
            raise argparse.ArgumentTypeError(f"{text}: expected at least 0")
        return int(text)

    to.add_argument("--workers", type=number, default=0, help="decoding processes; one a core")


def run(main: Callable[[], int]) -> int:
    """Returns main's exit code; 2 and why where something given cannot be used; 1 for a fault.

    Whatever the code, the last line on stderr tells the cause, with the notes that the error was
    given. Ctrl-C and a closed pipe end the process without a traceback.
    """
    # A file's name need not be text.
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[attr-defined]
    try:
        return main()
    except Stopped as stopped:
        STOP.leave(stopped)  # what still compiles would not survive the end of the interpreter
    except InputError as error:
        tell(error)
        return leave(2)
    except (KeyboardInterrupt, BrokenPipeError) as stop:
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGPIPE
        signal.signal(number, signal.SIG_DFL)  # so a shell's loop ends too, and no library's
        signal.raise_signal(number)  # threads crash an interpreter that is ending
        return 128 + number
    except Exception as error:
        known = isinstance(error, Fault) or getattr(error, "errno", None) in _OF_THE_DISK
        if not known:
            traceback.print_exc()
        tell(error)
        code = leave(1)
        if isinstance(error, NotSaved):
            end(code)  # what threads of Orbax's still say of the disk would come after it
        return code


def in_words(error: Exception) -> str:
    """Returns what an error says: of a library's its kind, and the beginning."""
    if isinstance(error, Fault | InputError):
        return str(error)
    first = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first:.{_LONGEST}}"


def tell(error: Exception) -> None:
    """Prints what an error says, and the notes that it was given."""
    text = in_words(error)
    notes = getattr(error, "__notes__", [])
    stop = "." if notes and not text.endswith(".") else ""
    print(f"error: {text}{stop}", *notes, file=sys.stderr)
