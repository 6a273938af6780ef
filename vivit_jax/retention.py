"""Which checkpoints are kept: the newest and the best.

Orbax asks when a save begins, and deletes the others when it is on disk. Results are those in the
manifests, so that the best is still known when a run goes on.
"""

import contextlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from vivit_jax import manifest
from vivit_jax.errors import Damaged


class NewestAndBest:
    """A preservation policy of Orbax."""

    def __init__(self, folder: pathlib.Path, keep: int, best: str):
        """Reads the results of the steps that there are.

        Args:
          folder: of the steps.
          keep: newest ones kept.
          best: the result by which one more is kept, the larger the better; "" for none.
        """
        self._keep, self._best = keep, best
        self._results: dict[int, Mapping[str, float]] = {}
        for step in manifest.steps_in(folder):
            with contextlib.suppress(Damaged):
                if told := manifest.read(folder / str(step)):
                    self.add(step, told["results"])

    def add(self, step: int, results: Mapping[str, float]) -> None:
        """Takes the results of a step that is being saved; they may be none."""
        self._results[step] = results

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        """Returns whether each of the checkpoints, which rise by step, is kept."""
        steps = [checkpoint.step for checkpoint in checkpoints]
        scores = {step: self._results.get(step, {}).get(self._best) for step in steps}
        known = {step: score for step, score in scores.items() if score is not None}
        best = max(known, key=lambda step: (known[step], step), default=None)
        return [step in steps[-self._keep :] or step == best for step in steps]
