"""What a video is examined for, in a worker process: all of it is decoded once, and counted.

Every packet is read, hashed and decoded, and every frame's time stamp is kept; four times a second
a frame is scaled to a small grey picture, a probe, and what is said of the pictures (do they move,
are they black, whose copies are they) is said of the probes. So examining costs little more than
decoding. Nothing is judged here: facts are measured, and data/findings.py knows what is too much
of what, so that a judgement can change without decoding anything again.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import av.error
import numpy as np
from av.packet import Packet
from av.stream import Discard
from av.video.frame import VideoFrame

from vivit_jax.data.container import Complaint, Movie, complaints, open_movie
from vivit_jax.data.probes import Probes
from vivit_jax.data.scale import quarter_turns

VERSION = 1  # of Facts and of how they are measured; facts of another are measured anew


@dataclasses.dataclass(frozen=True)
class Facts:
    """What was measured of a video; of one that could not be read, only `cause` and `message`.

    Attributes:
      cause: DecodeError's, "crashed" or "timeout"; empty where it could be read.
      message: what was found then.
      format: FFmpeg's name of the container.
      codec: FFmpeg's name of it.
      width: of the upright picture, pixels of the file.
      height: likewise.
      turns: quarter turns, against the clock, that put the picture upright.
      pixel_width: width over height of a pixel on the screen.
      sizes: different sizes that frames had.
      promised_frames: by the header or index; 0 where it does not say.
      promised_seconds: by the header, of the pictures, or where `any_stream` of the longest stream.
      any_stream: whether `promised_seconds` may be those of sound or subtitles.
      header_rate: frames a second by the header.
      packets: of pictures in the file, each promising a frame.
      hidden: packets that an edit list hides.
      frames: that came out of the decoder.
      damaged: frames that the decoder flags, packets that it refuses, and complaints of the reader.
      first_damage: what was found of the first, and when.
      seconds: from the first frame to the end of the last, by their time stamps.
      all_seconds: likewise, of the longest stream.
      rate: frames a second by the time stamps; 0 where they do not tell.
      uneven: share of the steps between frames that are not the usual one.
      longest_step: seconds from a frame to the next.
      unstamped: frames without a time stamp.
      disordered: frames whose time stamp is not after the one before.
      probes: frames that were looked at.
      still: the longest that nothing moves, seconds.
      still_tail: how long nothing moves at the end, seconds.
      black: share of the probes that are black.
      flat: share of the probes that are of one colour.
      digest: of the compressed pictures, whatever the container.
      signature: of what is shown, for data/duplicates.py, in base64; empty where nothing is.
    """

    cause: str = ""
    message: str = ""
    format: str = ""
    codec: str = ""
    width: int = 0
    height: int = 0
    turns: int = 0
    pixel_width: float = 1.0
    sizes: int = 0
    promised_frames: int = 0
    promised_seconds: float = 0.0
    any_stream: bool = False
    header_rate: float = 0.0
    packets: int = 0
    hidden: int = 0
    frames: int = 0
    damaged: int = 0
    first_damage: str = ""
    seconds: float = 0.0
    all_seconds: float = 0.0
    rate: float = 0.0
    uneven: float = 0.0
    longest_step: float = 0.0
    unstamped: int = 0
    disordered: int = 0
    probes: int = 0
    still: float = 0.0
    still_tail: float = 0.0
    black: float = 0.0
    flat: float = 0.0
    digest: str = ""
    signature: str = ""


def examine(video: str | bytes) -> Facts:
    """Returns the facts of a video.

    Raises:
      DecodeError: it cannot be opened, or holds no pictures.
    """
    facts = _watch(video, probe=False)
    lost = facts.packets - facts.hidden - facts.frames
    if facts.damaged or lost > 0 or facts.unstamped or facts.disordered:
        # Perhaps FFmpeg only lacked what it finds out by decoding the first frames on opening.
        facts = _watch(video, probe=True)
    return facts


def _watch(video: str | bytes, probe: bool) -> Facts:
    """Returns the facts of a video by one pass over it."""
    with complaints() as said, open_movie(video, probe) as movie:
        tally = Tally(movie)
        for packet in demux(movie, tally, said):
            for frame in tally.decode(packet):
                tally.show(frame)
        for frame in tally.decode(None):
            tally.show(frame)
        return tally.facts()


def demux(movie: Movie, tally: "Tally", said: Sequence[Complaint]) -> Iterator[Packet]:
    """Yields the packets of pictures to the end, or to where the file cannot be read on.

    FFmpeg reads past damage to the structure of some files, and says so only in its log.

    Others are read where the header's length may be that of sound or subtitles, to see if it is.
    """
    others = []
    if not movie.end_is_own:
        others = [other for other in movie.container.streams if other.index != movie.stream.index]
    for stream in others:
        stream.discard = Discard.default
    packets = movie.container.demux(movie.stream, *others)
    seen = len(said)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            tally.damage(f"reading it ends with {error.strerror!r}", None)
            return
        for message in movie.said_by_reader(said[seen:]):
            tally.damage(message, packet and packet.pts)
        seen = len(said)
        if packet is None:
            return
        if packet.stream_index != movie.stream.index:
            tally.pass_by(packet)
        elif packet.size:
            yield packet


class Tally:
    """Counts what comes out of a movie."""

    def __init__(self, movie: Movie):
        self._movie, self._codec = movie, movie.codec
        self._begin, self._tick, self._fps = movie.begin, movie.tick, movie.fps
        self._digest = hashlib.blake2b(digest_size=16)
        self._stamps: list[int | None] = []
        self._sizes: set[tuple[int, int]] = set()
        self._probes = Probes()
        self._packets = self._hidden = self._damaged = 0
        self._first_key: int | None = None
        self._first_damage = ""
        self._end = self._all_end = movie.begin
        self._turns = 0

    def decode(self, packet: Packet | None) -> list[VideoFrame]:
        """Returns the frames that come out when a packet, or the end, goes in."""
        if packet is not None:
            self._packets += 1
            self._hidden += packet.is_discard
            self._digest.update(packet)
            if packet.pts is not None and not packet.is_discard:
                if self._first_key is None and packet.is_keyframe:
                    self._first_key = packet.pts
                length = (packet.duration or 0) * self._tick or 1 / self._fps
                self._end = max(self._end, packet.pts * self._tick + length)
        try:
            return self._codec.decode(packet)
        except av.error.EOFError:
            return []
        except MemoryError:  # FFmpeg's is one of its errors, too
            raise
        except av.error.FFmpegError as error:
            stamp = packet.pts if packet is not None else None
            self.damage(f"the decoder refuses a picture ({error.strerror})", stamp)
            return []

    def show(self, frame: VideoFrame) -> None:
        """Counts a frame."""
        stamp = frame.pts
        self._stamps.append(stamp)
        # Frames shown before the first keyframe may lack those that they refer to.
        if frame.is_corrupt and not (stamp and self._first_key and stamp < self._first_key):
            self.damage("the picture is damaged", stamp)
        self._sizes.add((frame.width, frame.height))
        if stamp is None:
            when = (len(self._stamps) - 1) / self._fps
        else:
            when = stamp * self._tick - self._begin
        if when >= self._probes.due:
            self._turns = quarter_turns(frame)
            self._probes.look(frame, when, self._turns)

    def pass_by(self, packet: Packet) -> None:
        """Counts a packet of another stream."""
        if packet.pts is not None and packet.time_base:
            unit = float(packet.time_base)
            self._all_end = max(self._all_end, (packet.pts + (packet.duration or 0)) * unit)

    def damage(self, what: str, stamp: int | None) -> None:
        """Counts damage, and keeps what was found first."""
        self._damaged += 1
        if not self._first_damage:
            when = "" if stamp is None else f" at {stamp * self._tick - self._begin:.2f} s"
            self._first_damage = what + when

    def facts(self) -> Facts:
        """Returns all that was counted."""
        movie, stream, codec = self._movie, self._movie.stream, self._codec
        end = max(self._end, self._begin)
        seconds = end - self._begin
        if len(self._stamps) > 1 and not self._known_times():
            seconds = len(self._stamps) / self._fps
        # The size before cropping and turning is the header's; frames tell what is shown.
        width, height = next(iter(self._sizes), (codec.width, codec.height))
        if self._turns % 2:
            width, height = height, width
        promised = (movie.end or 0.0) - self._begin
        return Facts(
            format=movie.container.format.name,
            codec=codec.codec.canonical_name,
            width=width,
            height=height,
            turns=self._turns,
            pixel_width=movie.pixel_width,
            sizes=len(self._sizes),
            promised_frames=stream.frames,
            promised_seconds=max(promised, 0.0),
            any_stream=not movie.end_is_own,
            header_rate=float(stream.average_rate or 0),
            packets=self._packets,
            hidden=self._hidden,
            frames=len(self._stamps),
            damaged=self._damaged,
            first_damage=self._first_damage,
            seconds=seconds,
            all_seconds=max(end, self._all_end) - self._begin,
            **self._pace(),
            **self._probes.facts(seconds),
            digest=self._digest.hexdigest() if self._packets else "",
        )

    def _known_times(self) -> list[int]:
        """Returns the time stamps of the frames that have one."""
        return [stamp for stamp in self._stamps if stamp is not None]

    def _pace(self) -> dict[str, Any]:
        """Returns what the time stamps say of the rate."""
        stamps = self._known_times()
        steps = np.diff(np.array(sorted(stamps), np.int64))
        facts: dict[str, Any] = {
            "unstamped": len(self._stamps) - len(stamps),
            "disordered": sum(a >= b for a, b in itertools.pairwise(stamps)),
        }
        if not steps.any():
            return facts
        usual = float(np.median(steps))
        # A clock that counts coarsely, such as milliseconds, makes even steps uneven by one.
        uneven = np.abs(steps - usual) > np.maximum(0.4 * usual, 1.5)
        return facts | {
            "rate": len(steps) / float(steps.sum() * self._tick),
            "uneven": float(uneven.mean()),
            "longest_step": float(steps.max() * self._tick),
        }
