"""Where a train step's time goes, beside what this machine's matrix products could do, in one run.

    python tests/benchmarks/train_step.py [--config configs/quickstart.py] [--batch 0] [--repeats 5]

The floor is three times the forward pass's multiply-accumulates over the rate of a large float32
matrix product, the best that is measured. Below it, each part of the step is timed alone, forward
and backward, at the step's own shapes: matrix products of the dense layers, attention's core, and
what remains of a block; then the gradient of the model, the optimiser, the augmentation and the
whole step. The rows take turns within every repeat, so that a change of the machine's speed meets
them alike.
"""

import argparse
import functools
import importlib.util
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from vivit_jax import config, optim, recipe
from vivit_jax.data.augment import make_augment
from vivit_jax.models.attention import ARRANGEMENTS
from vivit_jax.models.costs import multiply_accumulates
from vivit_jax.models.kernels import attend
from vivit_jax.models.layers import matmul
from vivit_jax.models.video_transformer import BY_SLOT
from vivit_jax.train_step import init_state, train_step

CLASSES = 8
PRODUCTS = 5  # matrix products in a row, once a repeat


def load(file: str) -> config.Experiment:
    """Returns the experiment of a config file, `path` or `path:argument`."""
    path, _, argument = file.partition(":")
    spec = importlib.util.spec_from_file_location("benchmarked", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return config.parse(module.get_config(*filter(None, [argument])).to_dict())


def with_gradient(function: Callable) -> Callable:
    """Returns the jitted gradient of the function's sum by all arguments."""
    return jax.jit(lambda *xs: jax.grad(lambda ys: function(*ys).sum())(xs))


def stacks(encoder, batch: int, t: int, s: int) -> list[tuple[int, int, int, str, tuple[int, int]]]:
    """Returns (blocks, rows, tokens, arrangement, grid) of each stack of blocks."""
    classes = int(encoder.pool == "class_token")
    depth = encoder.dims.depth
    if encoder.attention not in BY_SLOT:
        return [(depth, batch, classes + t * s, encoder.attention, (t, s))]
    space = (depth, batch * t, classes + s, "joint", (1, s))
    if encoder.attention == "space_only":
        return [space]
    return [space, (encoder.temporal_depth, batch, classes + t, "joint", (t, 1))]


def parts(encoder, batch: int, t: int, s: int) -> dict[str, list[tuple[int, Callable, tuple]]]:
    """Returns what the stacks compute, as (how many times, gradient, its arguments)."""
    dims = encoder.dims
    found: dict[str, list[tuple[int, Callable, tuple]]] = {"dense layers": [], "attention core": []}
    for blocks, rows, tokens, arrangement, grid in stacks(encoder, batch, t, s):
        x = jnp.ones((rows * tokens, dims.width))
        wide = jnp.ones((rows * tokens, dims.mlp_dim))
        steps = ARRANGEMENTS[arrangement].steps
        square = with_gradient(matmul), (x, jnp.ones((dims.width, dims.width)))
        up = with_gradient(matmul), (x, jnp.ones((dims.width, dims.mlp_dim)))
        down = with_gradient(matmul), (wide, jnp.ones((dims.mlp_dim, dims.width)))
        squares = sum(4 + step.zero_dense for step in steps)
        found["dense layers"] += [(blocks * squares, *square), (blocks, *up), (blocks, *down)]
        q = jnp.ones((rows, tokens, dims.heads, dims.width // dims.heads))
        for step in steps:
            core = functools.partial(step.over, grid=grid, core=attend)
            found["attention core"].append((blocks, with_gradient(core), (q, q, q)))
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", default="configs/quickstart.py")
    parser.add_argument("--batch", type=int, default=0, help="clips; 0 for the config's own")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    experiment = load(arguments.config)
    data, batch = experiment.data, arguments.batch or experiment.data.batch_size
    objective = recipe.build_objective(experiment, [[str(i) for i in range(CLASSES)]])
    encoder = objective.encoder  # type: ignore[attr-defined]
    t, rows, columns = encoder.grid(data.frames, data.image_size, data.image_size)
    shape = (batch, data.frames, data.image_size, data.image_size, 3)
    arrays = {
        "video": jnp.asarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)),
        "label": jnp.arange(batch, dtype=jnp.int32) % CLASSES,
        "valid": jnp.ones(batch, bool),
        "position": jnp.arange(batch, dtype=jnp.uint32),
        "index": jnp.arange(batch, dtype=jnp.int32),
    }
    schedule = optim.make_schedule(experiment.optim, 10_000, 100.0)
    params = jax.jit(objective.init)(jax.random.key(0), arrays)["params"]
    optimizer = optim.make_optimizer(experiment.optim, schedule, params)
    augment = make_augment(experiment.augment, encoder.mean, encoder.std)
    state = init_state(params, optimizer, experiment.optim.average)
    options = {"objective": objective, "optimizer": optimizer, "augment": augment, "seed": 0}
    step = jax.jit(functools.partial(train_step, **options))
    clips = jax.jit(augment)(arrays["video"], jax.random.split(jax.random.key(0), batch))

    def loss(params, clips):
        return objective.apply({"params": params}, {**arrays, "video": clips}).losses.mean()

    def update(params, opt_state):
        updates, opt_state = optimizer.update(params, opt_state, params)
        return jax.tree.map(jnp.add, params, updates), opt_state

    side = 2048
    square = jnp.ones((side, side))
    rows_: dict[str, list[tuple[int, Callable, tuple]]] = {
        **parts(encoder, batch, t, rows * columns),
        "forward": [(1, jax.jit(loss), (params, clips))],
        "gradient": [(1, jax.jit(jax.grad(loss)), (params, clips))],
        "optimiser": [(1, jax.jit(update), (params, state.opt_state))],
        "augmentation": [
            (1, jax.jit(augment), (arrays["video"], jax.random.split(jax.random.key(0), batch)))
        ],
        "step": [(1, step, (state, arrays))],
    }
    product = jax.jit(jnp.matmul)
    seconds: dict[str, list[float]] = {name: [] for name in rows_}
    products = []
    for repeat in range(arguments.repeats + 1):
        for _ in range(PRODUCTS):
            start = time.perf_counter()
            jax.block_until_ready(product(square, square))
            products.append(time.perf_counter() - start)
        for name, calls in rows_.items():
            total = 0.0
            for times, function, inputs in calls:
                start = time.perf_counter()
                jax.block_until_ready(function(*inputs))
                total += times * (time.perf_counter() - start)
            if repeat:  # the first compiles
                seconds[name].append(total)
    rate = side**3 / min(products)
    macs = batch * multiply_accumulates(encoder, data.frames, data.image_size, CLASSES)
    floor = 3 * macs / rate
    print(f"{arguments.config}, batch {batch}: {macs / batch / 1e9:.4g} G MACs a clip forward; ")
    print(f"matrix products at {2 * rate / 1e9:.0f} GFLOP/s; jax {jax.__version__}")
    print(f"{'':16s}{'ms':>9s}{'+-':>7s}{'of the step':>13s}")
    print(f"{'floor':16s}{1e3 * floor:9.1f}")
    whole = statistics.median(seconds["step"])
    for name in rows_:
        each = seconds[name]
        median = statistics.median(each)
        spread = max(abs(x - median) for x in each)
        print(f"{name:16s}{1e3 * median:9.1f}{1e3 * spread:7.1f}{100 * median / whole:11.0f} %")
    print(f"The step runs at {100 * floor / whole:.0f} % of the rate of matrix products.")


if __name__ == "__main__":
    main()
