"""Checkpoints of small states, for tests that do them harm."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from vivit_jax.checkpoint import Checkpoints


def state_of(step: int, rows: int = 16) -> dict:
    """Returns a state on eight devices, of which no two steps have the same."""
    mesh = jax.make_mesh((8,), ("x",))
    draw = np.random.default_rng(step).normal
    split, whole = (NamedSharding(mesh, PartitionSpec(*spec)) for spec in (("x",), ()))
    return {
        "step": jax.device_put(jnp.int32(step), whole),
        "params": {
            "kernel": jax.device_put(draw(size=(rows, 96)).astype(np.float32), split),
            "bias": jax.device_put(jnp.asarray(draw(size=96), jnp.bfloat16), whole),
        },
        "opt_state": [jax.device_put(draw(size=(rows, 96)).astype(np.float32), split)],
    }


def target_of(state: dict) -> dict:
    """Returns what a state is restored by."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def save(workdir: pathlib.Path, *steps: int, **options) -> pathlib.Path:
    """Returns a workdir in which these steps are saved."""
    with Checkpoints(workdir, **{"keep": 10, **options}) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step))
    return workdir


def equal(found, state) -> bool:
    """Returns whether two states are the same, bit for bit."""
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(state), strict=True)
    return all(
        x.dtype == y.dtype and np.asarray(x).tobytes() == np.asarray(y).tobytes() for x, y in pairs
    )
