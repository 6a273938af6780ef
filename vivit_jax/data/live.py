"""The newest window of a stream, whenever somebody asks: who is slower than it misses some.

A process decodes (live_source.py), a thread takes what it sends, and of the windows that are due
the last is kept. So memory does not grow, and what is answered is always the newest there is; what
was missed is counted.
"""

import collections
import json
import os
import signal
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, Pipe
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import UInt8

from vivit_jax.data import limits, live_source
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.live_source import (
    HEAD,
    OPENING,
    PROTOCOLS,
    Head,
    Kind,
    Settings,
    nothing_came,
    scheme,
    without_password,
)
from vivit_jax.data.pool import DecodeFailure
from vivit_jax.data.windows import Rate
from vivit_jax.errors import InputError

PATIENCE = 10.0  # seconds without data after which a stream is given up
_START = 60.0  # seconds in which its process begins
_LATER = 2.0  # seconds more that the process has to tell itself that nothing comes
_AUTHORITIES = (  # files of certificates, where distributions have them
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/cert.pem",
)


class Window(NamedTuple):
    """A window of a stream.

    Attributes:
      begin: seconds from the stream's first frame.
      end: likewise.
      pixels: of it.
      arrived: time.monotonic() when its last frame came.
    """

    begin: float
    end: float
    pixels: UInt8[np.ndarray, "crops T H W 3"]
    arrived: float


class Counts(NamedTuple):
    """What has become of a stream so far.

    Attributes:
      windows: that were asked for.
      windows_dropped: that were due and were not asked for in time.
      frames: that lie at the moments of windows; where the hop is longer than a window, those
        between two also.
      frames_dropped: of these, that only windows had which nobody asked for in time, and frames
        that were not decoded: for want of time, or damaged.
    """

    windows: int = 0
    windows_dropped: int = 0
    frames: int = 0
    frames_dropped: int = 0


def check(source: str, allow: Sequence[str]) -> None:
    """Refuses what may not be opened.

    Args:
      source: device, URL or path.
      allow: protocols that the user allows.

    Raises:
      InputError: names the protocol, and what to do.
    """
    for name in allow:
        if name not in PROTOCOLS:
            raise InputError(f"--allow={name}: expected of {', '.join(PROTOCOLS)}.")
    protocol, shown = scheme(source), without_password(source)
    if not protocol:
        return
    if protocol not in PROTOCOLS:
        raise InputError(
            f"--live={shown}: the protocol {protocol!r} is not read; those that can be allowed: "
            f"{', '.join(PROTOCOLS)}."
        )
    missing = [name for name in (protocol, *PROTOCOLS[protocol]) if name not in allow]
    if missing:
        needed = ",".join((protocol, *PROTOCOLS[protocol]))
        raise InputError(
            f"--live={shown}: the protocol {missing[0]!r} is not allowed; nothing but files and "
            f"devices is, unless you say --allow={needed}."
        )


def authorities() -> str:
    """Returns the file of who may sign a server's certificate; "" where none is found."""
    known = (ssl.get_default_verify_paths().cafile, *_AUTHORITIES)
    return next((file for file in known if file and os.path.exists(file)), "")


class Stream:
    """Windows of a stream, as a context manager."""

    def __init__(
        self,
        source: str,
        allow: Sequence[str],
        frames: int,
        rate: Rate,
        geometry: Geometry,
        hop: float = 0.0,
        patience: float = PATIENCE,
    ):
        """Prepares; entering opens the stream.

        Args:
          source: device, URL or path.
          allow: protocols that may be used.
          frames: T of a window.
          rate: of its frames.
          geometry: which part of the picture, as to test.
          hop: seconds from one window to the next; 0 for a window's length.
          patience: seconds without data after which it is given up.

        Raises:
          InputError: the source may not be opened.
        """
        check(source, allow)
        size, resize, crops = geometry.size, geometry.resize, geometry.test_crops
        told = (source, [*allow], frames, [*rate], size, resize, crops, patience)
        self._told, self._hop = Settings(*told, limits.MEMORY, authorities()), hop
        self._shape = (crops, size, size, 3)
        self._changed = threading.Condition()
        self._newest: tuple[int, Window] | None = None  # and the number of its first frame
        self._ended = False
        self._counts = Counts()
        self._unused = 0
        self._covered = 0  # frames up to this number were asked for, or are counted as dropped
        self.failure: DecodeFailure | None = None  # why it broke off

    def __enter__(self) -> "Stream":
        """Opens the stream."""
        self._pipe, far_end = Pipe()
        with far_end:
            self._pipe.send_bytes(json.dumps(self._told._asdict()).encode())
            self._process = subprocess.Popen(
                [sys.executable, "-m", live_source.__name__, str(far_end.fileno())],
                pass_fds=(far_end.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=limits.environment(os.environ, str(limits.PACKAGE_ROOT)),
            )
        self._thread = threading.Thread(target=self._take, args=(self._pipe,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        """Ends it."""
        self._process.kill()
        self._process.wait()
        self._thread.join()
        self._pipe.close()

    @property
    def counts(self) -> Counts:
        """What has become of the stream so far."""
        with self._changed:
            dropped = self._counts.frames_dropped + self._unused
            return self._counts._replace(frames_dropped=dropped)

    def newest(self, seconds: float) -> Window | None:
        """Returns the newest window that nobody has asked for; None where none comes in time.

        Args:
          seconds: to wait for one.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._ended, seconds)
            if self._newest is None:
                return None
            (first, window), self._newest = self._newest, None
            self._covered = max(self._covered, first + self._told.frames)
            self._counts = self._counts._replace(windows=self._counts.windows + 1)
            return window

    @property
    def over(self) -> bool:
        """Whether nothing more will come, and all that came was asked for."""
        with self._changed:
            return self._ended and self._newest is None

    def _take(self, pipe: Connection) -> None:
        """Takes all that the process sends."""
        failure = None
        try:
            failure = self._messages(pipe)
        except (EOFError, OSError):
            failure = DecodeFailure("crashed", f"the decoder ended with {self._how()}")
        except Exception as error:  # else nobody would know that nothing more will come
            failure = DecodeFailure("crashed", f"{type(error).__name__}: {error}")
        with self._changed:
            self._ended, self.failure = True, failure
            self._changed.notify_all()

    def _messages(self, pipe: Connection) -> DecodeFailure | None:
        """Returns why the stream broke off, once it is over."""
        frames, step, rate = self._told.frames, self._told.frames, 1.0
        held: collections.deque[tuple[Head, np.ndarray]] = collections.deque(maxlen=frames)
        number = since = 0  # of frames; and since the stream began, or began anew
        for kind, rest in _heard(pipe, self._told):
            if kind == Kind.END:
                return None
            if kind == Kind.ERROR:
                cause, _, text = bytes(rest).decode("utf-8", "replace").partition("\0")
                return DecodeFailure(cause, text)
            if kind == Kind.RATE:
                (rate,) = struct.unpack("<d", rest)
                step = max(1, round(self._hop * rate)) if self._hop else frames
                continue
            head = Head(*HEAD.unpack(rest[: HEAD.size]))
            pixels = np.frombuffer(rest[HEAD.size :], np.uint8).reshape(self._shape)
            if head.anew:
                held.clear()
                since = 0
            held.append((head, pixels))
            number, since = number + 1, since + 1
            due = since >= frames and (since - frames) % step == 0
            self._frame(head, number, _window(held, rate) if due else None)

    def _frame(self, head: Head, number: int, window: Window | None) -> None:
        """Counts a frame, and keeps the window that is due with it."""
        with self._changed:
            self._unused = head.unused
            counts = self._counts._replace(frames=number)
            if window:
                first = number - self._told.frames
                if self._newest:  # nobody has asked for it
                    old = self._newest[0]
                    end = min(first, old + self._told.frames)
                    lost = max(0, end - max(old, self._covered))
                    self._covered = max(self._covered, end)
                    dropped, unseen = counts.windows_dropped + 1, counts.frames_dropped + lost
                    counts = counts._replace(windows_dropped=dropped, frames_dropped=unseen)
                self._newest = first, window
                self._changed.notify_all()
            self._counts = counts

    def _how(self) -> str:
        """Returns how the process ended."""
        code = self._process.wait()
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _heard(pipe: Connection, told: Settings) -> Iterator[tuple[int, memoryview]]:
    """Yields the kind and the rest of each message; an error where none comes for too long.

    FFmpeg ends its own waiting, but not where the system keeps it: as with a pipe that nobody
    writes into, which waits to be opened.
    """
    steps = 2 if scheme(told.source) else 1  # to connect, and to look at what comes
    needed = steps * (told.patience + OPENING)
    patience, last = _START, time.monotonic()
    while pipe.poll(patience):
        message, last = pipe.recv_bytes(), time.monotonic()
        if message[0] == Kind.RATE:  # it is open
            needed = told.patience
        patience = needed + _LATER
        if message[0] != Kind.ALIVE:
            yield message[0], memoryview(message)[1:]
    waited = nothing_came(round(time.monotonic() - last, 1))
    yield Kind.ERROR, memoryview(f"broken_off\0the stream breaks off: {waited}".encode())


def _window(held: Sequence[tuple[Head, np.ndarray]], rate: float) -> Window:
    """Returns frames as a window."""
    first, last = held[0][0], held[-1][0]
    pixels = np.stack([pixels for _, pixels in held], axis=1)
    return Window(first.seconds, last.seconds + 1 / rate, pixels, last.arrived)
