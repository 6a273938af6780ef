"""Several processes as one run: they join, wait for each other, and end.

The environment says how many there are:

- JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID: an explicit address. In a pod of an
  indexed Kubernetes Job the last may be left to JOB_COMPLETION_INDEX, which is set there;
- SLURM, when a job step (what srun starts) has more than one task; a batch script alone is none;
- a TPU slice of several hosts, listed in TPU_PROCESS_ADDRESSES or TPU_WORKER_HOSTNAMES.

`join` must run before anything asks JAX for its devices. One that dies ends all: those that wait
for it within HEARTBEAT seconds, by the abort of JAX's runtime, and sooner where they notice that it
hung up. What one process says to another goes by the key-value store of that runtime, for which JAX
has no public name; its public collectives would have to compile, with devices that may not agree.
"""

import contextlib
import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, TypeVar

from vivit_jax.errors import InputError
from vivit_jax.meeting import PATIENCE, MissingProcess, meet

T = TypeVar("T")
HEARTBEAT = 30  # seconds of silence after which a process is dead
_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_INDEX_OF_JOB = "JOB_COMPLETION_INDEX"
_GOODBYE = 5.0  # seconds in which processes that fail alike do so
_LAST = 1.0  # seconds by which the first process, through which all speak, outlives the others


def how_to_join(environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the arguments of jax.distributed.initialize; None where this process is alone.

    They are empty where JAX itself finds them out.

    Raises:
      InputError: a variable is missing, is not a number, or there is no such process.
    """
    if _EXPLICIT[0] in environment:
        given = {name: environment.get(name, "") for name in _EXPLICIT}
        given[_EXPLICIT[2]] = given[_EXPLICIT[2]] or environment.get(_INDEX_OF_JOB, "")
        missing = [name for name in _EXPLICIT if not given[name]]
        if missing:
            raise InputError(f"{_EXPLICIT[0]} is set, so set {' and '.join(missing)} too.")
        address = given[_EXPLICIT[0]]
        if not address.rpartition(":")[2].isdigit():
            raise InputError(f"{_EXPLICIT[0]} = {address!r}; expected HOST:PORT.")
        try:
            count, index = (int(given[name]) for name in _EXPLICIT[1:])
        except ValueError as error:
            raise InputError(f"{_EXPLICIT[1]} or {_EXPLICIT[2]}: {error}.") from error
        if not 0 <= index < count:
            raise InputError(
                f"{_EXPLICIT[2]} = {index}; expected 0 to {count - 1}, by {_EXPLICIT[1]} = {count}."
            )
        return {"coordinator_address": address, "num_processes": count, "process_id": index}
    slurm = "SLURM_STEP_NODELIST" in environment and environment.get("SLURM_NTASKS", "1") != "1"
    hosts = (environment.get(n, "") for n in ("TPU_PROCESS_ADDRESSES", "TPU_WORKER_HOSTNAMES"))
    return {} if slurm or any("," in names for names in hosts) else None


def join() -> None:
    """Joins the other processes of this run, if there are any.

    Raises:
      MissingProcess: some did not come.
      InputError: what the environment says cannot be.
    """
    arguments = how_to_join(os.environ)
    if arguments is None:
        return
    import jax

    if arguments:
        # Nothing else is looked for: in a pod, that would need rights to ask for other pods.
        arguments["cluster_detection_method"] = "deactivate"
    else:
        arguments = _found_by_jax()
    # It would take SIGTERM from whoever else hears it: from the system, and from stopping.py.
    jax.config.update("jax_enable_preemption_service", False)
    meet(*(arguments[name] for name in ("coordinator_address", "num_processes", "process_id")))
    jax.distributed.initialize(
        **arguments, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=HEARTBEAT
    )
    client, index, _ = together()
    client.key_value_set(f"vivit_jax/host/{index}", socket.gethostname())


def barrier(name: str, seconds: float = PATIENCE) -> None:
    """Returns when all processes are here.

    Args:
      name: unlike that of any other barrier of the run.
      seconds: to wait.

    Raises:
      MissingProcess: names those that did not come.
    """
    client, index, count = together()
    if count == 1:
        return
    client.key_value_set(f"vivit_jax/at/{name}/{index}", "")
    try:
        client.wait_at_barrier(f"vivit_jax/{name}", round(seconds * 1000))
    except Exception as error:  # time is over, or the runtime knows of a process that died
        here = told_by(client, f"vivit_jax/at/{name}")
        away = [number for number in range(count) if number not in here]
        raise MissingProcess(
            f"{named(client, away)} did not come to the point {name!r} of the run within "
            f"{seconds:.0f} s; see what they say. ({str(error).splitlines()[0]})"
        ) from error


def first_alone(name: str, make: Callable[[], T]) -> T:
    """Returns what `make` makes, where the first process made it before the others look for it.

    Args:
      name: of the barrier between them.
      make: makes something on the disk that all share, or finds it there.
    """
    if together()[1]:
        barrier(name, 10 * PATIENCE)
        return make()
    made = make()
    barrier(name)
    return made


def leave(code: int) -> int:
    """Returns the exit code of a command that failed; ends the process where the others go on.

    An exit like any other would wait for them, and the runtime would then put its own code in place
    of this one. Where all fail alike, as by an option that cannot be, each still ends by itself.
    """
    client, _, count = together()
    if count > 1:
        try:
            client.wait_at_barrier("vivit_jax/left", round(1000 * _GOODBYE))
        except Exception:
            _exit(code)
    return code


def end(code: int) -> NoReturn:
    """Ends this process at once, whatever its threads still do, where all processes leave alike."""
    logging.disable()  # else a thread that compiles has the last word
    client, index, count = together()
    if count > 1:
        with contextlib.suppress(Exception):  # somebody does not come
            client.wait_at_barrier("vivit_jax/ended", round(1000 * _GOODBYE))
        if not index:
            time.sleep(_LAST)
    _exit(code)


def together() -> tuple[Any, int, int]:
    """Returns the client of JAX's runtime, this process's number, and how many there are."""
    if "jax" not in sys.modules:
        return None, 0, 1
    from jax._src.distributed import global_state  # no public name gives the client

    if global_state.client is None:
        return None, 0, 1
    return global_state.client, global_state.process_id, global_state.num_processes


def _exit(code: int) -> NoReturn:
    """Ends this process without a goodbye to the others."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _found_by_jax() -> dict[str, Any]:
    """Returns the arguments of jax.distributed.initialize that it would find out by itself."""
    from jax._src.clusters import ClusterEnv  # it tells nobody in public where it would meet

    found = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, round(PATIENCE)
    )
    names = ("coordinator_address", "num_processes", "process_id", "local_device_ids")
    return dict(zip(names, found, strict=True))


def told_by(client: Any, folder: str) -> dict[int, str]:
    """Returns what processes left in a folder of the key-value store, by their numbers."""
    with contextlib.suppress(Exception):  # there is none
        return {int(key.rsplit("/", 1)[1]): text for key, text in client.key_value_dir_get(folder)}
    return {}


def tell_all(name: str, text: str) -> dict[int, str]:
    """Returns what each process says, by their numbers; all do this together.

    Args:
      name: unlike that of any other barrier of the run.
      text: what this one says.
    """
    client, index, count = together()
    if count == 1:
        return {0: text}
    folder = f"vivit_jax/said/{name}"
    client.key_value_set(f"{folder}/{index}", text)
    barrier(f"said {name}")
    return told_by(client, folder)


def named(client: Any, numbers: list[int]) -> str:
    """Returns processes in words, with their hosts."""
    hosts = told_by(client, "vivit_jax/host")
    where = ", ".join(f"{number} ({hosts.get(number, 'unknown host')})" for number in numbers)
    return f"process{'es' * (len(numbers) > 1)} {where}"
