"""From what was measured of a video to what is wrong with it, each by name, and how bad that is.

The thresholds are here. A video is bad where it must not be trained on or judged by: it gives no
pictures, other pictures than it says, or none worth looking at. All else is a warning: the data
path reads it rightly, and a person may want to know.
"""

from typing import NamedTuple

from vivit_jax.data.clips import Sampling
from vivit_jax.data.examine import Facts
from vivit_jax.options import choose


class Cause(NamedTuple):
    """A kind of finding: whether it makes a video bad where nobody says otherwise, and meaning."""

    bad: bool
    meaning: str


class Finding(NamedTuple):
    """Something about a video: a row of CAUSES, and what was found."""

    cause: str
    found: str


CAUSES = {  # the most telling first
    "missing": Cause(True, "no such file"),
    "empty": Cause(True, "no bytes, or no picture in the file"),
    "unreadable": Cause(True, "no video in a format that is read"),
    "no_video": Cause(True, "only sound or cover art"),
    "codec": Cause(True, "a codec that is not let in"),
    "too_large": Cause(True, "more than 8192 x 8192 pixels a frame"),
    "crashed": Cause(True, "the decoding process died of it"),
    "memory": Cause(True, "decoding took more memory than a process may have"),
    "timeout": Cause(True, "decoding took longer than --timeout"),
    "truncated": Cause(True, "less is there than the header or index promises"),
    "corrupt": Cause(True, "the decoder reports damage, or gives fewer pictures than there are"),
    "constant": Cause(True, "all pictures are of one colour"),
    "black": Cause(True, "nearly all pictures are black"),
    "frozen": Cause(True, "nearly nothing moves from the beginning to the end"),
    "leak": Cause(True, "shows the same as a held-out video; the one trained on is bad"),
    "duplicate": Cause(True, "the compressed pictures of an earlier video of its split"),
    "near_duplicate": Cause(False, "looks the same as an earlier video of its split"),
    "frozen_part": Cause(False, "a long tail, or more than half, in which nothing moves"),
    "short": Cause(False, "shorter than the clip, which data.short_videos fills"),
    "time_stamps": Cause(False, "frames without a time stamp, or out of order"),
    "odd_rate": Cause(False, "variable, or unlike the header's, or below 8 or above 120 a second"),
    "rotated": Cause(False, "to be turned on display; read upright here, not by many readers"),
    "non_square_pixels": Cause(False, "to be stretched on display"),
    "odd_size": Cause(False, "changes, or is odd, tiny or very wide or high"),
}
_RATES = (8, 120)  # frames a second, beyond which one is odd
_GAP = (0.5, 8)  # seconds, and usual steps, from one frame to the next from which it is a gap
_SMALLEST = 32  # pixels of the short side
_WIDEST = 3.0  # long side over short side
_FROZEN = 0.9  # share of a video
_TAIL = (1.0, 0.2)  # seconds and share from which a still tail is long
_PROBES = 3  # from which the pictures of a video can be said not to move
_INVISIBLE = ("vp8", "vp9", "av1")  # have packets that show nothing by design


def choose_bad(names: str) -> frozenset[str]:
    """Returns the causes that make a video bad.

    Args:
      names: rows of CAUSES with commas between, "default", "all" or "none" among them.

    Raises:
      InputError: there is no such cause.
    """
    sets = {
        "default": {name for name, cause in CAUSES.items() if cause.bad},
        "all": set(CAUSES),
        "none": set(),
    }
    chosen: set[str] = set()
    for name in filter(None, (name.strip() for name in names.split(","))):
        choose("--bad", name, (*sets, *CAUSES))
        chosen |= sets.get(name, {name})
    return frozenset(chosen)


def judge(facts: Facts, clip: Sampling, span: tuple[float, float] | None = None) -> list[Finding]:
    """Returns what is to be said of a video alone.

    Args:
      facts: measured.
      clip: that shall be cut from it.
      span: the part of it that the example is.
    """
    if facts.cause:
        return [Finding(facts.cause, facts.message)]
    if not facts.frames:
        if facts.promised_frames and not facts.packets:
            return [Finding("truncated", f"no frame of {facts.promised_frames} is in the file")]
        if not facts.packets:
            return [Finding("empty", "no picture in the file")]
        return [
            Finding("corrupt", f"no picture comes out of {facts.packets}: {facts.first_damage}")
        ]
    found = {
        "truncated": _truncated(facts, span),
        "corrupt": _corrupt(facts),
        **_pictures(facts),
        "short": _short(facts, clip, span),
        "time_stamps": _time_stamps(facts),
        "odd_rate": _odd_rate(facts),
        "rotated": f"by {90 * facts.turns} degrees" if facts.turns else "",
        "non_square_pixels": (
            f"{facts.pixel_width:.3f} times as wide as high"
            if abs(facts.pixel_width - 1) > 0.01
            else ""
        ),
        "odd_size": _odd_size(facts),
    }
    return [Finding(cause, found[cause]) for cause in CAUSES if found.get(cause)]


def _truncated(facts: Facts, span: tuple[float, float] | None) -> str:
    """Returns how much less is there than promised."""
    if span and span[0] >= facts.seconds:
        return f"{span[0]:.2f} s are wanted of a video of {facts.seconds:.2f} s"
    missing = facts.promised_frames - facts.packets
    if missing > max(2, 0.02 * facts.promised_frames):
        return f"{facts.packets} of {facts.promised_frames} frames are in the file"
    there, slack = facts.seconds, 3 / max(facts.rate, 1)
    if facts.any_stream:
        there, slack = facts.all_seconds, 0.5
    missing = facts.promised_seconds - there
    if not facts.promised_frames and missing > max(slack, 0.03 * facts.promised_seconds):
        return f"ends at {there:.2f} s of {facts.promised_seconds:.2f} s"
    return ""


def _corrupt(facts: Facts) -> str:
    """Returns what the decoder could not do."""
    if facts.damaged:
        return f"{facts.first_damage}; {facts.damaged} such in {facts.packets} pictures"
    lost = facts.packets - facts.hidden - facts.frames
    allowed = 0.5 if facts.codec in _INVISIBLE else 0.05
    if lost > max(2, allowed * facts.packets):
        return f"{facts.packets} pictures in the file, {facts.frames} come out of the decoder"
    return ""


def _pictures(facts: Facts) -> dict[str, str]:
    """Returns what is wrong with what is shown: one of constant, black, frozen and frozen_part."""
    if facts.black >= _FROZEN:
        return {"black": f"{facts.black:.0%} of the pictures"}
    if facts.flat >= _FROZEN:
        return {"constant": f"{facts.flat:.0%} of the pictures are of one colour"}
    if facts.probes < _PROBES:
        return {}
    of = f"of {facts.seconds:.1f} s"
    if facts.still >= _FROZEN * facts.seconds:
        return {"frozen": f"nothing moves for {facts.still:.1f} {of}"}
    if facts.still_tail >= max(_TAIL[0], _TAIL[1] * facts.seconds):
        return {"frozen_part": f"nothing moves in the last {facts.still_tail:.1f} {of}"}
    if facts.still >= max(_TAIL[0], 0.5 * facts.seconds):
        return {"frozen_part": f"nothing moves for {facts.still:.1f} {of}"}
    return {}


def _short(facts: Facts, clip: Sampling, span: tuple[float, float] | None) -> str:
    """Returns how long the clip is and how long the video, if that is shorter."""
    rate = facts.rate or facts.header_rate or 25.0
    step = 1 / clip.fps if clip.fps else clip.stride / rate
    there = facts.seconds if span is None else min(span[1], facts.seconds) - span[0]
    wanted = (clip.frames - 1) * step + 1 / rate
    if there + 0.5 / rate >= wanted:
        return ""
    return f"{there:.2f} s, and a clip takes {wanted:.2f} s"


def _time_stamps(facts: Facts) -> str:
    """Returns which time stamps are of no use."""
    if facts.unstamped:
        return f"{facts.unstamped} of {facts.frames} frames have none"
    if facts.disordered:
        return f"{facts.disordered} of {facts.frames} frames are not after the one before"
    return ""


def _odd_rate(facts: Facts) -> str:
    """Returns what is odd about the frames a second."""
    rate, header = facts.rate, facts.header_rate
    if not rate:
        return ""
    if facts.uneven > 0.05:
        return (
            f"variable: {rate:.2f} a second on average, {facts.uneven:.0%} of the steps are "
            f"uneven, the longest {facts.longest_step:.2f} s"
        )
    if facts.longest_step > max(_GAP[0], _GAP[1] / rate):
        return f"no picture for {facts.longest_step:.2f} s, where {rate:.2f} a second are usual"
    if not _RATES[0] <= rate <= _RATES[1]:
        return f"{rate:.2f} a second"
    if header and facts.frames > 10 and abs(header - rate) > 0.05 * rate:
        return f"{rate:.2f} a second, and the header says {header:.2f}"
    return ""


def _odd_size(facts: Facts) -> str:
    """Returns what is odd about the size of the pictures."""
    size = f"{facts.width}x{facts.height}"
    short, long = sorted((facts.width, facts.height))
    if facts.sizes > 1:
        return f"{facts.sizes} different sizes, the first {size}"
    if short < _SMALLEST or long * max(facts.pixel_width, 1) > _WIDEST * short:
        return size
    if facts.width % 2 or facts.height % 2:
        return f"{size}: an odd number"
    return ""
