"""Where the processes of a run meet before JAX joins them, so that one that never comes is named.

JAX itself ends a process whose peers do not all arrive, by an abort that names none of them. So the
first process listens where JAX's own service is about to listen, at the coordinator's port, and the
others tell it who and where they are: a line of JSON each way. When all are there, or the time is
over, every process is told which are missing.
"""

import contextlib
import json
import logging
import os
import socket
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vivit_jax.errors import Fault, InputError

log = logging.getLogger(__name__)
PATIENCE = 300.0  # seconds that a process is waited for
_NEWS = 10.0  # seconds between lines about who is missing
_RETRY = 0.2  # seconds until the first process is looked for again
_LONGEST = 4096  # bytes that a process may say


class MissingProcess(Fault):
    """Other processes of the run are not there; the message names them."""


def meet(address: str, count: int, index: int, seconds: float = PATIENCE) -> None:
    """Returns when all processes of the run are there.

    Args:
      address: host:port of the first process.
      count: processes.
      index: this process's number.
      seconds: to wait for the others.

    Raises:
      MissingProcess: some did not come.
      InputError: the port is taken, a number is given twice, or the counts differ.
    """
    if count == 1:
        return
    deadline = time.monotonic() + seconds
    if index:
        answer = _arrive(
            address,
            {"process": index, "count": count, "host": socket.gethostname()},
            deadline,
            seconds,
        )
    else:
        answer = _receive(address, count, deadline)
    if answer["refused"]:
        raise InputError(answer["refused"])
    if answer["missing"]:
        here = ", ".join(f"{number} ({host})" for number, host in answer["here"])
        raise MissingProcess(
            f"Of {count} processes, {listed(answer['missing'])} did not come to {address} within "
            f"{seconds:.0f} s; these did: {here}. Start all of them, with the same "
            "JAX_COORDINATOR_ADDRESS, and see what the missing ones say."
        )


def listed(numbers: Sequence[int]) -> str:
    """Returns the numbers of processes in words."""
    return f"process{'es' * (len(numbers) > 1)} {', '.join(map(str, numbers))}"


def _arrive(
    address: str, told: Mapping[str, Any], deadline: float, seconds: float
) -> Mapping[str, Any]:
    """Returns what the first process answers, when all are there or none are waited for."""
    host, port = address.rsplit(":", 1)
    while True:
        try:
            connection = socket.create_connection((host.strip("[]"), int(port)), timeout=_NEWS)
            if connection.getsockname() != connection.getpeername():  # a port can meet itself
                break
            connection.close()
        except OSError as error:  # it is not there yet, or its name is not known yet
            if time.monotonic() > deadline:
                raise MissingProcess(
                    f"Process 0 is missing: {address} does not answer ({error}) after "
                    f"{seconds:.0f} s. Start it there, or mend JAX_COORDINATOR_ADDRESS."
                ) from error
        time.sleep(_RETRY)
    with connection, contextlib.suppress(OSError):
        connection.settimeout(2 * seconds)  # its patience may have begun later
        connection.sendall(json.dumps(told).encode() + b"\n")
        with connection.makefile("rb") as answers:
            if answer := answers.readline():
                return json.loads(answer)
    raise MissingProcess(f"Process 0 at {address} went away before all processes were there.")


def _receive(address: str, count: int, deadline: float) -> Mapping[str, Any]:
    """Returns, and tells all that came, who came and who is missing."""
    here, refused = {0: socket.gethostname()}, ""
    connections: dict[int, socket.socket] = {}
    with contextlib.ExitStack() as stack:
        with _listen(address) as server:
            news = time.monotonic() + _NEWS
            while len(here) < count and not refused and time.monotonic() < deadline:
                if time.monotonic() > news:
                    news += _NEWS
                    log.info("Waiting at %s for %s.", address, listed(_away(here, count)))
                with contextlib.suppress(TimeoutError):
                    connection = stack.enter_context(server.accept()[0])
                    told = _hear(connection)
                    for number in [n for n, c in connections.items() if _gone(c)]:
                        del here[number], connections[number]  # perhaps to be started again
                    if told:
                        refused = _refusal(told, count, here)
                        here.setdefault(told["process"], told["host"])
                        connections[-1 if refused else told["process"]] = connection
        # No longer listened at, the port is free for JAX's service before anybody looks for it.
        answer = {"refused": refused, "missing": _away(here, count), "here": sorted(here.items())}
        for connection in connections.values():
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(answer).encode() + b"\n")
                connection.recv(1)  # it closes first, so that nothing lingers at the port
    return answer


def _listen(address: str) -> socket.socket:
    """Returns the first process's ear.

    Raises:
      InputError: the port is taken.
    """
    # Where the port that others are told is not the one to listen at, JAX reads this too.
    port = int(os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", address).rsplit(":", 1)[1])
    dual = socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    try:
        server = socket.create_server(("", port), family=family, dualstack_ipv6=dual, backlog=1024)
    except OSError as error:
        raise InputError(
            f"Port {port} of JAX_COORDINATOR_ADDRESS = {address} cannot be listened at here, where "
            f"process 0 runs: {error}. Give another."
        ) from error
    server.settimeout(1.0)
    return server


def _hear(connection: socket.socket) -> dict[str, Any] | None:
    """Returns what a process says of itself; None for a stranger."""
    connection.settimeout(_NEWS)
    try:
        with connection.makefile("rb") as lines:
            told = json.loads(lines.readline(_LONGEST))
        return told if told.keys() == {"process", "count", "host"} else None
    except (OSError, ValueError, AttributeError):
        return None


def _refusal(told: Mapping[str, Any], count: int, here: Mapping[int, str]) -> str:
    """Returns why a process that came is one too many; "" for none."""
    number, host = told["process"], told["host"]
    if told["count"] != count:
        return (
            f"Process {number} ({host}) is one of {told['count']}, and process 0 ({here[0]}) one "
            f"of {count}; give all the same JAX_NUM_PROCESSES."
        )
    if number in here:
        return (
            f"Two processes have the number {number}, on {here[number]} and on {host}; give each "
            "its own JAX_PROCESS_ID."
        )
    return ""


def _away(here: Collection[int], count: int) -> list[int]:
    """Returns who did not come."""
    return [number for number in range(count) if number not in here]


def _gone(connection: socket.socket) -> bool:
    """Returns whether a process that waits for its answer has ended."""
    connection.setblocking(False)
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(_NEWS)
