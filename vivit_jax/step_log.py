"""The line of a run every few steps: losses, how fast it goes, and which updates were left out."""

import logging
import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from vivit_jax.clock import Clock, goodput
from vivit_jax.data.pool import Reading, cores
from vivit_jax.data.verdict import verdict
from vivit_jax.errors import some
from vivit_jax.hardware import chip_of
from vivit_jax.metrics import METRICS, SKIPPED, Writer, duration
from vivit_jax.run import Run, learnt_paths
from vivit_jax.sanity import NO_VIDEO, NOT_FINITE, SPIKE, LeftOut
from vivit_jax.train_step import StepInfo

log = logging.getLogger(__name__)
_VERDICT_EVERY = 20  # lines, at most
_NAMED = 8  # examples of a batch, in the terminal; the file has them all


class StepLog:
    """Writes a line every few steps, and lets no more than two steps be under way."""

    def __init__(
        self,
        run: Run,
        writer: Writer,
        start: int,
        skipped: int,
        clock: Clock,
        reading: Callable[[], Reading],
        left_out: LeftOut,
    ):
        """Begins at a step.

        Args:
          run: that is logged.
          writer: of its metrics.
          start: the step.
          skipped: updates that were, before it.
          clock: of the session.
          reading: tells what was read so far.
          left_out: the updates that are, one after another.
        """
        self._run, self._writer, self._clock, self._left_out = run, writer, clock, left_out
        self._skipped = skipped
        self._reading, self._read = reading, reading()
        self._lines_since_verdict = _VERDICT_EVERY
        self._infos: list[StepInfo] = []
        self._full = full_speed(run)
        self._last, self._then = start, clock.session()

    def add(self, step: int, info: StepInfo) -> None:
        """Takes what is known of a step.

        Args:
          step: its number, from 1.
          info: arrays that may still be computed.
        """
        self._infos.append(info)
        jax.block_until_ready(self._infos[-2:-1])
        if step % self._run.experiment.train.log_every == 0 or step == self._run.steps:
            self._write(step)
            self._clock.write()

    def look(self, step: int) -> None:
        """Waits for the steps until this one, and names the examples of those left out.

        Raises:
          GoBack: too many were, one after another.
        """
        infos, self._infos = jax.device_get(self._infos), []
        for number, info in enumerate(infos, step - len(infos) + 1):
            why = why_left_out(info)
            if why:
                self._skipped += 1
                self._name(number, info, why)
            self._left_out.see(number, why)

    def _write(self, step: int) -> None:
        """Writes the line of a step."""
        last = self._infos[-1]
        self.look(step)
        last = jax.device_get(last)
        before = self._skipped - bool(last.skipped)  # updates make the learning rate
        now = self._clock.session()
        stepping, waiting = (now[phase] - self._then[phase] for phase in ("step", "data_wait"))
        rate = (step - self._last) / (stepping + waiting)
        record = {
            "step": step,
            **{name: float(value) for name, value in last.metrics.items()},
            "learning_rate": float(self._run.schedule(step - 1 - before)),
            **self._speed(rate),
            "data_wait": round(waiting / (stepping + waiting), 4),
            "goodput": round(goodput(self._clock.total()), 4),
            "skipped": self._skipped,
        }
        steps = self._run.traced
        traced = len(range(max(self._last + 1, steps.start), min(step + 1, steps.stop)))
        if traced:  # which slows a step
            record["traced"] = traced
        self._writer.write(METRICS, record)
        log.info(
            "step %d/%d  loss %.4f  lr %.3g  %.4g clips/s%s%s  waiting for data %.0f %%  ETA %s",
            *(step, self._run.steps, record["loss"], record["learning_rate"]),
            record["clips_per_second"],
            f"  MFU {100 * record['mfu']:.3g} %" if "mfu" in record else "",
            f"  ({traced} steps traced)" if traced else "",
            100 * record["data_wait"],
            duration((self._run.steps - step) / rate),
        )
        self._tell(waiting / (stepping + waiting), rate)
        self._last, self._then = step, self._clock.session()

    def _tell(self, waiting: float, rate: float) -> None:
        """Tells what to do about a share of the time spent waiting, at so many steps a second."""
        now, data = self._reading(), self._run.experiment.data
        videos = rate * data.batch_size / jax.process_count()
        said = verdict(now.since(self._read), waiting, videos, data.repeats, cores())
        self._read, self._lines_since_verdict = now, self._lines_since_verdict + 1
        if said and self._lines_since_verdict > _VERDICT_EVERY:
            self._lines_since_verdict = 0
            log.warning("%s", said)

    def _speed(self, rate: float) -> dict[str, float]:
        """Returns what a line tells of so many steps a second."""
        data = self._run.experiment.data
        clips = rate * data.batch_size * data.repeats
        a_device = clips / self._run.mesh.devices.size
        speed = {
            "clips_per_second": round(clips, 3),
            "clips_per_second_per_device": round(a_device, 3),
        }
        if self._full is not None:
            speed["mfu"] = round(a_device / self._full, 4)
        return speed

    def _name(self, step: int, info: StepInfo, why: str) -> None:
        """Tells which examples spoilt a step, or by loss all that may have."""
        guilty = info.index[~info.finite]
        what = {NO_VIDEO: why, SPIKE: "the gradient of its batch is a spike"}.get(why)
        if not what:
            what = "their loss is not finite" if len(guilty) else "the gradient of its batch is not"
        if why != NO_VIDEO and not len(guilty):
            losses = np.asarray(info.losses)
            ranked = np.argsort(-losses, kind="stable")
            guilty = info.index[ranked][losses[ranked] != 0]
        ids = [self._run.sources.train.example(int(i)).id for i in dict.fromkeys(guilty.tolist())]
        log.warning("Step %d changed nothing: %s. %s", step, what, some(ids, _NAMED))
        self._writer.write(SKIPPED, {"step": step, "why": why, "examples": ids})


def why_left_out(info: StepInfo) -> str:
    """Returns why a step's update was left out; empty where it was not."""
    if not info.skipped:
        return ""
    if info.spike:
        return SPIKE
    numbers = (float(info.metrics[name]) for name in ("loss", "grad_norm"))
    return NO_VIDEO if all(map(math.isfinite, numbers)) else NOT_FINITE


def full_speed(run: Run) -> float | None:
    """Returns the clips a second of one device at its peak; None where that is not known.

    A step's floating-point operations are two for each multiply-accumulate of the model, whatever
    is computed a second time to save memory.
    """
    chip, data = chip_of(run.mesh.devices.flat[0]), run.experiment.data
    if chip is None:
        return None
    objective: Any = run.objective
    costs = objective.costs(data.frames, data.image_size, learnt_paths(run.state, run.frozen))
    return chip.flops(objective.encoder.dtype) / (2 * costs.step)
