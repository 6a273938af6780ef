"""Where activations lie: names for arrays inside a model, and the mesh axes that split each.

A model says what an array is, `constrain(x, "tokens")`, and never how many devices there are. The
mesh is the one that the program is compiled under, `with jax.set_mesh(mesh)`; without one nothing
is constrained. XLA's partitioner does the rest, but for attention's core, where every device runs
its own share (`over_devices`): a kernel is a black box to the partitioner, and one head after the
other is no loop over heads of other devices.

Long clips are split along "sequence": tokens by their place, so that a device has some time slots;
keys and values are gathered, queries are not.
"""

import contextlib
import contextvars
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec as P

_TARGET: contextvars.ContextVar[str] = contextvars.ContextVar("target", default="")
BATCH = ("dcn", "data", "fsdp")  # each splits the examples of a batch
Axes = str | tuple[str, ...] | None
LAYOUTS: dict[str, tuple[Axes, ...]] = {
    "clips": (BATCH,),  # [B ...]
    "frames": (BATCH, "sequence"),  # [B T H W 3]
    "tokens": (BATCH, "sequence"),  # [B N D]
    "slots": ((*BATCH, "sequence"),),  # [(B t) S D], and [(B S) t D]
}


def constrain(x: jax.Array, name: str) -> jax.Array:
    """Returns x, split over the devices as a row of LAYOUTS says; as it is without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty:
        return x
    axes = LAYOUTS[name]
    return jax.lax.with_sharding_constraint(x, P(*axes, *(None,) * (x.ndim - len(axes))))


def parts(axes: Axes) -> int:
    """Returns over how many devices some axes of the mesh split something."""
    sizes = jax.sharding.get_abstract_mesh().shape
    names = (axes,) if isinstance(axes, str) else axes or ()
    return math.prod(sizes.get(name, 1) for name in names)


def alone() -> bool:
    """Returns whether one device does it all."""
    return parts(tuple(jax.sharding.get_abstract_mesh().shape)) == 1


def platform() -> str:
    """Returns what the program is meant for: "cpu", "gpu" or "tpu"."""
    return _TARGET.get() or compiler()


def compiler() -> str:
    """Returns whose compiler is given the program: what it is meant for, but for `as_if_for`."""
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else mesh.abstract_device
    return device.platform if device is not None else jax.default_backend()


@contextlib.contextmanager
def as_if_for(target: str) -> Iterator[None]:
    """Lets programs be traced as another platform's, whose compiler is not here."""
    token = _TARGET.set(target)
    try:
        yield
    finally:
        _TARGET.reset(token)


def of_attention(name: str, rows: int) -> list[tuple[Axes, ...]]:
    """Returns the mesh axes that split queries, keys and values [B rows heads n head_dim].

    Args:
      name: of the tokens that they were made of, a row of LAYOUTS.
      rows: how many there are of what attention does not cross, such as slots.
    """
    batch = LAYOUTS[name][0]
    if len(LAYOUTS[name]) == 1:  # whole sequences
        return [(batch, None, "tensor", None, None)] * 3
    if rows > 1:
        return [(batch, "sequence", "tensor", None, None)] * 3
    gathered = (batch, None, "tensor", None, None)
    return [(batch, None, "tensor", "sequence", None), gathered, gathered]


def over_devices(
    function: Callable[..., jax.Array], arrays: Sequence[jax.Array], places: Sequence[tuple]
) -> jax.Array:
    """Returns what a function makes of the arrays, where every device does its own share.

    Args:
      function: of one share of each array; what it returns lies as the first of them.
      arrays: what cannot be shared equally is filled up with zeros, which the function must bear.
      places: for each of them the mesh axes that split each of its axes.
    """
    if alone():
        return function(*arrays)
    specs, filled = [], []
    for x, place in zip(arrays, places, strict=True):
        axes = tuple(
            # Heads that cannot be shared are whole on every device.
            None if axis == "tensor" and n % parts(axis) else axis
            for n, axis in zip(x.shape, place, strict=True)
        )
        missing = [(0, -n % parts(axis)) for n, axis in zip(x.shape, axes, strict=True)]
        filled.append(jnp.pad(x, missing) if any(more for _, more in missing) else x)
        specs.append(P(*axes))
    shared = jax.shard_map(function, in_specs=tuple(specs), out_specs=specs[0], check_vma=False)
    return shared(*filled)[tuple(slice(n) for n in arrays[0].shape)]
