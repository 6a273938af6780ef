"""How parameters change: the learning rate over a run, and the optimiser as a chain of optax's own.

A parameter's path alone says whether it is decayed and how deep in the model it lies; models know
nothing of either. The chain is clip, AdamW's or SGD's step, weight decay, the layer's factor, the
learning rate: so both the step and the decay of a layer are scaled, as where layers are parameter
groups. The average of weights is train_step's.

Sources: Loshchilov and Hutter 2019 (decoupled weight decay); Bao et al. 2022 (BEiT) for layer-wise
learning rates, as VideoMAE uses them.
"""

import dataclasses
import logging
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.tree_util import tree_map_with_path
from jax.typing import ArrayLike

from vivit_jax import config
from vivit_jax.errors import InputError
from vivit_jax.freeze import frozen_of
from vivit_jax.options import choose
from vivit_jax.spikes import LEAST
from vivit_jax.trees import by_path, path_of, split

log = logging.getLogger(__name__)
Schedule = Callable[[ArrayLike], jax.Array]

SCHEDULES = ("cosine", "constant", "steps")
CLIPPED = ("step", "part")
OPTIMIZERS: dict[str, Callable[[config.Optim], optax.GradientTransformation]] = {
    "adamw": lambda optim: optax.scale_by_adam(optim.b1, optim.b2),
    "sgd": lambda optim: optax.trace(optim.momentum, optim.nesterov),
}
NEVER_DECAYED = re.compile(r"(\w+_)?(bias|scale)|position\w*|\w+_tokens?")
STACK = r"encoder/(?:frames/)?(\w+)/(block_\d+)/"
CLOSING = ("norm", "summary_norm")  # after the last block of a stack


def total_steps(train: config.Train, examples: int, batch_size: int) -> int:
    """Returns the number of updates of a run; epochs are not cut at the borders of batches."""
    if train.steps >= 0:
        return train.steps
    return max(1, round(train.epochs * examples / batch_size))


def scaled(optim: config.Optim, batch_size: int) -> config.Optim:
    """Returns the options with the learning rates that a batch of so many videos takes."""
    if not optim.per_videos:
        return optim
    factor = batch_size / optim.per_videos
    names = ("learning_rate", "warmup_from", "end_learning_rate")
    rates = {name: getattr(optim, name) * factor for name in names}
    return dataclasses.replace(optim, per_videos=0, **rates)


def make_schedule(optim: config.Optim, steps: int, steps_per_epoch: float) -> Schedule:
    """Returns the float32 learning rate as a function of the updates made before.

    Args:
      optim: its rates are used as they are; see `scaled`.
      steps: of the whole run; one shorter than the warmup ends within it.
      steps_per_epoch: examples over batch size.

    Raises:
      InputError: the schedule is unknown, or decay_at does not rise.
    """
    choose("config.optim.schedule", optim.schedule, SCHEDULES)
    unit = {"steps": 1.0, "epochs": steps_per_epoch}[optim.unit]
    warmup = optim.warmup * unit
    if not warmup >= 0:
        raise InputError(f"config.optim.warmup = {optim.warmup} is below 0.")
    if steps and warmup >= steps + 1:
        log.warning("config.optim.warmup, %g steps, outlasts the run of %d.", warmup, steps)
    borders = [at * unit for at in optim.decay_at]
    if any(b <= a for a, b in zip([0.0, *borders], borders, strict=False)):
        raise InputError(f"config.optim.decay_at = {optim.decay_at} does not rise from above 0.")
    top, end = optim.learning_rate, optim.end_learning_rate
    horizon = steps * optim.horizon
    cosine_steps = horizon - warmup if horizon > warmup else 1.0

    def schedule(step: ArrayLike) -> jax.Array:
        step = jnp.asarray(step, jnp.float32)
        rate = jnp.full_like(step, top)
        if optim.schedule == "cosine":
            done = jnp.clip((step - warmup) / cosine_steps, 0, 1)
            rate = end + (top - end) * 0.5 * (1 + jnp.cos(jnp.pi * done))
        elif optim.schedule == "steps":
            for border in borders:
                rate = jnp.where(step >= border, rate * optim.decay_factor, rate)
        if not warmup:
            return rate
        rising = optim.warmup_from + (rate - optim.warmup_from) * step / warmup
        return jnp.where(step < warmup, rising, rate)

    return schedule


def make_weight_decay(optim: config.Optim, steps: int) -> float | Schedule:
    """Returns the weight decay, by the updates made before where it changes."""
    start, end = optim.weight_decay, optim.weight_decay_end
    if end < 0:
        return start
    done = _share_done(steps * optim.horizon)
    return lambda step: end + (start - end) * 0.5 * (1 + jnp.cos(jnp.pi * done(step)))


def make_average(optim: config.Optim, steps: int) -> float | Schedule:
    """Returns the decay of the average of weights, by the steps done before where it changes."""
    start, end = optim.average, optim.average_end
    if not end:
        return start
    done = _share_done(steps * optim.horizon)
    return lambda step: start + (end - start) * done(step)


def _share_done(steps: float) -> Schedule:
    return lambda step: jnp.clip(jnp.asarray(step, jnp.float32) / max(steps, 1), 0, 1)


def clipped(grads: Any, most: ArrayLike) -> Any:
    """Returns a gradient of at most this norm.

    All is multiplied by one number: XLA repeats a product where it is read, but would write down
    quotients first, as optax.clip_by_global_norm has them. A norm that is not finite is that of the
    result too: what overflows must not be taken for nothing.
    """
    norm = optax.tree.norm(grads)
    factor = jnp.where(norm > most, most / norm, 1.0)
    factor = jnp.where(jnp.isfinite(norm), factor, jnp.nan)
    return jax.tree.map(lambda x: x * factor, grads)


def make_optimizer(
    optim: config.Optim, schedule: Schedule, params: Any, steps: int = 0
) -> optax.GradientTransformation:
    """Returns what turns a gradient into an update of the parameters.

    SGD's weight decay is decoupled as well, and so not gathered by the momentum: what L2 in the
    gradient does in a published recipe takes 1 / (1 - momentum) times its number here.

    Args:
      optim: see config.py.
      schedule: what `make_schedule` returns.
      params: the tree of all parameters, or of their shapes: only paths and shapes are read. The
        optimiser is for those of them that are not frozen.
      steps: of the whole run; read where the weight decay changes.

    Raises:
      InputError: the optimiser is unknown or a field is out of its range; names it.
    """
    check(optim)
    frozen = frozen_of(optim.freeze, by_path(params))
    learnt, _ = split(params, frozen)
    decayed = tree_map_with_path(lambda path, x: decays(path_of(path), x.ndim), learnt)
    # A part that is not wanted has an empty place, so that a checkpoint's tree is the same with
    # and without it.
    clip, layers = optax.identity(), optax.identity()
    if optim.clip:
        clip = optax.stateless(lambda grads, _: clipped(grads, optim.clip))
    if optim.layer_decay != 1:
        scales, _ = split(layer_scales(params, optim.layer_decay), frozen)
        layers = optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, scales))
    return optax.chain(
        clip,
        OPTIMIZERS[optim.optimizer](optim),
        optax.add_decayed_weights(make_weight_decay(optim, steps), mask=decayed),
        layers,
        optax.scale_by_learning_rate(schedule),
    )


def check(optim: config.Optim) -> None:
    """Refuses what cannot be an optimiser.

    Raises:
      InputError: names the field, its value and its range.
    """
    choose("config.optim.optimizer", optim.optimizer, OPTIMIZERS)
    choose("config.optim.clip_per", optim.clip_per, CLIPPED)
    if optim.clip_per == "part" and (optim.accumulate == 1 or not optim.clip):
        raise InputError(
            "config.optim.clip_per = 'part' clips the gradient of each of config.optim.accumulate "
            f"= {optim.accumulate} parts to config.optim.clip = {optim.clip}; expected at least 2 "
            "parts, and a norm above 0."
        )
    for name in ("clip", "weight_decay", "per_videos", "warmup_from"):
        if not getattr(optim, name) >= 0:
            raise InputError(f"config.optim.{name} = {getattr(optim, name)} is below 0.")
    if optim.spike and not (optim.spike > 1 and optim.spike_window >= LEAST):
        raise InputError(
            f"config.optim.spike = {optim.spike} and spike_window = {optim.spike_window}; expected "
            f"above 1, or 0 for no such rule, over at least {LEAST} steps."
        )
    for name in ("momentum", "b1", "b2", "average"):
        if not 0 <= getattr(optim, name) < 1:
            raise InputError(f"config.optim.{name} = {getattr(optim, name)} is not in [0, 1).")
    if not 0 <= optim.average_end <= 1 or (optim.average_end and not optim.average):
        raise InputError(
            f"config.optim.average_end = {optim.average_end}; expected 0, or at most 1 where "
            f"config.optim.average = {optim.average} is not 0."
        )
    if not optim.horizon >= 1:
        raise InputError(f"config.optim.horizon = {optim.horizon} is below 1.")
    if not 0 < optim.layer_decay <= 1:
        raise InputError(f"config.optim.layer_decay = {optim.layer_decay} is not in (0, 1].")


def decays(path: str, ndim: int) -> bool:
    """Returns whether weight decay is for this parameter.

    It is not for biases (those of attention have two axes), the scales of norms, positions, class,
    mask and other learned tokens, nor anything else of one axis or none.
    """
    return ndim > 1 and not NEVER_DECAYED.fullmatch(path.rsplit("/", 1)[-1])


def layer_of(path: str, depth: int, temporal_depth: int = 0) -> int:
    """Returns how many layers a parameter lies above the input.

    Tubelets, positions and class token are layer 0, and block i of the first stack is layer i + 1,
    which its closing norm joins where a second stack follows. That one, "time", goes on counting;
    its own positions and class token, and what lies between the two, join its first block, which
    they feed. The rest (the last norm, the head, decoders and predictors) is the top:
    depth + temporal_depth + 1.

    Args:
      path: from the root of all parameters, as "encoder/space/block_3/mlp_in/kernel".
      depth: blocks of the first stack, "blocks" or "space".
      temporal_depth: blocks of "time".
    """
    top = depth + temporal_depth + 1
    match path.replace("encoder/frames/", "encoder/").split("/"):
        case ["encoder", "tubelets", *_]:
            return 0
        case ["encoder", "space", "norm", *_] if temporal_depth:
            return depth
        case ["encoder", "adapter" | "embed", *_]:
            return depth + 1
        case ["encoder", "blocks" | "space" | "time" as stack, name, *_] if name not in CLOSING:
            below = depth if stack == "time" else 0
            if block := re.fullmatch(r"block_(\d+)", name):
                return below + int(block[1]) + 1
            return below + (stack == "time")
    return top


def layer_scales(params: Any, layer_decay: float) -> Any:
    """Returns the factor on the learning rate of every parameter: 1 at the top, less below.

    Raises:
      InputError: no stack of blocks sees the pixels, from which they are counted.
    """
    paths = by_path(params)
    blocks = {m.groups() for p in paths if (m := re.match(STACK, p))}
    temporal_depth = sum(stack == "time" for stack, _ in blocks)
    depth = sum(stack in ("blocks", "space") for stack, _ in blocks)
    if not depth:
        raise InputError(
            f"config.optim.layer_decay = {layer_decay} is for an encoder of transformer blocks, "
            "counted from the pixels up, and this one's frames are not seen by transformer blocks: "
            "use 1, or config.model.frame = 'vit'."
        )

    def scale(keys: tuple[Any, ...], _: Any) -> float:
        top = depth + temporal_depth + 1
        return layer_decay ** (top - layer_of(path_of(keys), depth, temporal_depth))

    return tree_map_with_path(scale, params)
