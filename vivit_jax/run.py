"""What a run is made of, put together and checked before anything is compiled."""

import dataclasses
import functools
import logging
import pathlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from clu import parameter_overview

from vivit_jax import (
    agreement,
    checks,
    config,
    fitting,
    freeze,
    optim,
    processes,
    recipe,
    sharding,
    transfer,
)
from vivit_jax.data.catalog import find_dataset, settle
from vivit_jax.data.examples import Sources, fingerprint
from vivit_jax.errors import InputError
from vivit_jax.evals import EVALUATORS, USUAL
from vivit_jax.evals.base import Evaluator
from vivit_jax.options import choose
from vivit_jax.profiler import traced_steps
from vivit_jax.train_step import TrainState, init_state
from vivit_jax.trees import by_path, split

log = logging.getLogger(__name__)
_SHOWN = 50  # classes of a label map that are logged


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that a run is made of; nothing is compiled yet.

    Attributes:
      experiment: as it will run: data.root is known, and flips are off where they must be.
      workdir: absolute.
      sources: the videos.
      mesh: the devices.
      objective: what is learnt, around its encoder.
      optimizer: how.
      frozen: paths of the parameters that are not learnt.
      schedule: the learning rate by updates.
      steps: at which it ends.
      traced: those that the profiler sees.
      state: shapes of the TrainState, with where each array lies.
      init: makes the first TrainState, from config.init_from where that is given.
      evaluators: empty for no evaluation.
      best: the result by which the best checkpoint is kept; empty where none has any.
    """

    experiment: config.Experiment
    workdir: pathlib.Path
    sources: Sources
    mesh: jax.sharding.Mesh
    objective: nn.Module
    optimizer: Any
    frozen: frozenset[str]
    schedule: optim.Schedule
    steps: int
    traced: range
    state: TrainState
    init: Callable[[], TrainState]
    evaluators: tuple[Evaluator, ...]
    best: str


def prepare(experiment: config.Experiment, workdir: pathlib.Path) -> Run:
    """Returns a run after everything that can be refused before compiling was looked at."""
    mesh = sharding.make_mesh(experiment.mesh)
    checks.check_experiment(experiment, mesh)
    experiment, sources = open_videos(experiment, workdir)
    return assemble(experiment, workdir, sources, mesh)


def assemble(
    experiment: config.Experiment,
    workdir: pathlib.Path,
    sources: Sources,
    mesh: jax.sharding.Mesh,
) -> Run:
    """Returns a run of these videos on these devices, of which nothing is touched yet."""
    data = experiment.data
    objective: Any = build_objective(experiment, sources)
    options = optim.scaled(experiment.optim, data.batch_size)
    videos = max(1, len(sources.train))  # there may be none where it only evaluates
    steps = optim.total_steps(experiment.train, videos, data.batch_size)
    traced = traced_steps(experiment.train.profile, steps)
    schedule = optim.make_schedule(options, steps, videos / data.batch_size)
    log.info(
        "%d steps, %.4g epochs; a batch of %d videos, %d clips; learning rate %.4g.",
        *(steps, steps * data.batch_size / videos),
        *(data.batch_size, data.batch_size * data.repeats, options.learning_rate),
    )
    fresh = functools.partial(recipe.fresh_params, objective, data, sources.label_maps)
    params = jax.eval_shape(fresh, jax.random.key(0))
    optimizer = optim.make_optimizer(options, schedule, params, steps)
    frozen = freeze.frozen_of(options.freeze, by_path(params))

    def first(given: Mapping[str, jax.Array]) -> TrainState:
        params = transfer.merge(fresh(jax.random.key(experiment.seed)), given)
        window = options.spike_window if options.spike else 0
        return init_state(params, optimizer, options.average > 0, frozen, window)

    state = jax.eval_shape(first, {})
    rules = sharding.given_rules(experiment.mesh, by_path(params).keys())
    places = sharding.shardings(state, mesh, rules)
    state = jax.tree.map(_placed, state, places)

    def init() -> TrainState:
        given = {}
        if experiment.init_from:
            given = transfer.load(
                experiment.init_from,
                state.params,
                objective.encoder.grid(data.frames, data.image_size, data.image_size),
                experiment.model,
                experiment.init_time_from_space,
            )
        warn_of_chance(frozen - given.keys())
        return jax.jit(first, out_shardings=places)(given)

    tell_sizes(state, frozen)
    tell_mesh(mesh, state.params)
    costs = objective.costs(data.frames, data.image_size, learnt_paths(state, frozen))
    log.info(
        "A clip takes %.4g G multiply-accumulates forward, and %.4g G in a step of training.",
        *(costs.forward / 1e9, costs.step / 1e9),
    )
    evaluators, best = (), ""
    if experiment.train.evaluate:
        evaluators = make_evaluators(objective, experiment, sources, mesh)
        best = find_best(evaluators, experiment.eval.best)
    return Run(
        experiment=experiment,
        workdir=workdir,
        sources=sources,
        mesh=mesh,
        objective=objective,
        optimizer=optimizer,
        frozen=frozen,
        schedule=schedule,
        steps=steps,
        traced=traced,
        state=state,
        init=init,
        evaluators=evaluators,
        best=best,
    )


def check_processes(run: Run) -> None:
    """Refuses processes that would not give parts of one batch.

    Raises:
      InputError: a video's clips would fall to two processes, or the processes have another
        workdir, other videos or other devices than the first.
    """
    data, videos = run.experiment.data, run.sources
    sharding.rows_of(run.mesh, data.batch_size, data.repeats)
    if jax.process_count() == 1:
        return
    agreement.check_shared(run.workdir)
    agreement.agree(
        "the devices and the videos",
        {
            "devices": jax.local_device_count(),
            "device": jax.local_devices()[0].device_kind,
            "data.root": {
                "training": fingerprint(videos.train),
                "held out": fingerprint(videos.eval),
            },
            "classes": videos.label_maps,
        },
    )


def build_objective(experiment: config.Experiment, sources: Sources) -> nn.Module:
    """Returns the objective, which can learn from clips of this size and by this optimiser.

    Raises:
      InputError: it cannot, or it is none.
    """
    data, objective = experiment.data, recipe.build_objective(experiment, sources.label_maps)
    if hasattr(objective, "check_clip"):
        objective.check_clip(data.frames, data.image_size, data.image_size)
    if getattr(objective, "target", "") == "average" and not experiment.optim.average:
        raise InputError(
            f"config.optim.average = 0, and config.objective.name = "
            f"{experiment.objective['name']!r} learns from an average of weights: give its decay, "
            "such as 0.998."
        )
    if experiment.train.steps and not getattr(objective, "learns", True):
        raise InputError(
            f"config.objective.name = {experiment.objective['name']!r} learns nothing, and "
            f"config.train.steps = {experiment.train.steps}: use 0, which only evaluates, or give "
            "another objective, such as 'classify'."
        )
    return objective


def batch_shapes(run: Run) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes of a training batch, with where its arrays lie."""
    data, place = run.experiment.data, sharding.batch_sharding(run.mesh)
    kind = "float32" if data.labels == "multi" else "int32"
    each = {
        "video": ((data.frames, data.image_size, data.image_size, 3), "uint8"),
        "label": (recipe.label_shape(data, run.sources.label_maps), kind),
        "valid": ((), "bool"),
        "position": ((), "uint32"),
        "index": ((), "int32"),
    }
    clips = data.batch_size * data.repeats
    return {
        name: jax.ShapeDtypeStruct((clips, *shape), np.dtype(dtype), sharding=place)
        for name, (shape, dtype) in each.items()
    }


def learnt_paths(state: TrainState, frozen: frozenset[str]) -> set[str]:
    """Returns the paths of the parameters that are not frozen."""
    return set(by_path(state.params)) - frozen


def tell_sizes(state: TrainState, frozen: frozenset[str]) -> None:
    """Tells which parameters there are, how many of them are learnt, and what that takes."""
    overview = parameter_overview.get_parameter_overview(state.params, include_stats=False)
    log.info("Parameters:\n%s", overview)
    learnt, fixed = (
        sum(leaf.size for leaf in jax.tree.leaves(part)) for part in split(state.params, frozen)
    )
    held = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state.opt_state))
    log.info(
        "%s values are learnt, %s are frozen; the optimiser's state takes %.4g MB.",
        *(f"{learnt:,}", f"{fixed:,}", held / 1e6),
    )


def warn_of_chance(paths: Collection[str]) -> None:
    """Tells which frozen parameters nothing was read for, so that they stay random for good."""
    if paths:
        why = "is in nothing that config.init_from names"
        lines = fitting.grouped(("frozen", path, why) for path in sorted(paths))
        log.warning("What is frozen stays as random as it starts:\n%s", "\n".join(lines))


def tell_mesh(mesh: jax.sharding.Mesh, params: Any) -> None:
    """Tells how the devices are laid out, and which large parameters each of them holds whole."""
    if mesh.size == 1:
        return
    shape = ", ".join(f"{axis} {n}" for axis, n in mesh.shape.items() if n > 1)
    log.info("%d devices: %s.", mesh.size, shape)
    if whole := sharding.left_whole(params):
        lines = "\n".join(f"  {path}: {size:,} values" for path, size in whole.items())
        log.warning(
            "Large, and yet whole on every device; a row in config.mesh.rules would split "
            "them:\n%s",
            lines,
        )


def open_videos(
    experiment: config.Experiment, workdir: pathlib.Path
) -> tuple[config.Experiment, Sources]:
    """Returns the experiment with what its data set decides, and the videos."""
    dataset = find_dataset(experiment.data.dataset)
    data, augment = settle(experiment.data), experiment.augment
    if dataset.prepare and not data.root:
        root = processes.first_alone("videos", functools.partial(dataset.prepare, workdir))
        data = dataclasses.replace(data, root=str(root))
    sources = dataset.open(data)
    directional = dataset.directional or sources.directional
    if directional and augment.flip and not augment.flip_directional:
        log.info("augment.flip is off: in %s a label can mean a direction.", data.dataset)
        augment = dataclasses.replace(augment, flip=0.0)
    if not len(sources.train) and experiment.train.steps:
        raise InputError(
            f"None of the training videos of data.dataset = {data.dataset!r} is there. To only "
            "evaluate: --config.train.steps=0."
        )
    for head, names in enumerate(sources.label_maps if data.labels != "none" else ()):
        which = f" of head {head}" if len(sources.label_maps) > 1 else ""
        shown = ", ".join(f"{i} {name}" for i, name in enumerate(names[:_SHOWN]))
        more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        log.info("Label map%s, %d classes: %s%s", which, len(names), shown, more)
    log.info("%d training videos, %d held out.", len(sources.train), len(sources.eval))
    return dataclasses.replace(experiment, data=data, augment=augment), sources


def make_evaluators(
    objective: nn.Module,
    experiment: config.Experiment,
    sources: Sources,
    mesh: jax.sharding.Mesh,
) -> tuple[Evaluator, ...]:
    """Returns the evaluators that the config names, or the objective's usual one.

    Raises:
      InputError: a name is unknown, or an evaluator cannot judge this.
    """
    names, split = experiment.eval.evaluators, experiment.eval.split
    if not names:
        names = USUAL[experiment.objective["name"]]
        labels = any(EVALUATORS[name].needs_labels for name in names)
        if not labels and not len(getattr(sources, split)):
            log.info("No videos are held out, so there is no evaluation.")
            return ()
    for name in names:
        choose("config.eval.evaluators", name, EVALUATORS)
        if experiment.data.labels == "none" and EVALUATORS[name].needs_labels:
            raise InputError(
                f"config.eval.evaluators: {name!r} judges by labels, and config.data.labels = "
                "'none' reads none; leave it out, or give labels."
            )
    named = dataclasses.replace(experiment.eval, evaluators=names)
    experiment = dataclasses.replace(experiment, eval=named)
    classes = dict.fromkeys(EVALUATORS[name] for name in names)
    return tuple(cls(objective, experiment, sources, mesh) for cls in classes)


def find_best(evaluators: Sequence[Evaluator], wanted: str) -> str:
    """Returns the result by which the best checkpoint is kept: eval.best, or the first there is.

    Raises:
      InputError: no evaluator gives it.
    """
    known = [name for evaluator in evaluators for name in evaluator.results]
    if wanted and not known:
        raise InputError(
            f"config.eval.best = {wanted!r}, and no evaluator of this run gives a result by "
            "which one checkpoint is better than another; leave it empty."
        )
    if wanted:
        choose("config.eval.best", wanted, known)
    return wanted or next(iter(known), "")


def _placed(shape: jax.ShapeDtypeStruct, place: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    """Returns a shape with where it lies."""
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=place)
