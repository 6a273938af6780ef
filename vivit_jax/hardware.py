"""What accelerators can do, by their makers' figures: peaks that a step is measured against.

TPUs: the pages "TPU v4", "v5e", "v5p" and "v6e" of Google Cloud's documentation, whose bandwidth of
the links between chips is of both directions; of v4's they give all-reduce's in a pod, and of its
network nothing, so that is v5p's. GPUs: NVIDIA's data sheets of the SXM modules and of the L4,
whose peaks "with sparsity" are twice what dense products can reach, and whose NVLink is of both
directions; and a network of one port a GPU, as in NVIDIA's own DGX machines. Nothing here was
measured.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Chip:
    """One device, as JAX counts them.

    Attributes:
      kind: what jax.Device.device_kind calls it, or starts with.
      bfloat16: peak of dense matrix products, FLOP/s; of float16 where there is no bfloat16.
      float32: the same for what JAX does by default with float32: TPUs round factors to bfloat16,
        NVIDIA's to TensorFloat-32 where they have it.
      memory: bytes.
      bandwidth: of its memory, bytes a second.
      link: to the other devices of its slice or node, bytes a second in one direction, over all of
        its links.
      network: to other slices or nodes, bytes a second in one direction; of a usual host, shared by
        its devices equally.
      together: devices that links join: of the largest slice, or of a usual node.
    """

    kind: str
    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    link: float
    network: float
    together: int

    def flops(self, dtype: str) -> float:
        """Returns the peak for a model of this dtype, FLOP/s."""
        return self.bfloat16 if dtype == "bfloat16" else self.float32


GIB = 2.0**30
CHIPS = {
    "v4": Chip("TPU v4", 275e12, 275e12, 32 * GIB, 1200e9, 268e9, 6e9, 4096),
    "v5e": Chip("TPU v5 lite", 197e12, 197e12, 16 * GIB, 819e9, 200e9, 3.1e9, 256),
    "v5p": Chip("TPU v5", 459e12, 459e12, 95 * GIB, 2765e9, 600e9, 6.2e9, 6144),
    "v6e": Chip("TPU v6 lite", 918e12, 918e12, 32 * GIB, 1640e9, 400e9, 12.5e9, 256),
    "a100": Chip("NVIDIA A100", 312e12, 156e12, 80e9, 2039e9, 300e9, 25e9, 8),
    "h100": Chip("NVIDIA H100", 989e12, 494e12, 80e9, 3350e9, 450e9, 50e9, 8),
    "h200": Chip("NVIDIA H200", 989e12, 494e12, 141e9, 4800e9, 450e9, 50e9, 8),
    "b200": Chip("NVIDIA B200", 2250e12, 1100e12, 180e9, 8000e9, 900e9, 50e9, 8),
    "l4": Chip("NVIDIA L4", 121e12, 60e12, 24e9, 300e9, 32e9, 3.1e9, 8),
}


def chip_of(device: Any) -> Chip | None:
    """Returns the row of a device; None where it has none, such as a CPU."""
    found = [chip for chip in CHIPS.values() if device.device_kind.startswith(chip.kind)]
    return max(found, key=lambda chip: len(chip.kind), default=None)
