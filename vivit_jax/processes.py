"""Several processes as one run: they join, agree on what they do, wait for each other, and end.

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
import hashlib
import importlib.metadata
import json
import os
import pathlib
import signal
import socket
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from vivit_jax.errors import InputError
from vivit_jax.meeting import PATIENCE, MissingProcess, meet

T = TypeVar("T")
HEARTBEAT = 30  # seconds of silence after which a process is dead
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_INDEX_OF_JOB = "JOB_COMPLETION_INDEX"
_GOODBYE = 5.0  # seconds in which processes that fail alike do so
_SHOWN = 20  # differences between processes that a message lists
_STALE = 60.0  # seconds for which a network disk may show what it was before
_ALIKE = "Start all with the same command, from the same code and libraries."


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
    meet(*(arguments[name] for name in ("coordinator_address", "num_processes", "process_id")))
    jax.distributed.initialize(
        **arguments, heartbeat_timeout_seconds=HEARTBEAT, shutdown_timeout_seconds=HEARTBEAT
    )
    # JAX would take it as a notice that this machine goes away, and no process would end by it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    client, index, _ = _together()
    client.key_value_set(f"vivit_jax/host/{index}", socket.gethostname())


def barrier(name: str, seconds: float = PATIENCE) -> None:
    """Returns when all processes are here.

    Args:
      name: unlike that of any other barrier of the run.
      seconds: to wait.

    Raises:
      MissingProcess: names those that did not come.
    """
    client, index, count = _together()
    if count == 1:
        return
    client.key_value_set(f"vivit_jax/at/{name}/{index}", "")
    try:
        client.wait_at_barrier(f"vivit_jax/{name}", round(seconds * 1000))
    except Exception as error:  # time is over, or the runtime knows of a process that died
        here = _told(client, f"vivit_jax/at/{name}")
        away = [number for number in range(count) if number not in here]
        raise MissingProcess(
            f"{_named(client, away)} did not come to the point {name!r} of the run within "
            f"{seconds:.0f} s; see what they say. ({str(error).splitlines()[0]})"
        ) from error


def agree(what: str, told: Mapping[str, Any], advice: str = _ALIKE) -> None:
    """Returns when all processes were told the same; also a barrier.

    Args:
      what: is told, for the message.
      told: values by name, as deep as need be; those of the first process are held to be right.
      advice: what to do where they differ.

    Raises:
      InputError: names the processes that differ, and in what.
      MissingProcess: names those that did not come.
    """
    client, index, count = _together()
    if count == 1:
        return
    key, own = f"vivit_jax/agree/{what}", json.loads(json.dumps(_flat(told)))
    barrier(what)
    first = json.loads(_from_first(what, lambda: json.dumps(own)))
    differences = [
        f"{name} is {own.get(name)!r}, and {first.get(name)!r} there"
        for name in sorted({*first, *own})
        if own.get(name) != first.get(name)
    ]
    if differences:
        more = len(differences) - _SHOWN
        shown = differences[:_SHOWN] + [f"and {more} more"] * (more > 0)
        client.key_value_set(f"{key}/differ/{index}", "\n".join(f"  {line}" for line in shown))
    barrier(f"{what}, compared")
    found = _told(client, f"{key}/differ")
    if found:
        lines = {text: [n for n in sorted(found) if found[n] == text] for text in found.values()}
        raise InputError(
            f"The processes disagree on {what}. Compared with {_named(client, [0])}:\n"
            + "\n".join(f"{_named(client, n)}:\n{text}" for text, n in lines.items())
            + f"\n{advice}"
        )


def agree_on_command(options: Mapping[str, Any]) -> None:
    """Returns when all processes run the same command, by the same code and libraries.

    Args:
      options: of the command, by section.

    Raises:
      InputError: names the processes that differ, and the options, files or libraries.
    """
    if _together()[2] > 1:
        package = pathlib.Path(__file__).parent
        code = {
            str(file.relative_to(package.parent)): _digest(file.read_bytes())
            for file in sorted(package.rglob("*.py"))
        }
        installed = {name: importlib.metadata.version(name) for name in LIBRARIES}
        agree("the command and its code", {**options, "code": code, "version": installed})


def check_shared(folder: pathlib.Path) -> None:
    """Refuses a folder that is not the same on all processes.

    Args:
      folder: of one path everywhere; made where it is missing.

    Raises:
      InputError: names the processes that do not see what the first wrote there.
    """
    _, index, count = _together()
    if count == 1:
        return
    mark, word = folder / ".shared", ""
    if not index:
        folder.mkdir(parents=True, exist_ok=True)
        mark.write_text(uuid.uuid4().hex, encoding="ascii")
    barrier("mark")
    written = _from_first("mark", lambda: mark.read_text(encoding="ascii"))
    deadline = time.monotonic() + _STALE
    while word != written and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            word = mark.read_text(encoding="ascii")
        time.sleep(0.0 if word == written else 1.0)
    agree(
        "the workdir",
        {f"what process 0 wrote into {mark}": word},
        "It must lie on a disk that all processes share; give another --workdir.",
    )
    if not index:
        mark.unlink(missing_ok=True)


def first_alone(name: str, make: Callable[[], T]) -> T:
    """Returns what `make` makes, where the first process made it before the others look for it.

    Args:
      name: of the barrier between them.
      make: makes something on the disk that all share, or finds it there.
    """
    if _together()[1]:
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
    client, _, count = _together()
    if count > 1:
        try:
            client.wait_at_barrier("vivit_jax/left", round(1000 * _GOODBYE))
        except Exception:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    return code


def _together() -> tuple[Any, int, int]:
    """Returns the client of JAX's runtime, this process's number, and how many there are."""
    if "jax" not in sys.modules:
        return None, 0, 1
    from jax._src.distributed import global_state  # no public name gives the client

    if global_state.client is None:
        return None, 0, 1
    return global_state.client, global_state.process_id, global_state.num_processes


def _found_by_jax() -> dict[str, Any]:
    """Returns the arguments of jax.distributed.initialize that it would find out by itself."""
    from jax._src.clusters import ClusterEnv  # it tells nobody in public where it would meet

    found = ClusterEnv.auto_detect_unset_distributed_params(
        None, None, None, None, None, round(PATIENCE)
    )
    names = ("coordinator_address", "num_processes", "process_id", "local_device_ids")
    return dict(zip(names, found, strict=True))


def _from_first(name: str, say: Callable[[], str]) -> str:
    """Returns what the first process says, for which the others wait; all do this together."""
    client, index, _ = _together()
    if not index:
        client.key_value_set(f"vivit_jax/first/{name}", say())
    return client.blocking_key_value_get(f"vivit_jax/first/{name}", 1000 * HEARTBEAT)


def _told(client: Any, folder: str) -> dict[int, str]:
    """Returns what processes left in a folder of the key-value store, by their numbers."""
    with contextlib.suppress(Exception):  # there is none
        return {int(key.rsplit("/", 1)[1]): text for key, text in client.key_value_dir_get(folder)}
    return {}


def _named(client: Any, numbers: list[int]) -> str:
    """Returns processes in words, with their hosts."""
    hosts = _told(client, "vivit_jax/host")
    where = ", ".join(f"{number} ({hosts.get(number, 'unknown host')})" for number in numbers)
    return f"process{'es' * (len(numbers) > 1)} {where}"


def _flat(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Returns the leaves of nested mappings by their paths, such as config.data.frames."""
    flat = {}
    for name, value in tree.items():
        inner = (
            _flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {path + name: value}
        )
        flat |= inner
    return flat


def _digest(content: bytes) -> str:
    """Returns a few letters that tell contents apart."""
    return hashlib.blake2b(content, digest_size=8).hexdigest()
