"""Memory in pages of 2 MB where a CPU trains.

XLA takes a step's memory anew each time, and the system gives it page by page, of 4 KB, as each is
first touched: a tenth of a step and more. The C library asks for huge pages where it is told to
before a program starts, so a command starts itself again, once, before it imports anything large.
"""

import glob
import os
import pathlib
import platform
import sys
from collections.abc import Mapping

_ENVIRONMENT = "GLIBC_TUNABLES"
_ASK = "glibc.malloc.hugetlb=1"
_FIRST = (2, 35)  # version of the C library that can be asked
_SYSTEM = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
_ACCELERATORS = ("/dev/nvidia[0-9]*", "/dev/accel[0-9]*", "/dev/vfio/[0-9]*", "/dev/kfd")


def ask() -> None:
    """Starts this command again where that makes its memory faster; else returns."""
    if sys.platform == "linux" and helps(os.environ):
        environment = {**os.environ, _ENVIRONMENT: _ASK}
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def helps(environment: Mapping[str, str]) -> bool:
    """Returns whether huge pages are to be had for the asking, and a CPU computes.

    Whoever has told the C library anything already is left alone.
    """
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < _FIRST:
        return False
    if (
        _ENVIRONMENT in environment
        or not _SYSTEM.exists()
        or "[madvise]" not in _SYSTEM.read_text()
    ):
        return False
    return environment.get("JAX_PLATFORMS") == "cpu" or not any(map(glob.glob, _ACCELERATORS))
