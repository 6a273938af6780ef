"""The forty faults: what is done to a run from outside, and what must happen."""

from typing import NamedTuple


class Fault(NamedTuple):
    """A fault.

    Attributes:
      name: what is done.
      expected: what must happen.
    """

    name: str
    expected: str


FAULTS = {
    1: Fault("a bit of a checkpoint flips", "named by its digest; an older step is used"),
    2: Fault("the newest checkpoint is unreadable", "set aside, named; the one before it is used"),
    3: Fault("kill -9 at a random time", "the next start goes on; the curve is equal"),
    4: Fault("stopped at a random step", "every video once an epoch, in the same order"),
    5: Fault("SIGTERM in any phase", "saved at the current step, a documented code in 15 s"),
    6: Fault("one batch is NaN", "that update alone is left out, and its video named"),
    7: Fault("parameters or all data are NaN", "no NaN saved; back twice at most, then not 0"),
    8: Fault("a held-out video is unreadable", "nothing takes its place; 19 of 20 are told"),
    9: Fault("whatever ends a run", "an exit code above 0, one line why, the last good step"),
    10: Fault("the disk is full at a save", "noticed at that save; what was saved stays"),
    11: Fault("bits flip in a video", "refused where the decoder or the count of frames tells"),
    12: Fault("a video is cut short", "refused; no silent short read"),
    13: Fault("all videos are bad", "ends within 60 s, not 0, with the causes counted"),
    14: Fault("1, 5, 30 % of the videos are bad", "goes on below the limit, ends above it"),
    15: Fault("a gradient is 10,000 times too large", "left out or clipped; the loss recovers"),
    16: Fault("a host is stuck alive", "the watchdog names host, phase and file, and ends it"),
    17: Fault("a decoder hangs", "that video times out; the worker is replaced"),
    18: Fault("a decoder crashes", "that video is lost; the worker is replaced"),
    19: Fault("a host dies", "the others end in bounded time; a restart goes on"),
    20: Fault("the mesh changes", "the state bit for bit; the same order of videos"),
    21: Fault("the number of processes changes", "the same order of videos"),
    22: Fault("the model changes", "refused; what differs is listed"),
    23: Fault("list, seed, order or labels change", "refused unless told"),
    24: Fault("an older step is gone back to", "later steps set aside; saving goes on"),
    25: Fault("the same seed again, more workers", "bit for bit the same"),
    26: Fault("labels and lists are wrong", "refused at the start with the line"),
    27: Fault("names that are hard to read", "read, or refused by name"),
    28: Fault("odd videos", "right frames or a refusal by name; no crash, no hang"),
    29: Fault("rotated videos", "upright; a wild angle is ignored"),
    30: Fault("variable rates, missing time stamps", "frames by time, within half a frame"),
    31: Fault("a decompression bomb", "refused before it is decoded"),
    32: Fault("5,000 decodes", "memory stays flat"),
    33: Fault("a file vanishes or stalls", "counted and left out, up to the limit"),
    34: Fault("the workdir cannot be written", "ends before compiling, with the path"),
    35: Fault("two runs in one workdir", "the second is refused; a stale lock is taken over"),
    36: Fault("memory runs out", "bytes wanted, largest arrays, what to lower; resume works"),
    37: Fault("a log cannot be written", "training goes on with one warning"),
    38: Fault("hostile files", "refused; nothing written outside, no code run"),
    39: Fault("five kills", "phases add up to wall time within 1 %"),
    40: Fault("a secret in the environment", "in no log, workdir or checkpoint"),
}
