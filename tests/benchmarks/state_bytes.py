"""What a device holds of large models between two steps, on four meshes of 8; nothing is compiled.

python tests/benchmarks/state_bytes.py [RECIPE ...]
"""

import dataclasses
import logging
import sys

from vivit_jax import config
from vivit_jax.plan import likely, parse
from vivit_jax.planning import devices

RECIPES = ("configs/vivit.py:k400_L", "configs/videomae_v2_pretrain.py:g")
MESHES = (
    {"data": 8},
    {"data": 1, "fsdp": 8},
    {"data": 2, "fsdp": 2, "tensor": 2},
    {"data": 2, "sequence": 4},
)


def main() -> None:
    """Prints the table."""
    logging.disable()
    fleet = devices.find("h100", 8)
    from vivit_jax import memory, run
    from vivit_jax.planning import estimate, videos

    print("| recipe | mesh | parameters | optimiser | average | gradients | batch |")
    print("|---|---|---|---|---|---|---|")
    for recipe in sys.argv[1:] or RECIPES:
        _, experiment = parse([f"--config={recipe}"])
        experiment, sources, _ = videos.find(experiment, likely(recipe) or "k400", 0, ())
        for sizes in MESHES:
            mesh = config.Mesh(**sizes)
            prepared = estimate.prepare(dataclasses.replace(experiment, mesh=mesh), sources, fleet)
            held = memory.held(prepared, run.batch_shapes(prepared))
            parts = held.parameters, held.optimiser, held.average, held.gradients, held.batch
            shape = ", ".join(f"{axis} {n}" for axis, n in sizes.items() if n > 1)
            sizes_in_gb = " | ".join(f"{part / 1e9:.3f} GB" for part in parts)
            print(f"| {recipe} | {shape} | {sizes_in_gb} |")


if __name__ == "__main__":
    main()
