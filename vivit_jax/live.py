"""What `python -m vivit_jax.predict --live` does: says what is in a stream while it runs.

Each answer is of the newest window there is. Where the model is slower than the stream, windows are
missed, and counted; latency is from the arrival of a window's last frame to its answer.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vivit_jax import command_line
from vivit_jax.analysis.timelines import moment
from vivit_jax.data.live import Stream, Window, check

_WAIT = 0.2  # seconds between looks at the clock

Best = Callable[[np.ndarray], dict[str, list[dict[str, Any]]]]


def tell(given: argparse.Namespace, best: Callable[..., Any]) -> int:
    """Prints an answer for each window of a stream, and a summary; returns the exit code.

    Args:
      given: the options.
      best: from scores, label maps and a number to the highest scores by name.

    Raises:
      InputError: something that was given cannot be used.
    """
    from vivit_jax.observer import Observer

    allow = [name for name in given.allow.split(",") if name]
    check(given.live, allow)
    observer = Observer(given.checkpoint)
    observer.check_predicts()
    geometry, rate = observer.geometry(given.crops), observer.rate(given.window)
    size = geometry.size
    empty = np.zeros((1, given.crops, observer.frames, size, size, 3), np.uint8)
    observer.scores(empty)  # compiles, before the stream runs
    latencies: list[float] = []
    stream = Stream(given.live, allow, observer.frames, rate, geometry, given.hop, given.patience)
    begin = time.monotonic()
    with stream:
        try:
            while not stream.over and not 0 < given.seconds <= time.monotonic() - begin:
                window = stream.newest(_WAIT)
                if window:
                    scores = observer.scores(window.pixels[None])[0]
                    found = best(scores, observer.label_maps, given.top)
                    latencies.append(time.monotonic() - window.arrived)
                    made = answer(window, found, latencies[-1])
                    print(json.dumps(made) if given.json else in_words(made), flush=True)
        except KeyboardInterrupt:
            pass
        failure = stream.failure
        told = summary(stream, latencies, failure)
    print(json.dumps(told) if given.json else summary_in_words(told), flush=True)
    return int(failure is not None)


def answer(window: Window, found: dict[str, Any], latency: float) -> command_line.Answer:
    """Returns what is said of a window."""
    times = {"begin": round(window.begin, 3), "end": round(window.end, 3)}
    return {**times, **found, "latency_ms": round(1000 * latency, 1)}


def in_words(made: command_line.Answer) -> str:
    """Returns a line for people: when, what, and how late."""
    heads = [rows for key, rows in made.items() if key.startswith("top")]
    best = "  |  ".join(
        "  ".join(f"{row['score']:.2f} {row['label']}" for row in rows) for rows in heads
    )
    return f"{moment(made['end']):>9}  {made['latency_ms']:6.0f} ms  {best}"


def summary(stream: Stream, latencies: Sequence[float], failure: Any) -> dict[str, Any]:
    """Returns what became of a stream."""
    median, high = (
        (round(1000 * float(np.quantile(latencies, q)), 1) for q in (0.5, 0.95))
        if latencies
        else (None, None)
    )
    counts = stream.counts
    told: dict[str, Any] = {
        **counts._asdict(),
        "latency_ms_median": median,
        "latency_ms_p95": high,
    }
    if failure:
        told["error"] = failure._asdict()
    elif not counts.windows + counts.windows_dropped:
        told["note"] = f"it ended with {counts.frames} frames, before a window was whole"
    return {"summary": told}


def summary_in_words(told: dict[str, Any]) -> str:
    """Returns the summary for people."""
    of = told["summary"]
    lines = [
        f"windows: {of['windows']} seen, {of['windows_dropped']} dropped; "
        f"frames: {of['frames']}, {of['frames_dropped']} dropped"
    ]
    if of["latency_ms_median"] is not None:
        lines.append(
            f"latency: median {of['latency_ms_median']:.0f} ms, "
            f"95 % within {of['latency_ms_p95']:.0f} ms"
        )
    if "note" in of:
        lines.append(of["note"])
    if "error" in of:
        lines.append(f"error: {of['error']['cause']}: {of['error']['message']}")
    return "\n".join(lines)
