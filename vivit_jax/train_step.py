"""One optimisation step, the same for every objective.

What a step draws comes from the seed and either the example's position (augmentation) or the
step's number (dropout, mixing), so a resumed run, or one on another mesh, draws the same. An update
that is not finite, or a spike (see spikes.py), is left out as a whole: parameters, optimiser and
average stay as they were.

The loss is differentiated by what is not frozen alone, so nothing of the backward pass is computed
that only a frozen parameter would need, and the optimiser knows of no other.
"""

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from einops import rearrange
from flax import struct
from jaxtyping import Array, Bool, Float, Int, Key, UInt8, UInt32

from vivit_jax import spikes
from vivit_jax.objectives.base import Outcome
from vivit_jax.optim import clipped
from vivit_jax.trees import join, split

Params = Any
Batch = Mapping[str, Array]
Augment = Callable[[UInt8[Array, "B T H W 3"], Key[Array, " B"]], Float[Array, "B T H W 3"]]
STREAMS = ("dropout", "mix", "mask")  # of an objective's random choices
_BY_POSITION, _BY_STEP = 0, 1


class TrainState(struct.PyTreeNode):
    """All that a run needs to go on from where it stopped.

    The place in the data is step * data.batch_size, and nothing else.

    Attributes:
      step: steps done.
      skipped: how many of them changed nothing, because the update was left out.
      params: what gradients change, and what is frozen; the encoder is at params["encoder"].
      opt_state: the optimiser's own, of what is not frozen.
      average: moving average of the parameters; empty where none is kept.
      history: by which spikes are told; empty where they are not.
    """

    step: Int[Array, ""]
    skipped: Int[Array, ""]
    params: Params
    opt_state: optax.OptState
    average: Params
    history: Any


class StepInfo(struct.PyTreeNode):
    """What is known of a step.

    Attributes:
      metrics: loss, grad_norm and the objective's own, over the valid examples.
      skipped: whether the update was left out.
      spike: whether for its gradient's norm, which is finite.
      index: of the examples, in their source.
      losses: of the examples; 0 where one is not valid.
      finite: whether an example's loss was.
    """

    metrics: dict[str, Float[Array, ""]]
    skipped: Bool[Array, ""]
    spike: Bool[Array, ""]
    index: Int[Array, " B"]
    losses: Float[Array, " B"]
    finite: Bool[Array, " B"]


def init_state(
    params: Params,
    optimizer: optax.GradientTransformation,
    average: bool,
    frozen: Collection[str] = (),
    spike_window: int = 0,
) -> TrainState:
    """Returns the state before the first step.

    Args:
      params: all parameters.
      optimizer: of those that are not frozen.
      average: whether weights are averaged.
      frozen: paths of the parameters that stay as they are.
      spike_window: steps by which spikes are told; 0 where they are not.
    """
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        skipped=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(split(params, frozen)[0]),
        average=jax.tree.map(jnp.copy, params) if average else {},
        history=spikes.fresh(spike_window) if spike_window else {},
    )


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    objective: nn.Module,
    optimizer: optax.GradientTransformation,
    augment: Augment,
    seed: int,
    accumulate: int = 1,
    clip_parts: float = 0.0,
    average: float | optax.Schedule = 0.0,
    frozen: Collection[str] = (),
    spike: float = 0.0,
) -> tuple[TrainState, StepInfo]:
    """Descends the loss on one global batch.

    Args:
      state: before.
      batch: "video" uint8 [B T H W 3], "label", "valid" bool [B], "position" uint32 [B] in the
        order of training, "index" int32 [B] in the source.
      objective: see objectives/base.py.
      optimizer: see optim.py.
      augment: from clips and a key for each to normalised clips; see data/augment.py.
      seed: of everything drawn.
      accumulate: equal parts that the batch is run in, one after another; divides B.
      clip_parts: largest norm of a part's own mean gradient; 0 for no clipping before the sum.
      average: decay of the average of weights, by the steps done where it changes; 0 for none.
      frozen: paths of the parameters that stay as they are.
      spike: times the usual norm of the gradient over which an update is left out; 0 for never.
        The state then has a history.
    """
    root = jax.random.key(seed)
    step_key = jax.random.fold_in(jax.random.fold_in(root, _BY_STEP), state.step)
    place_key = jax.random.fold_in(root, _BY_POSITION)
    weight = 1 / jnp.maximum(batch["valid"].sum(), 1)
    teacher = {}
    if getattr(objective, "target", None) == "average":
        teacher = {"target": state.average["encoder"]}

    learnt, fixed = split(state.params, frozen)

    def part(learnt: Params, batch: Batch, key: Key[Array, ""]):
        """Returns a part's share of the mean loss; and of the metrics, and its examples' losses."""
        video = augment(batch["video"], clip_keys(place_key, batch["position"]))
        rngs = {name: jax.random.fold_in(key, i) for i, name in enumerate(STREAMS)}
        inputs, params = {**batch, "video": video}, join(learnt, fixed)
        outcome = objective.apply({"params": params}, inputs, train=True, rngs=rngs, **teacher)
        outcome = cast(Outcome, outcome)

        def share(values):
            return jnp.where(batch["valid"], values, 0).sum() * weight

        loss = share(outcome.losses)
        metrics = {"loss": loss, **{k: share(v) for k, v in outcome.metrics.items()}}
        return loss, (metrics, jnp.where(batch["valid"], outcome.losses, 0))

    gradient = jax.value_and_grad(part, has_aux=True)
    if accumulate == 1:
        (_, (metrics, losses)), grads = gradient(learnt, batch, step_key)
    else:
        grads, metrics, losses = _summed(
            gradient, learnt, batch, step_key, accumulate, clip_parts, weight
        )
    norm = metrics["grad_norm"] = optax.tree.norm(grads)
    good = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm) & batch["valid"].any()
    history, spiky = state.history, jnp.zeros((), bool)
    if spike:
        spiky, history = spikes.judge(history, norm, good, spike)
        good &= ~spiky
    # Else XLA writes down the squares of all of the gradient, for the norm and for Adam.
    grads, good = jax.lax.optimization_barrier((grads, good))
    updates, opt_state = optimizer.update(grads, state.opt_state, learnt)
    moved = optax.apply_updates(learnt, updates)
    averaged = {}
    if average:
        decay = average(state.step) if callable(average) else average
        before, same = split(state.average, frozen)
        averaged = join(optax.incremental_update(moved, before, 1 - decay), same)
    after = TrainState(
        step=state.step,
        skipped=state.skipped,
        params=join(moved, fixed),
        opt_state=opt_state,
        average=averaged,
        history=state.history,
    )
    after = either(good, after, state)
    after = after.replace(step=state.step + 1, skipped=state.skipped + ~good, history=history)
    return after, StepInfo(
        metrics=metrics,
        skipped=~good,
        spike=spiky,
        index=batch["index"],
        losses=losses,
        finite=jnp.isfinite(losses),
    )


def _summed(
    gradient: Callable[..., Any],
    learnt: Params,
    batch: Batch,
    key: Key[Array, ""],
    count: int,
    clip_parts: float,
    weight: Float[Array, ""],
) -> tuple[Params, dict[str, Float[Array, ""]], Float[Array, " B"]]:
    """Returns the gradient, the metrics and the examples' losses of a batch, part after part.

    Args:
      gradient: of a part's share; by parameters, the part and a key.
      learnt: the parameters.
      batch: all of it.
      key: of what is drawn for it.
      count: of parts.
      clip_parts: see train_step.
      weight: of an example in the batch's mean.
    """
    # Neighbours go to different parts, so each device keeps the examples that it has.
    parts = {k: rearrange(v, "(b a) ... -> a b ...", a=count) for k, v in batch.items()}
    keys = jax.random.split(key, count)

    def add(total, step):
        (_, (metrics, losses)), grads = gradient(learnt, *step)
        if clip_parts:
            grads = clipped(grads, clip_parts * step[0]["valid"].sum() * weight)
        return jax.tree.map(jnp.add, total, (grads, metrics)), losses

    one = jax.tree.map(lambda x: x[0], (parts, keys))
    (_, (metrics, _)), grads = jax.eval_shape(gradient, learnt, *one)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (grads, metrics))
    (grads, metrics), losses = jax.lax.scan(add, zeros, (parts, keys))
    return grads, metrics, rearrange(losses, "a b -> (b a)")


def either(good: Bool[Array, ""], after: TrainState, before: TrainState) -> TrainState:
    """Returns the state after an update where that was good, else the one before."""
    return jax.tree.map(lambda new, old: jnp.where(good, new, old), after, before)


def clip_keys(key: Key[Array, ""], position: UInt32[Array, " B"]) -> Key[Array, " B"]:
    """Returns a key for each clip, by its position in the order of training."""
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, position)
