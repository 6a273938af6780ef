"""What to do about a training that waits for its videos, from what was measured while it did."""

import math

from vivit_jax.data.pool import Reading

WORTH = 0.1  # share of the time spent waiting from which something is said


def verdict(
    reading: Reading, waiting: float, videos_per_second: float, repeats: int, cores: int
) -> str:
    """Returns what limits a training, what to change, and what that would give; empty for nothing.

    Args:
      reading: what the workers did meanwhile.
      waiting: share of the time in which devices waited for data.
      videos_per_second: that were trained on.
      repeats: data.repeats.
      cores: that this process may use.
    """
    if waiting < WORTH or not reading.videos:
        return ""
    full = videos_per_second / max(0.01, 1 - waiting)
    from_files = not math.isnan(reading.seconds)

    def at(rate: float) -> str:
        return f"{rate * repeats:.4g} clips/s"

    advice = []
    if reading.workers < cores:
        workers = min(cores, math.ceil(reading.workers * full / videos_per_second))
        gives = min(full, videos_per_second * workers / reading.workers)
        advice.append(f"data.workers={workers} of {cores} cores, for about {at(gives)}")
    more = min(full, 2 * videos_per_second)
    advice.append(f"data.repeats={2 * repeats}, two clips from each decoding, for about {at(more)}")
    if from_files:
        advice.append(
            "records with frames as JPEG: python -m vivit_jax.data.build makes them, and tells how "
            "fast they are read here"
        )
    takes = ""
    if from_files:
        each = 1e3 * reading.seconds / reading.videos
        takes = f" a video takes {each:.3g} ms in each of {reading.workers} workers,"
    return (
        f"Waiting for data {100 * waiting:.0f} % of the time:{takes} {at(videos_per_second)}; the "
        f"step alone would take {at(full)}. What would help: {'; '.join(advice)}."
    )
