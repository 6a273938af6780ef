"""Bytes of one device by shapes, and what a run that lacks memory tells of them."""

import contextlib
import errno
import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax

from vivit_jax import host_memory
from vivit_jax.errors import Fault, InputError
from vivit_jax.run import Run, batch_shapes
from vivit_jax.trees import by_path, split

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_ASKED = (  # how libraries say what they wanted
    re.compile(r"allocat\w+ (\d+)() bytes"),
    re.compile(r"[Aa]llocate ([\d.]+) ?([KMGT])i?B"),
    re.compile(r"\(?([\d.]+)([KMGT])\)?(?: of |\) exceeds available HBM)"),
)
_SHOWN = 5  # arrays


class Held(NamedTuple):
    """Bytes that a device holds between steps, and gradients, which it holds within one.

    Attributes:
      parameters: learnt and frozen.
      optimiser: what it remembers of gradients.
      average: of weights.
      batch: the device's share.
      gradients: of what is learnt; a compiler may never have all of them at once.
    """

    parameters: int
    optimiser: int
    average: int
    batch: int
    gradients: int

    @property
    def arguments(self) -> int:
        """What a step is given."""
        return self.parameters + self.optimiser + self.average + self.batch


def of_tree(tree: Any) -> int:
    """Returns the bytes of one device's part of arrays, or of their shapes."""
    return sum(map(_of_device, jax.tree.leaves(tree)))


def held(run: Run, batch: Any) -> Held:
    """Returns what a device holds, by shapes and places alone."""
    state = run.state
    learnt, _ = split(state.params, run.frozen)
    sizes = (
        of_tree(part) for part in (state.params, state.opt_state, state.average, batch, learnt)
    )
    return Held(*sizes)


def in_units(size: float) -> str:
    """Returns bytes as "1.50 GB"."""
    for unit, width in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= width:
            return f"{size / width:,.2f} {unit}"
    return f"{size:.0f} B"


@contextlib.contextmanager
def explained(run: Run) -> Iterator[None]:
    """Tells what there is and what helps, where what is within ends for want of memory.

    Raises:
      Fault: it did.
      InputError: it did, and state and gradients alone are more than there is.
    """
    try:
        yield
    except Exception as error:
        if not for_memory(error):
            raise
        there, device = room(run)
        size = held(run, batch_shapes(run))
        least = size.arguments + size.gradients
        kind = InputError if device and least > device else Fault
        raise kind(_told(run, error, size, there)) from error


def for_memory(error: BaseException) -> bool:
    """Returns whether an error is for want of memory, of the host or of a device."""
    if isinstance(error, Fault | InputError):  # whose cause is known, as that of a full disk
        return False
    words = ("RESOURCE_EXHAUSTED", "bad_alloc")
    return (
        isinstance(error, MemoryError)
        or (isinstance(error, OSError) and error.errno == errno.ENOMEM)
        or any(word in str(error) for word in words)
    )


def wanted(message: str) -> float | None:
    """Returns the bytes that an error says were wanted; None where it does not say."""
    for pattern in _ASKED:
        if found := pattern.search(message):
            return float(found[1]) * _UNITS[found[2]]
    return None


def room(run: Run) -> tuple[str, float]:
    """Returns what memory there is, in words, and the bytes of a device; 0 where not known."""
    device = run.mesh.local_devices[0]
    stats, found = device.memory_stats() or {}, host_memory.rooms()
    limit = float(stats.get("bytes_limit", 0))
    parts = []
    if limit:
        used = in_units(stats.get("bytes_in_use", 0))
        parts.append(f"{in_units(limit)} of a {device.device_kind}, {used} in use")
    elif device.platform == "cpu" and found:
        limit = min(one.total for one in found) / len(run.mesh.local_devices)
    parts += [f"{in_units(one.total)} {one.whose}, {in_units(one.left)} left" for one in found]
    return "; ".join(parts), limit


def enough(run: Run, step: jax.stages.Compiled) -> None:
    """Refuses a step on CPUs that would take more than there is.

    There it would end the process by a signal, or the kernel would, without a word of why.

    Raises:
      MemoryError: it would.
    """
    stats = step.memory_analysis()
    if run.mesh.local_devices[0].platform != "cpu" or stats is None:
        return
    size = stats.temp_size_in_bytes * len(run.mesh.local_devices)
    for one in host_memory.rooms():
        if size > one.left:
            raise MemoryError(
                f"a step would allocate {size} bytes; {in_units(one.left)} are left of the "
                f"{in_units(one.total)} {one.whose}"
            )


def _told(run: Run, error: BaseException, size: Held, there: str) -> str:
    """Returns the message of a run that lacks memory."""
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    asked = wanted(str(error))
    kinds = ", ".join(f"{name} {in_units(n)}" for name, n in size._asdict().items() if n)
    state = by_path({"params": run.state.params, "batch": batch_shapes(run)})
    state |= {f"optimiser/{path}": leaf for path, leaf in by_path(run.state.opt_state).items()}
    largest = sorted(state.items(), key=lambda item: -_of_device(item[1]))[:_SHOWN]
    arrays = "\n".join(
        f"    {in_units(_of_device(leaf)):>10}  {path} {'x'.join(map(str, leaf.shape))}"
        for path, leaf in largest
    )
    data, remat = run.experiment.data, run.experiment.model.get("remat", "none")
    lower = [f"config.data.batch_size (now {data.batch_size})"]
    lower += [f"config.data.repeats (now {data.repeats})"] if data.repeats > 1 else []
    lower += ["config.data.workers"] if isinstance(error, MemoryError | OSError) else []
    less = [f"--config.optim.accumulate={2 * run.experiment.optim.accumulate}"]
    less += ["--config.model.remat=full"] if remat != "full" else []
    return (
        f"Memory ran out: {first:.300}\n"
        f"  wanted: {in_units(asked) if asked else 'not told'}\n"
        f"  there is: {there}\n"
        f"  a device holds: {kinds}; and the activations of a step\n"
        f"  the largest arrays, a device's part:\n{arrays}\n"
        f"Lower {' or '.join(lower)}, or give {' and '.join(less)}; python -m vivit_jax.plan tells "
        "what would fit, and what that costs."
    )


def _of_device(leaf: Any) -> int:
    return math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
