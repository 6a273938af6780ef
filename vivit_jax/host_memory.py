"""What memory of this host the process may still take: by the machine, its container and ulimit."""

import contextlib
import pathlib
import resource
from collections.abc import Iterator
from typing import NamedTuple

PROC = pathlib.Path("/proc")
CONTROL_GROUPS = pathlib.Path("/sys/fs/cgroup")


class Room(NamedTuple):
    """Bytes under one limit.

    Attributes:
      whose: the limit, in words that follow a number of bytes.
      total: the limit.
      left: what may still be taken.
    """

    whose: str
    total: int
    left: int


def rooms() -> list[Room]:
    """Returns the limits that there are and can be read; Linux tells all of them."""
    return [*_of_host(), *_of_control_group(), *_of_process()]


def _of_host() -> Iterator[Room]:
    with contextlib.suppress(OSError):
        size = _kilobytes(PROC / "meminfo")
        yield Room("of this host", size["MemTotal"], size["MemAvailable"] + size["SwapFree"])


def _of_control_group() -> Iterator[Room]:
    """Yields the limits of a container: of its control group and of those above it."""
    with contextlib.suppress(OSError):
        lines = (PROC / "self/cgroup").read_text(encoding="utf-8").splitlines()
        path = next((line[len("0::/") :] for line in lines if line.startswith("0::/")), None)
        if path is None:  # of version 1 alone
            return
        group = CONTROL_GROUPS / path
        for folder in (group, *group.parents):
            if (file := folder / "memory.max").is_file():
                limit = file.read_text(encoding="ascii").strip()
                if limit != "max":
                    used = int((folder / "memory.current").read_text(encoding="ascii"))
                    stat = (folder / "memory.stat").read_text(encoding="ascii").split()
                    files = (stat.index(f"{kind}active_file") for kind in ("", "in"))
                    spare = sum(int(stat[at + 1]) for at in files)  # is given back on demand
                    left = int(limit) - used + spare
                    yield Room("that this container is allowed", int(limit), left)


def _of_process() -> Iterator[Room]:
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        with contextlib.suppress(OSError):
            left = soft - _kilobytes(PROC / "self/status")["VmSize"]
            yield Room("that this process is allowed (ulimit -v)", soft, left)


def _kilobytes(file: pathlib.Path) -> dict[str, int]:
    """Returns the lines of a file of /proc that give kB, in bytes."""
    lines = (line.split() for line in file.read_text(encoding="utf-8").splitlines())
    return {line[0].rstrip(":"): 1024 * int(line[1]) for line in lines if line[-1] == "kB"}
