"""The time of a stream: which frame is a moment's, and whether decoding keeps up."""

from collections.abc import Iterator
from typing import Any

from vivit_jax.data.clips import NEARER

LATE = 1.0  # seconds that decoding may be behind the stream
_WAITED = 0.005  # seconds: who waits so long for a packet has caught up
_JUMP, _FRAMES = 1.0, 3  # seconds, and frames, without one after which a stream begins anew


class Picker:
    """Chooses the frame nearest to each moment, of frames that come one after another."""

    def __init__(self, a_second: float, fps: float):
        """Starts before the first.

        Args:
          a_second: moments a second.
          fps: mean frame rate of the stream.
        """
        self._step = 1 / a_second
        self._jump = max(_JUMP, _FRAMES / fps)
        self._last: tuple[float, Any] | None = None
        self._first = self._begun = 0.0
        self._moments = 0

    def __call__(self, seconds: float, frame: Any) -> Iterator[tuple[float, Any, bool]]:
        """Yields (moment, frame, whether the stream begins anew) of what is now known.

        Args:
          seconds: when the frame is shown.
          frame: it.
        """
        before = self._last
        if before and not 0 <= seconds - before[0] <= self._jump:
            before = None  # the stream begins anew
        if before is None:
            self._first = seconds if self._last is None else self._first
            self._begun, self._moments = seconds, 0
        # A frame as near as that is not bettered by the next.
        near = min(self._step, seconds - before[0]) / 10 if before else 0.0
        while (moment := self._begun + self._moments * self._step) <= seconds + near:
            chosen = frame
            if before and moment - NEARER - before[0] <= seconds - moment + NEARER:
                chosen = before[1]
            yield moment - self._first, chosen, not (before or self._moments)
            self._moments += 1
        self._last = seconds, frame


class Pace:
    """Tells whether decoding has fallen behind a stream, and holds a file back to its own rate."""

    def __init__(self, played: bool):
        self._played = played
        self._base: float | None = None  # of the clock, less the stream's time
        self._first: float | None = None

    def late(self, seconds: float, waited: float, now: float) -> bool:
        """Returns whether decoding is LATE behind.

        Args:
          seconds: time stamp of a packet that was read.
          waited: seconds that reading it has taken.
          now: the time.
        """
        ahead = self._base is None or now - seconds < self._base
        if ahead or (waited > _WAITED and not self._played):
            self._base = now - seconds
        assert self._base is not None
        return now - seconds - self._base > LATE

    def hold(self, seconds: float, now: float) -> float:
        """Returns how long a frame of a file is to wait, so that it comes when it is shown."""
        if not self._played:
            return 0.0
        self._first = now - seconds if self._first is None else self._first
        return max(0.0, self._first + seconds - now)
