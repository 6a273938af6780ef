"""What accelerators can do, by their makers' figures: peaks that a step is measured against."""

import dataclasses

import jax


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
    """

    kind: str
    bfloat16: float
    float32: float
    memory: float
    bandwidth: float
    link: float
    network: float

    def flops(self, dtype: str) -> float:
        """Returns the peak for a model of this dtype, FLOP/s."""
        return self.bfloat16 if dtype == "bfloat16" else self.float32


CHIPS = {
    "v4": Chip("TPU v4", 275e12, 275e12, 32e9, 1228e9, 150e9, 6e9),
    "v5e": Chip("TPU v5 lite", 197e12, 197e12, 16e9, 819e9, 100e9, 3e9),
    "v5p": Chip("TPU v5", 459e12, 459e12, 95e9, 2765e9, 300e9, 6e9),
    "v6e": Chip("TPU v6 lite", 918e12, 918e12, 32e9, 1640e9, 224e9, 12e9),
    "a100": Chip("NVIDIA A100", 312e12, 156e12, 80e9, 2039e9, 300e9, 25e9),
    "h100": Chip("NVIDIA H100", 989e12, 495e12, 80e9, 3350e9, 450e9, 50e9),
    "h200": Chip("NVIDIA H200", 989e12, 495e12, 141e9, 4800e9, 450e9, 50e9),
    "b200": Chip("NVIDIA B200", 2250e12, 1100e12, 180e9, 8000e9, 900e9, 50e9),
    "l4": Chip("NVIDIA L4", 121e12, 60e12, 24e9, 300e9, 32e9, 6e9),
}


def chip_of(device: jax.Device) -> Chip | None:
    """Returns the row of a device; None where it has none, such as a CPU."""
    found = [chip for chip in CHIPS.values() if device.device_kind.startswith(chip.kind)]
    return max(found, key=lambda chip: len(chip.kind), default=None)
