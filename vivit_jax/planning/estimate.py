"""A plan of a run: its step compiled for devices that are not here, and what follows from that.

The compiler is given what training gives it (compiling.compile_step), so its figures of memory are
those that training would log. Time is arithmetic: products at an assumed share of the chip's peak,
and bytes sent at the full rate of links and network. Compilers overlap the two as well as they can,
so a step takes between the longer of them and their sum. Nothing is assumed of the input: a run
that waits for videos takes longer.
"""

import dataclasses
import logging
import math
import pathlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax

from vivit_jax import checks, config, layout, sharding
from vivit_jax import run as runs
from vivit_jax.compiling import compile_step
from vivit_jax.data.examples import Sources
from vivit_jax.memory import Held, held
from vivit_jax.models.costs import Costs
from vivit_jax.planning import collectives, memory
from vivit_jax.planning.devices import Fleet
from vivit_jax.run import Run

log = logging.getLogger(__name__)
SPARE = 0.05  # share of the memory that is not a step's, where the compiler does not know the chip


class Traffic(NamedTuple):
    """Collectives of one kind along the same axes.

    Attributes:
      kind: a row of collectives.KINDS.
      axes: of the mesh; empty where devices only change places.
      times: how many a step runs.
      links: bytes that a device sends in a step to devices of its own node or slice.
      network: to others.
    """

    kind: str
    axes: tuple[str, ...]
    times: int
    links: float
    network: float


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a run needs and takes.

    Attributes:
      kind: of the devices.
      devices: how many.
      compiler: which one this is from.
      mesh: axes and sizes.
      parameters: learnt values.
      frozen: values that are not.
      costs: multiply-accumulates of one clip.
      again: of those, what is computed twice (model.remat).
      clips: of one step.
      held: bytes of a device by shapes.
      used: bytes of a device by the compiler.
      room: bytes of memory that a device has.
      fits: whether that is enough.
      groups: of parameters.
      traffic: what is sent; empty where the step could not be compiled.
      largest: the most that single operations send, as (bytes a step, kind, axes, where).
      mfu: share of the peak that products are assumed to run at.
      compute: seconds of a step's products.
      links: seconds of what is sent over links.
      network: seconds of what is sent over the network.
      steps: of the whole run.
    """

    kind: str
    devices: int
    compiler: str
    mesh: Mapping[str, int]
    parameters: int
    frozen: int
    costs: Costs
    again: int
    clips: int
    held: Held
    used: memory.Used
    room: float
    fits: bool
    groups: list[memory.Group]
    traffic: list[Traffic]
    largest: list[tuple[float, str, tuple[str, ...], str]]
    mfu: float
    compute: float
    links: float
    network: float
    steps: int

    @property
    def fastest(self) -> float:
        """Seconds of a step where all that is sent hides behind products."""
        return max(self.compute, self.links, self.network)

    @property
    def slowest(self) -> float:
        """Seconds of a step where nothing does."""
        return self.compute + self.links + self.network


def prepare(experiment: config.Experiment, sources: Sources, fleet: Fleet) -> Run:
    """Returns the run on these devices.

    XLA for CPUs undoes what model.remat asks for, but not within a loop: where it stands in for
    another compiler, the step of a plan is compiled as with model.scan, of models that have it.

    Raises:
      InputError: as training would, before it compiles.
    """
    quiet = dataclasses.replace(experiment.train, evaluate=False)
    model = experiment.model
    recomputes = model.get("remat", "none") != "none"
    if recomputes and not fleet.own_compiler and "scan" in model:
        model = {**model, "scan": True}
    experiment = dataclasses.replace(experiment, train=quiet, model=model)
    mesh = sharding.make_mesh(experiment.mesh, fleet.devices)
    checks.check_experiment(experiment, mesh)
    with layout.as_if_for(fleet.target):
        return runs.assemble(experiment, pathlib.Path(), sources, mesh)


def plan(run: Run, fleet: Fleet, mfu: float) -> Plan:
    """Returns the plan of a run, whose step it compiles."""
    chip, data = fleet.chip, run.experiment.data
    batch = runs.batch_shapes(run)
    size = held(run, batch)
    used, text = _compile(run, fleet, batch, size)
    found = collectives.collectives(text, len(fleet.devices)) if text else []
    sums = collectives.totals(found, run.mesh.shape, chip.together)
    traffic = [Traffic(kind, axes, *row) for (kind, axes), row in sums.items()]

    learnt = runs.learnt_paths(run.state, run.frozen)
    objective: Any = run.objective
    costs: Costs = objective.costs(data.frames, data.image_size, learnt)
    clips = data.batch_size * data.repeats
    again = costs.again(run.experiment.model.get("remat", "none"))
    dtype = run.experiment.model.get("dtype", "float32")
    products = 2 * (costs.step + again) * clips / len(fleet.devices)
    left = chip.memory * (1 - SPARE)
    values = {path: leaf.size for path, leaf in runs.by_path(run.state.params).items()}
    return Plan(
        kind=fleet.kind,
        devices=len(fleet.devices),
        compiler=fleet.compiler,
        mesh=dict(run.mesh.shape),
        parameters=sum(values[path] for path in learnt),
        frozen=sum(values[path] for path in run.frozen),
        costs=costs,
        again=again,
        clips=clips,
        held=size,
        used=used,
        room=chip.memory,
        fits=bool(text) and (fleet.own_compiler or used.total <= left),
        groups=memory.groups(run),
        traffic=traffic,
        largest=_largest(found, run.mesh.shape, chip.together),
        mfu=mfu,
        compute=products / (mfu * chip.flops(dtype)),
        links=sum(row.links for row in traffic) / chip.link,
        network=sum(row.network for row in traffic) / chip.network,
        steps=run.steps,
    )


def _compile(run: Run, fleet: Fleet, batch: Any, size: Held) -> tuple[memory.Used, str]:
    """Returns what a compiled step uses, and its text; no text where it is refused for memory."""
    begun = time.perf_counter()
    try:
        with layout.as_if_for(fleet.target):
            compiled = compile_step(run, run.state, batch)
    except jax.errors.JaxRuntimeError as error:
        refused = memory.refused(str(error), size.arguments)
        if refused is None:
            raise
        seconds = time.perf_counter() - begun
        log.info("After %.0f s the compiler says that the step does not fit.", seconds)
        return refused, ""
    return memory.used(compiled), compiled.as_text() or ""


def _largest(found, mesh, together) -> list[tuple[float, str, tuple[str, ...], str]]:
    """Returns the operations that send the most."""
    rows = [(math.fsum(one.sent(together)), one.kind, one.axes(mesh), one.source) for one in found]
    return sorted(rows, reverse=True)[:5]
