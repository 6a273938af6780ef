"""Devices that are not here: what a step is compiled for when nothing runs.

TPU programs are compiled by the TPU's own compiler where libtpu is installed: it needs no TPU, and
what it says of memory is what a TPU would say. Everything else is compiled for fake CPU devices,
with the layers as accelerators run them: the partitioner is the same, so what is sharded and sent
is nearly the same, but temporaries are only similar, and bfloat16 is widened to float32 in places.
"""

import importlib.util
import math
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from vivit_jax.errors import InputError
from vivit_jax.hardware import CHIPS, Chip
from vivit_jax.options import choose

TPUS = ("v5e", "v5p", "v6e")  # whose chips are one device each
FLAT = ("v5e", "v6e")  # tori of two axes; the others' have three


class Fleet(NamedTuple):
    """Devices to compile for.

    Attributes:
      kind: a row of CHIPS.
      devices: as JAX counts them.
      target: what programs are traced for; see layout.as_if_for.
      compiler: in words.
    """

    kind: str
    devices: Sequence[Any]
    target: str
    compiler: str

    @property
    def chip(self) -> Chip:
        """The row of CHIPS."""
        return CHIPS[self.kind]

    @property
    def own_compiler(self) -> bool:
        """Whether what the compiler says of memory is what the devices would say."""
        return self.target == self.devices[0].platform


def find(kind: str, count: int, slices: int = 1) -> Fleet:
    """Returns so many devices of a kind, none of which is here.

    Must be called before anything asks JAX for its devices.

    Args:
      kind: a row of CHIPS.
      count: of devices, in all.
      slices: of TPUs that they are in, equally.

    Raises:
      InputError: there is no such kind, or no slice of so many chips.
    """
    choose("--kind", kind, CHIPS)
    if count < 1 or count % slices:
        raise InputError(
            f"--devices={count}; expected a number above 0 that config.mesh.dcn = {slices} divides."
        )
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", count)
    if kind not in TPUS:
        target = "tpu" if CHIPS[kind].kind.startswith("TPU") else "gpu"
        return Fleet(kind, jax.devices(), target, "XLA for CPUs, on fake devices")
    shape = slice_shape(kind, count // slices)
    if importlib.util.find_spec("libtpu") is None:
        note = "XLA for CPUs, on fake devices (pip install libtpu compiles for real TPUs)"
        return Fleet(kind, jax.devices(), "tpu", note)
    from jax.experimental import topologies

    # Nobody is to be asked what TPU this machine has.
    asked = {"TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_HOSTNAMES": "localhost"}
    for name, value in {**asked, "TPU_ACCELERATOR_TYPE": f"{kind}-{count}"}.items():
        os.environ.setdefault(name, value)
    sides = [int(n) for n in shape.split("x")]
    few = {"chips_per_host_bounds": (*sides, 1)[:3]} if count < 4 * slices else {}
    name = f"{kind}:{shape}"
    topology = topologies.get_topology_desc(name, "tpu", num_slices=slices, **few)
    return Fleet(kind, topology.devices, "tpu", f"XLA for TPUs, {slices} x {name}")


def slice_shape(kind: str, chips: int) -> str:
    """Returns the shape of a slice of TPUs, such as "4x8".

    Raises:
      InputError: there is none of so many chips.
    """
    most = CHIPS[kind].together
    if chips > most or chips & (chips - 1):
        raise InputError(
            f"--devices: a slice of {chips} chips of {kind} is not known here; expected a power of "
            f"2, at most {most}. More slices are config.mesh.dcn."
        )
    twos = chips.bit_length() - 1
    axes = 2 if kind in FLAT else 3
    sides = [2 ** ((twos + i) // axes) for i in range(axes)]
    if axes == 3 and twos < 4:  # 2x2x1, 2x2x2: a host's own chips first
        sides = [2 ** (twos > i) for i in range(2)] + [2 ** max(0, twos - 2)]
    assert math.prod(sides) == chips
    return "x".join(map(str, sides))
