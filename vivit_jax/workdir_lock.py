"""One run at a time writes into a workdir: the lock that it holds while it lives.

WORKDIR/lock.json names the process that holds it. A lock whose process is gone is taken over. On
the same system that is looked up, by the number and the start of the process. A lock from elsewhere
is watched: its holder changes a count in it every few seconds, so one that stays as it is for long
enough is left over; no two clocks are compared.
"""

import contextlib
import json
import logging
import os
import pathlib
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from vivit_jax import processes
from vivit_jax.clock import started
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)
FILE = "lock.json"
BEAT = 10.0  # seconds between changes of the count
STALE = 90.0  # seconds without one; a network disk may show what is a minute old
_LOOK = 1.0  # seconds between looks at a lock from elsewhere


class LostLock(RuntimeError):
    """Another run took the workdir while this one was held up; nothing more may be written."""


@contextlib.contextmanager
def locked(
    workdir: pathlib.Path, option: str = "--workdir", stale: float = STALE
) -> Iterator[Callable[[], None]]:
    """Holds a workdir, which is made where it is missing; yields Lock.check.

    All processes of a run do this together; the first holds it for them.

    Args:
      workdir: of the run, or another folder that one process at a time may write.
      option: by which it was given, for messages.
      stale: seconds for which a lock from elsewhere is watched.

    Raises:
      InputError: another run holds it, or it cannot be written into.
    """
    lock, refusal = None, ""
    if processes.together()[1] == 0:
        try:
            lock = Lock(workdir, option, stale)
        except InputError as error:
            refusal = str(error)
    if said := next(filter(None, processes.tell_all("the lock", refusal).values()), ""):
        raise InputError(said)
    try:
        yield lock.check if lock is not None else lambda: None
    finally:
        if lock is not None:
            lock.release()


class Lock:
    """A workdir that is held by this process."""

    def __init__(self, workdir: pathlib.Path, option: str = "--workdir", stale: float = STALE):
        """Takes the workdir; see `locked`."""
        self.file, self._option = workdir / FILE, option
        self._mine = {**_this_process(), "token": uuid.uuid4().hex, "beat": 0}
        check_writable(workdir, option)
        while not self._create():
            self._refuse_or_remove(stale)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="workdir lock", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Returns where the workdir is still held.

        Raises:
          LostLock: another run took it, as this process had been still for too long.
        """
        holder = _read(self.file)
        if holder.get("token") != self._mine["token"] and not (not holder and self._create()):
            raise LostLock(
                f"{self.file.parent} is no longer held by this run; {_named(holder)} took it. "
                "Nothing more is saved."
            )

    def release(self) -> None:
        """Lets the workdir go."""
        self._ended.set()
        self._thread.join()
        if _read(self.file).get("token") == self._mine["token"]:
            self.file.unlink(missing_ok=True)

    def _create(self) -> bool:
        """Returns whether the lock was made here, with all that it says, or was there."""
        whole = self._written()
        try:
            os.link(whole, self.file)  # unlike a rename, this fails where the file is there
            return True
        except FileExistsError:
            return False
        except OSError:  # a disk without links, as those of buckets are
            with contextlib.suppress(FileExistsError), self.file.open("x", encoding="ascii") as new:
                new.write(json.dumps(self._mine))
                return True
            return False
        finally:
            whole.unlink()

    def _written(self) -> pathlib.Path:
        """Returns a file beside the lock that says what it should."""
        whole = self.file.with_name(f".{FILE}.{self._mine['token']}")
        whole.write_text(json.dumps(self._mine), encoding="ascii")
        return whole

    def _beat(self) -> None:
        """Changes the count while the lock is held by this process."""
        while not self._ended.wait(BEAT):
            with contextlib.suppress(OSError):  # a full disk stops saves, and not this
                if _read(self.file).get("token") != self._mine["token"]:
                    return
                self._mine["beat"] += 1
                os.replace(self._written(), self.file)

    def _refuse_or_remove(self, stale: float) -> None:
        """Removes a lock that is left over.

        Raises:
          InputError: it is not.
        """
        holder = _read(self.file)
        here, there = (tuple(x.get(k) for k in _SYSTEM) for x in (self._mine, holder))
        if here == there and self._mine["started"]:
            why, alive = "it is gone", started(holder["pid"]) == holder["started"]
        else:
            log.info("%s is held by %s; watching whether it lives.", self.file, _named(holder))
            why, alive = f"it was still for {stale:.0f} s", self._changes(holder, stale)
        if alive:
            raise InputError(
                f"{self.file.parent} is held by another run: {_named(_read(self.file))}. "
                f"Wait for it, stop it, or take another {self._option}."
            )
        left = self.file.with_name(f".{FILE}.left.{self._mine['token']}")
        with contextlib.suppress(FileNotFoundError):
            self.file.rename(left)  # for one of those that may be trying this at once
            if _read(left).get("token") == holder.get("token"):
                log.warning("The lock of %s is taken over: %s.", _named(holder), why)
            else:  # which another has just made
                with contextlib.suppress(OSError):  # there is one, or the disk has no links
                    os.link(left, self.file)
            left.unlink()

    def _changes(self, before: dict[str, Any], seconds: float) -> bool:
        """Returns whether the lock changes within some seconds; False too where it goes away."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            time.sleep(min(_LOOK, seconds))
            now = _read(self.file)
            if now != before:
                return bool(now)
        return False


def check_writable(workdir: pathlib.Path, option: str = "--workdir") -> None:
    """Makes a workdir, and refuses one in which something cannot be written.

    Args:
      workdir: the folder.
      option: by which it was given, for messages.

    Raises:
      InputError: names the path.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        probe = workdir / f".writable.{uuid.uuid4().hex}"
        probe.write_bytes(b"")  # what may be written is for the disk to say, not for its modes
        probe.unlink()
        inside = [*workdir.glob("*.jsonl"), *(one for one in workdir.iterdir() if one.is_dir())]
        closed = [one for one in inside if not os.access(one, os.W_OK)]
    except OSError as error:
        raise InputError(f"{option}={workdir} cannot be written into: {error}.") from error
    if closed:
        raise InputError(
            f"{option}={workdir}: {min(closed)} cannot be written, as it belongs to another user "
            f"or is read-only. Take another {option}, or make it yours."
        )


_SYSTEM = ("host", "boot", "processes")  # where a process number means the same


def _this_process() -> dict[str, Any]:
    """Returns what tells this process from all others."""
    boot = ""
    with contextlib.suppress(OSError):
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    space = ""
    with contextlib.suppress(OSError):
        space = os.readlink("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": started(os.getpid()),
        "boot": boot,
        "processes": space,
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
    }


def _read(file: pathlib.Path) -> dict[str, Any]:
    """Returns what a lock says; {} where there is none, or it says nothing."""
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(file.read_text(encoding="ascii"))
        if isinstance(found, dict):
            return found
    return {}


def _named(holder: dict[str, Any]) -> str:
    """Returns the holder of a lock in words."""
    if not holder:
        return "an unknown process"
    host, pid, since = (holder.get(name, "?") for name in ("host", "pid", "since"))
    return f"process {pid} on {host}, since {since}"
