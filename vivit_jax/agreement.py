"""What all processes of a run must have alike, compared before anything is compiled.

Each compares itself with the first process, and those that differ say in what. So every process
ends by the same message, and little is said however many there are.
"""

import contextlib
import hashlib
import importlib.metadata
import json
import pathlib
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from vivit_jax.errors import InputError, listed
from vivit_jax.processes import HEARTBEAT, barrier, named, together, told_by

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")
_STALE = 60.0  # seconds for which a network disk may show what it was before
_ALIKE = "Start all with the same command, from the same code and libraries."


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
    client, index, count = together()
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
        client.key_value_set(f"{key}/differ/{index}", listed(differences))
    barrier(f"{what}, compared")
    found = told_by(client, f"{key}/differ")
    if found:
        lines = {text: [n for n in sorted(found) if found[n] == text] for text in found.values()}
        raise InputError(
            f"The processes disagree on {what}. Compared with {named(client, [0])}:\n"
            + "\n".join(f"{named(client, n)}:\n{text}" for text, n in lines.items())
            + f"\n{advice}"
        )


def agree_on_command(options: Mapping[str, Any]) -> None:
    """Returns when all processes run the same command, by the same code and libraries.

    Args:
      options: of the command, by section.

    Raises:
      InputError: names the processes that differ, and the options, files or libraries.
    """
    if together()[2] > 1:
        told = {**options, "code": code(), "version": libraries()}
        agree("the command and its code", told)


def code() -> dict[str, str]:
    """Returns a digest of each file of this package."""
    package = pathlib.Path(__file__).parent
    return {
        str(file.relative_to(package.parent)): _digest(file.read_bytes())
        for file in sorted(package.rglob("*.py"))
    }


def libraries() -> dict[str, str]:
    """Returns the versions of those that decide what is computed and saved."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def check_shared(folder: pathlib.Path) -> None:
    """Refuses a folder that is not the same on all processes.

    Args:
      folder: of one path everywhere; made where it is missing.

    Raises:
      InputError: names the processes that do not see what the first wrote there.
    """
    _, index, count = together()
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


def _from_first(name: str, say: Callable[[], str]) -> str:
    """Returns what the first process says, for which the others wait; all do this together."""
    client, index, _ = together()
    if not index:
        client.key_value_set(f"vivit_jax/first/{name}", say())
    return client.blocking_key_value_get(f"vivit_jax/first/{name}", 1000 * HEARTBEAT)


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
