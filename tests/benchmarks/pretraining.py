"""A step of VideoMAE's pretraining beside Hugging Face's in PyTorch, in one run.

    python tests/benchmarks/pretraining.py [--size B] [--depth 4] [--decoder-depth 2] [--batch 2]
        [--masks 0.9,0.75] [--decoder-mask 0] [--dtype float32] [--repeats 5] [--torch 1]

Forward, backward and AdamW on clips of 16 x 224 x 224 that lie in memory, from the same shapes on
both sides. The two take turns within every repeat. On an accelerator PyTorch's model is compiled
and runs under autocast where the dtype is bfloat16. FLOPs are twice the multiply-accumulates that
models/costs.py counts, times three for a step; the peak of the machine, for the share of it that is
used, is the best rate of a large matrix product, measured in the same run and dtype.
"""

import argparse
import functools
import os
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.objectives.masked_pixels import MaskedPixels
from vivit_jax.train_step import init_state, train_step

FRAMES, SIZE = 16, 224
DECODERS = {"S": (192, 3), "B": (384, 6), "L": (512, 8), "H": (640, 8)}
Step = Callable[[], None]


def make_objective(arguments: argparse.Namespace, ratio: float) -> MaskedPixels:
    """Returns VideoMAE of a size and depth."""
    width, heads = DECODERS[arguments.size]
    encoder = VideoTransformer(
        size=arguments.size,
        depth=arguments.depth,
        pool="mean",
        positions="sincos_1d",
        gelu="erf",
        key_bias=False,
        dtype=arguments.dtype,
        remat=arguments.remat,
    )
    return MaskedPixels(
        encoder,
        mask_ratio=ratio,
        decoder_mask_ratio=arguments.decoder_mask,
        decoder_width=width,
        decoder_heads=heads,
        decoder_depth=arguments.decoder_depth,
    )


def ours(arguments: argparse.Namespace, ratio: float) -> tuple[Step, dict[str, float]]:
    """Returns a step that waits for its end, and what is known of it beforehand."""
    objective = make_objective(arguments, ratio)
    batch = arguments.batch
    video = np.random.default_rng(0).integers(0, 256, (batch, FRAMES, SIZE, SIZE, 3), np.uint8)
    arrays = {
        "video": jnp.asarray(video),
        "valid": jnp.ones(batch, bool),
        "position": jnp.arange(batch, dtype=jnp.uint32),
        "index": jnp.arange(batch, dtype=jnp.int32),
    }
    streams = {"params": jax.random.key(0), "mask": jax.random.key(1)}
    optimizer = optax.adamw(1e-4, weight_decay=0.05)

    def init():
        params = objective.init(streams, {"video": arrays["video"][:1]})["params"]
        return init_state(params, optimizer, False)

    options = {"objective": objective, "optimizer": optimizer, "seed": 0}
    step = functools.partial(train_step, augment=lambda video, keys: scaled(video), **options)
    state = jax.jit(init)()
    compiled = jax.jit(step, donate_argnums=0).lower(state, arrays).compile()
    held = [state]

    def run() -> None:
        held[0], info = compiled(held[0], arrays)
        jax.block_until_ready(info.metrics["loss"])

    macs = objective.costs(FRAMES, SIZE).forward
    visible, decoded = objective.counts((8, 14, 14))
    memory = compiled.memory_analysis()
    temporary = memory.temp_size_in_bytes / 1e6 if memory else np.nan
    return run, {
        "visible": visible,
        "decoded": decoded,
        "giga_macs": macs / 1e9,
        "temporary": temporary,
    }


def scaled(video: jax.Array) -> jax.Array:
    """Returns pixels as floats about 0."""
    return video.astype(jnp.float32) / 127.5 - 1


def theirs(arguments: argparse.Namespace, ratio: float) -> Step:
    """Returns Hugging Face's step."""
    import torch
    import transformers

    device = "cuda" if torch.cuda.is_available() else "cpu"
    width, heads = DECODERS[arguments.size]
    dims = VideoTransformer(size=arguments.size, pool="mean").dims
    model = transformers.VideoMAEForPreTraining(
        transformers.VideoMAEConfig(
            hidden_size=dims.width,
            num_hidden_layers=arguments.depth,
            num_attention_heads=dims.heads,
            intermediate_size=dims.mlp_dim,
            decoder_hidden_size=width,
            decoder_num_hidden_layers=arguments.decoder_depth,
            decoder_num_attention_heads=heads,
            decoder_intermediate_size=4 * width,
            use_mean_pooling=False,
        )
    ).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-4, weight_decay=0.05)
    pixels = torch.rand(arguments.batch, FRAMES, 3, SIZE, SIZE, device=device) * 2 - 1
    masked = torch.ones(14 * 14, dtype=torch.bool)
    masked[torch.randperm(14 * 14)[: 14 * 14 - int(14 * 14 * ratio)]] = False
    masked = masked.repeat(arguments.batch, 8).to(device)
    forward = torch.compile(model) if device == "cuda" else model
    low = arguments.dtype == "bfloat16"

    def run() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=low):
            loss = forward(pixels, masked).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()

    return run


def timed(run: Step) -> float:
    """Returns the seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def products(dtype: str) -> Step:
    """Returns a large matrix product."""
    side = 2048 if jax.default_backend() == "cpu" else 8192
    square = jnp.ones((side, side), dtype)
    product = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(product(square, square))


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", default="B")
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--decoder-depth", type=int, default=2)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--masks", default="0.9,0.75")
    parser.add_argument("--decoder-mask", type=float, default=0.0)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--remat", default="none")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--torch", type=int, default=1, help="0 leaves PyTorch out")
    arguments = parser.parse_args()
    if arguments.torch:
        import torch

        torch.set_num_threads(len(os.sched_getaffinity(0)))
    product = products(arguments.dtype)
    side = 2048 if jax.default_backend() == "cpu" else 8192
    best = min(timed(product) for _ in range(10))
    for ratio in map(float, arguments.masks.split(",")):
        run, known = ours(arguments, ratio)
        rows = {"ours": run}
        if arguments.torch and not arguments.decoder_mask:
            rows["PyTorch"] = theirs(arguments, ratio)
        seconds: dict[str, list[float]] = {name: [] for name in rows}
        for repeat in range(arguments.repeats + 2):
            best = min(best, timed(product))
            for name, step in rows.items():
                took = timed(step)
                if repeat > 1:  # the first ones compile, and fill allocators
                    seconds[name].append(took)
        rate = 2 * side**3 / best
        flops = 6 * known["giga_macs"] * 1e9 * arguments.batch
        blocks = f"{arguments.depth} + {arguments.decoder_depth}"
        print(
            f"\nVideoMAE-{arguments.size}, {blocks} blocks, mask {ratio}, batch "
            f"{arguments.batch}, {arguments.dtype}: {known['visible']} tokens seen, "
            f"{known['decoded']} decoded, {known['giga_macs']:.4g} G MACs a clip forward, "
            f"{known['temporary']:.0f} MB of XLA's temporary memory; matrix products at "
            f"{rate / 1e12:.3g} TFLOP/s; jax {jax.__version__} on {jax.devices()[0].device_kind}"
        )
        for name, each in seconds.items():
            median = statistics.median(each)
            ratio_to = median / statistics.median(seconds["ours"])
            print(
                f"  {name:8s} {1e3 * median:9.1f} ms a step ({1e3 * min(each):.1f} to "
                f"{1e3 * max(each):.1f}), {arguments.batch / median:8.2f} clips/s, "
                f"{100 * flops / median / rate:3.0f} % of that rate, {ratio_to:.2f} of ours"
            )


if __name__ == "__main__":
    main()
