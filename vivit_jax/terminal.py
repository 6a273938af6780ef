"""How a command speaks to the terminal, and how it ends."""

import logging
import signal
import sys
import traceback
from collections.abc import Callable

from absl import logging as absl_logging

from vivit_jax.errors import InputError
from vivit_jax.processes import leave


def speak(first_process: bool) -> None:
    """Lets our modules log to the terminal; from libraries and other processes only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    own = logging.getLogger("vivit_jax")
    own.addHandler(handler)
    own.setLevel(logging.INFO if first_process else logging.WARNING)
    own.propagate = False
    absl_logging.set_verbosity(absl_logging.WARNING)


def run(main: Callable[[], int]) -> int:
    """Returns main's exit code; 2 and why where something given cannot be used; 1 for a fault.

    Ctrl-C and a closed pipe end the process without a traceback.
    """
    # A file's name need not be text.
    sys.stdout.reconfigure(errors="surrogateescape")  # type: ignore[attr-defined]
    try:
        return main()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return leave(2)
    except (KeyboardInterrupt, BrokenPipeError) as stop:
        number = signal.SIGINT if isinstance(stop, KeyboardInterrupt) else signal.SIGPIPE
        signal.signal(number, signal.SIG_DFL)  # so a shell's loop ends too, and no library's
        signal.raise_signal(number)  # threads crash an interpreter that is ending
        return 128 + number
    except Exception:
        traceback.print_exc()
        return leave(1)
