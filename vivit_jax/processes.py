"""Joins the processes of one run, where the environment says that there are several.

- JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID: an explicit address;
- SLURM, when a job step (what srun starts) has more than one task; a batch script alone is none;
- a TPU slice of several hosts, listed in TPU_PROCESS_ADDRESSES or TPU_WORKER_HOSTNAMES.

Must run before anything asks JAX for its devices.
"""

import os
from collections.abc import Mapping
from typing import Any

from vivit_jax.errors import InputError

_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def how_to_join(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the arguments of jax.distributed.initialize; None where this process is alone.

    Raises:
      InputError: a variable is missing, is not a number, or there is no such process.
    """
    if _EXPLICIT[0] in environment:
        missing = [name for name in _EXPLICIT if not environment.get(name)]
        if missing:
            raise InputError(f"{_EXPLICIT[0]} is set, so set {' and '.join(missing)} too.")
        try:
            count, index = (int(environment[name]) for name in _EXPLICIT[1:])
        except ValueError as error:
            raise InputError(f"{_EXPLICIT[1]} or {_EXPLICIT[2]}: {error}.") from error
        if not 0 <= index < count:
            raise InputError(
                f"{_EXPLICIT[2]} = {index}; expected 0 to {count - 1}, by {_EXPLICIT[1]} = {count}."
            )
        return {
            "coordinator_address": environment[_EXPLICIT[0]],
            "num_processes": count,
            "process_id": index,
        }
    slurm = "SLURM_STEP_NODELIST" in environment and environment.get("SLURM_NTASKS", "1") != "1"
    hosts = (environment.get(n, "") for n in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"))
    return {} if slurm or any("," in names for names in hosts) else None


def join() -> None:
    """Joins the other processes of this run, if there are any."""
    arguments = how_to_join(os.environ)
    if arguments is not None:
        import jax

        jax.distributed.initialize(**arguments)
