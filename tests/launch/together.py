"""What test_together.py runs in each of three processes of two devices: prints what came of it."""

import json
import sys

import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from vivit_jax import agreement, processes, sharding
from vivit_jax.errors import InputError
from vivit_jax.terminal import run

BATCH = 12


def mesh_of(order, data, tensor):
    """Returns a mesh of devices in this order, which need not be that of the processes."""
    shape = {"dcn": 1, "data": data, "fsdp": 1, "sequence": 1, "tensor": tensor}
    devices = np.array(jax.devices())[list(order)].reshape(*shape.values())
    return Mesh(devices, tuple(shape), axis_types=(AxisType.Auto,) * len(shape))


def share(mesh):
    """Returns the rows that this process gives and counts, and whether they arrive in place."""
    rows, counted = sharding.rows_of(mesh, BATCH)
    whole = np.random.default_rng(0).normal(size=(BATCH, 3))
    batch = sharding.to_devices({"x": whole[rows]}, mesh)["x"]
    right = batch.shape == whole.shape and all(
        (np.asarray(shard.data) == whole[shard.index].astype(np.float32)).all()
        for shard in batch.addressable_shards
    )
    return {"rows": rows.tolist(), "counted": counted.tolist(), "right": right}


def error_of(function, *arguments):
    """Returns the error that a call ends in, in words."""
    try:
        return str(function(*arguments))
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def fail_alone():
    """Ends the second process by what a user gave, while the others wait for it."""
    processes.join()
    if jax.process_index() == 1:
        raise InputError("this cannot be used")
    processes.barrier("never")


def main():
    processes.join()
    index = jax.process_index()
    scattered = mesh_of([0, 2, 4, 1, 3, 5], 6, 1)
    found = {
        "near": share(mesh_of(range(6), 6, 1)),
        "scattered": share(scattered),
        "shared": share(mesh_of([0, 2, 4, 1, 3, 5], 3, 2)),
        "halves": error_of(sharding.rows_of, scattered, 3, 2),
        "same": error_of(agreement.agree, "something", {"config": {"data": {"frames": 8}}}),
        "other": error_of(
            agreement.agree,
            "the config",
            {"config": {"seed": 0, "data": {"frames": 8 + index // 2}}},
        ),
    }
    if index < 2:
        found["late"] = error_of(processes.barrier, "restored", 2.0)
    processes.barrier("end")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(run(fail_alone if sys.argv[1:] == ["fail"] else main))
