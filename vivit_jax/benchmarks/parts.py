"""The parts of another program's training step as rows: its loss, its gradient, and the whole.

They are asked for what ours are (see steps.py): "forward" for the loss, "gradient" for the loss and
the gradient's norm (PyTorch has no use for the norm: it fills in the gradient), "step" for the
config's optimiser too, with its clipping, without schedule and layers. What peers are spared:
augmentation, the average of weights, and the guard against NaN.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
import optax

from vivit_jax import config
from vivit_jax.benchmarks.rounds import Row
from vivit_jax.benchmarks.steps import temporary
from vivit_jax.data.pool import cores
from vivit_jax.errors import InputError
from vivit_jax.run import Run
from vivit_jax.trees import by_path


def in_jax(
    name: str,
    loss: Callable[[Any, Mapping[str, jax.Array], jax.Array], jax.Array],
    params: Any,
    batch: Mapping[str, jax.Array],
    run: Run,
) -> list[Row]:
    """Returns the parts of a program of JAX's, compiled for one device.

    Args:
      name: of the program.
      loss: from parameters, a batch and a key of what is drawn.
      params: to begin with; they are given away.
      batch: on the device.
      run: of the config.

    Raises:
      InputError: the run has several devices.
    """
    if run.mesh.size > 1:
        raise InputError(f"{name} runs on one device, and the config's mesh has {run.mesh.size}.")
    optimiser, clips = in_optax(run.experiment.optim), run.experiment.data.batch_size
    state = (params, optimiser.init(params), jax.random.key(0))

    def forward(state: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        params, _, key = state
        return loss(params, batch, key)

    def gradient(state: Any, batch: Mapping[str, jax.Array]) -> tuple[jax.Array, jax.Array]:
        params, _, key = state
        value, gradient = jax.value_and_grad(loss)(params, batch, key)
        return value, optax.tree.norm(gradient)

    def step(state: Any, batch: Mapping[str, jax.Array]) -> tuple[Any, jax.Array]:
        params, held, key = state
        key, now = jax.random.split(key)
        value, gradient = jax.value_and_grad(loss)(params, batch, now)
        updates, held = optimiser.update(gradient, held, params)
        return (optax.apply_updates(params, updates), held, key), value

    parts = {
        "forward": jax.jit(forward),
        "gradient": jax.jit(gradient),
        "step": jax.jit(step, donate_argnums=0),
    }
    compiled = {part: function.lower(state, batch).compile() for part, function in parts.items()}
    latest = [state]

    def call(part: str) -> None:
        found = jax.block_until_ready(compiled[part](latest[0], batch))
        if part == "step":
            latest[0], found = found
        refuse_nan(name, float(jax.tree.leaves(found)[0]))

    return [
        Row(
            f"{name}: {part}",
            lambda part=part: call(part),
            clips,
            about={"temporary_bytes": temporary(compiled[part])},
        )
        for part in parts
    ]


def in_optax(options: config.Optim) -> optax.GradientTransformation:
    """Returns the optimiser of a config by optax's own."""
    rate = options.learning_rate
    if options.optimizer == "adamw":
        step = optax.adamw(rate, options.b1, options.b2, weight_decay=options.weight_decay)
    else:
        step = optax.sgd(rate, options.momentum, options.nesterov)
    return optax.chain(optax.clip_by_global_norm(options.clip), step) if options.clip else step


def in_torch(name: str, model: Any, loss: Callable[[], Any], run: Run) -> list[Row]:
    """Returns the parts of a program of PyTorch's.

    Args:
      name: of the program.
      model: whose parameters are learnt, on its device.
      loss: of a batch; here under autocast where config.model.dtype is bfloat16.
      run: of the config.
    """
    import torch

    options, model = run.experiment.optim, model.train()
    learnt, rate = list(model.parameters()), options.learning_rate
    if options.optimizer == "adamw":
        optimiser = torch.optim.AdamW(
            learnt, rate, (options.b1, options.b2), weight_decay=options.weight_decay
        )
    else:
        optimiser = torch.optim.SGD(learnt, rate, options.momentum, nesterov=options.nesterov)
    kind, low = learnt[0].device.type, run.experiment.model.get("dtype") == "bfloat16"

    def value() -> Any:
        with torch.autocast(kind, torch.bfloat16, enabled=low):
            return loss()

    def forward() -> None:
        with torch.no_grad():
            refuse_nan(name, value().item())

    def gradient(update: bool = False) -> None:
        found = value()
        found.backward()
        if update:
            if options.clip:
                torch.nn.utils.clip_grad_norm_(learnt, options.clip)
            optimiser.step()
        optimiser.zero_grad()
        refuse_nan(name, found.item())

    parts = {"forward": forward, "gradient": gradient, "step": lambda: gradient(update=True)}
    clips = run.experiment.data.batch_size
    return [Row(f"{name}: {part}", call, clips) for part, call in parts.items()]


def torch_device() -> str:
    """Returns where PyTorch runs: a GPU, or all cores that this process may use."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    torch.set_num_threads(cores())
    return "cpu"


def refuse_nan(name: str, loss: float) -> None:
    """Refuses to go on measuring what computes nothing.

    Raises:
      FloatingPointError: the loss is not finite.
    """
    if not math.isfinite(loss):
        raise FloatingPointError(f"{name}: the loss is {loss}.")


def check_values(name: str, theirs: int, run: Run, more: int = 0) -> None:
    """Refuses a program whose model is another than the run's.

    Args:
      name: of the program.
      theirs: numbers that it learns.
      run: of the config.
      more: how many of them it is known to have that ours has not.

    Raises:
      InputError: the numbers differ.
    """
    ours = sum(int(np.prod(x.shape)) for x in by_path(run.state.params).values())
    if theirs - more != ours:
        raise InputError(
            f"{name} learns {theirs:,} numbers, {more:,} of which ours has not, and the config's "
            f"model {ours:,}: they are not the same model."
        )
