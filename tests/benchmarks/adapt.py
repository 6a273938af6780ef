"""What learning a part of ViViT's factorised encoder saves, beside learning all of it, in one run.

    python tests/benchmarks/adapt.py [--size B] [--depth 0] [--temporal-depth 4] [--frames 32]
        [--batch 1] [--rank 8] [--adapter 192] [--remat none] [--dtype float32] [--repeats 5]

A step is that of training, by AdamW, on clips that lie in memory. The rows take turns within every
repeat, so that a change of the machine's speed meets them alike. Values and the optimiser's bytes
are those of the model that is run; another table has them at the size's own depth, where nothing is
allocated. FLOPs and temporary memory are XLA's own account of the compiled step.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vivit_jax import config, optim
from vivit_jax.data.augment import make_augment
from vivit_jax.freeze import frozen_of
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.objectives.classify import Classify
from vivit_jax.train_step import TrainState, init_state, train_step
from vivit_jax.trees import by_path

CLASSES, SIDE = 400, 224


class Row(NamedTuple):
    """A way to learn: fields of the model, and what is frozen."""

    model: dict[str, Any]
    freeze: tuple[str, ...]


def rows_of(arguments: argparse.Namespace) -> dict[str, Row]:
    """Returns the ways that are compared."""
    lora, adapter = {"lora_rank": arguments.rank}, {"adapter": arguments.adapter}
    return {
        "all": Row({}, ()),
        f"LoRA, rank {arguments.rank}": Row(lora, ("all_but_lora",)),
        f"frozen space, adapter {arguments.adapter}": Row(adapter, ("space",)),
        "the head alone": Row({}, ("encoder/.*",)),
    }


class Learning(NamedTuple):
    """What one way is made of.

    Attributes:
      init: makes the first state.
      step: the train step, to be compiled.
      frozen: paths.
    """

    init: Callable[[], TrainState]
    step: Callable
    frozen: frozenset[str]


def learning(row: Row, arguments: argparse.Namespace, depth: int, temporal_depth: int) -> Learning:
    """Returns a way to learn a model of some depth."""
    encoder = VideoTransformer(
        size=arguments.size,
        depth=depth,
        temporal_depth=temporal_depth,
        attention="factorised_encoder",
        dtype=arguments.dtype,
        remat=arguments.remat,
        **row.model,
    )
    objective = Classify(encoder, (CLASSES,))
    clip = {k: v[:1] for k, v in batch_of(1, arguments.frames).items()}
    fresh = functools.partial(objective.init, jax.random.key(0))
    params = jax.eval_shape(fresh, clip)["params"]
    options = config.Optim(learning_rate=1e-4, weight_decay=0.05, freeze=row.freeze)
    optimizer = optim.make_optimizer(options, lambda step: jnp.float32(1e-4), params)
    frozen = frozen_of(row.freeze, by_path(params))
    step = functools.partial(
        train_step,
        objective=objective,
        optimizer=optimizer,
        augment=make_augment(config.Augment(), encoder.mean, encoder.std),
        seed=0,
        frozen=frozen,
    )

    def init() -> TrainState:
        return init_state(fresh(clip)["params"], optimizer, False, frozen)

    return Learning(init, step, frozen)


def batch_of(clips: int, frames: int) -> dict[str, jax.Array]:
    """Returns a batch of noise."""
    shape = (clips, frames, SIDE, SIDE, 3)
    return {
        "video": jnp.asarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8)),
        "label": jnp.arange(clips, dtype=jnp.int32) % CLASSES,
        "valid": jnp.ones(clips, bool),
        "position": jnp.arange(clips, dtype=jnp.uint32),
        "index": jnp.arange(clips, dtype=jnp.int32),
    }


def sizes(state: TrainState, frozen: frozenset[str]) -> tuple[float, float, float]:
    """Returns millions of values, those that are learnt, and MB of the optimiser's state."""
    params = by_path(state.params)
    learnt = sum(x.size for path, x in params.items() if path not in frozen)
    held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state.opt_state))
    return sum(x.size for x in params.values()) / 1e6, learnt / 1e6, held / 1e6


def tell_whole(rows: dict[str, Row], arguments: argparse.Namespace) -> None:
    """Prints what each way holds at the size's own depth; nothing is allocated."""
    print(f"ViViT-{arguments.size} factorised encoder at its own depth, AdamW:")
    print(f"{'learnt':30s}{'M values':>10s}{'M learnt':>10s}{'optimiser, MB':>15s}")
    for name, row in rows.items():
        way = learning(row, arguments, 0, 4)
        values, learnt, held = sizes(jax.eval_shape(way.init), way.frozen)
        print(f"{name:30s}{values:10.2f}{learnt:10.3f}{held:15.2f}")


def timed(
    compiled: dict[str, Any], states: dict[str, TrainState], batch: dict[str, Any], repeats: int
) -> dict[str, list[float]]:
    """Returns the seconds of every way's steps, which take turns; the first is left out."""
    seconds: dict[str, list[float]] = {name: [] for name in compiled}
    for repeat in range(repeats + 1):
        for name, step in compiled.items():
            start = time.perf_counter()
            states[name], info = step(states[name], batch)
            jax.block_until_ready((states[name], info))
            if repeat:  # the first fills allocators
                seconds[name].append(time.perf_counter() - start)
    return seconds


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="B")
    parser.add_argument("--depth", type=int, default=0, help="of space; 0 for the size's own")
    parser.add_argument("--temporal-depth", type=int, default=4)
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--adapter", type=int, default=192)
    parser.add_argument("--remat", default="none")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rows = rows_of(arguments)
    tell_whole(rows, arguments)

    batch = batch_of(arguments.batch, arguments.frames)
    depths = arguments.depth, arguments.temporal_depth
    ways = {name: learning(row, arguments, *depths) for name, row in rows.items()}
    states = {name: jax.jit(way.init)() for name, way in ways.items()}
    known = {name: sizes(states[name], way.frozen) for name, way in ways.items()}
    compiled = {
        name: jax.jit(way.step, donate_argnums=0).lower(states[name], batch).compile()
        for name, way in ways.items()
    }
    seconds = timed(compiled, states, batch, arguments.repeats)
    depth = VideoTransformer(size=arguments.size, depth=arguments.depth).dims.depth
    print(
        f"\n{depth} + {arguments.temporal_depth} blocks, {arguments.batch} x {arguments.frames} x "
        f"{SIDE} x {SIDE}, {arguments.dtype}, remat {arguments.remat}; jax {jax.__version__} on "
        f"{jax.devices()[0].device_kind}:"
    )
    columns = ("M values", "M learnt", "optimiser, MB", "G FLOPs", "temporary, MB", "ms", "of all")
    print(f"{'learnt':30s}" + "".join(f"{column:>15s}" for column in columns))
    whole = statistics.median(seconds["all"])
    for name, step in compiled.items():
        flops, memory = step.cost_analysis()["flops"] / 1e9, step.memory_analysis()
        temporary = memory.temp_size_in_bytes / 1e6 if memory else np.nan
        median = statistics.median(seconds[name])
        spread = f"{1e3 * median:.0f} +-{1e3 * max(abs(x - median) for x in seconds[name]):.0f}"
        values, learnt, held = known[name]
        print(
            f"{name:30s}{values:15.2f}{learnt:15.3f}{held:15.2f}{flops:15.1f}{temporary:15.0f}"
            f"{spread:>15s}{100 * median / whole:13.0f} %"
        )


if __name__ == "__main__":
    main()
