"""Traces of chosen steps, by JAX's profiler: what devices and host did, operation by operation.

They open in TensorBoard with the profile plugin, in xprof, and in Perfetto (trace.json.gz).
"""

import logging
import pathlib
from typing import Any

import jax

from vivit_jax.clock import Clock
from vivit_jax.errors import InputError

log = logging.getLogger(__name__)
FOLDER = "profile"


def traced_steps(profile: tuple[int, int], last_step: int) -> range:
    """Returns the steps that config.train.profile names.

    Args:
      profile: the first and the last; (0, 0) for none.
      last_step: at which the run ends; one that only evaluates, at 0, has none to trace.

    Raises:
      InputError: there are no such steps.
    """
    if profile == (0, 0) or not last_step:
        return range(0)
    first, last = profile
    if not 1 <= first <= last <= last_step:
        raise InputError(
            f"config.train.profile = {profile}; expected the first and the last step of a trace, "
            f"from 1 to {last_step}, where the run ends, or (0, 0) for none."
        )
    return range(first, last + 1)


class Profiler:
    """Traces some steps; a context manager, which leaves a trace even where it is interrupted."""

    def __init__(self, folder: pathlib.Path, steps: range, clock: Clock):
        """Waits for the first of the steps; in other processes than the first, for none.

        Args:
          folder: for the trace.
          steps: to be traced.
          clock: which tells starting and writing a trace from training.
        """
        self._folder, self._clock, self._on = folder, clock, False
        self._steps = steps if jax.process_index() == 0 else range(0)

    def before(self, step: int, busy_with: Any) -> jax.profiler.StepTraceAnnotation:
        """Returns what a step runs in; starts the trace where it is due.

        Args:
          step: its number, from 1.
          busy_with: arrays of the steps before, which are no part of the trace.
        """
        if step in self._steps and not self._on:
            jax.block_until_ready(busy_with)
            with self._clock.phase("profile"):
                jax.profiler.start_trace(self._folder)
            self._on = True
        return jax.profiler.StepTraceAnnotation("train", step_num=step)

    def after(self, step: int, busy_with: Any) -> None:
        """Writes the trace where this was its last step; waits for the arrays of the step."""
        if self._on and step + 1 not in self._steps:
            jax.block_until_ready(busy_with)
            self._write()

    def _write(self) -> None:
        """Ends the trace."""
        self._on = False
        with self._clock.phase("profile"):
            jax.profiler.stop_trace()
        log.info("The trace lies in %s; tensorboard, xprof and Perfetto show it.", self._folder)

    def __enter__(self) -> "Profiler":
        """Returns itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Writes the trace that is on."""
        if self._on:
            self._write()
