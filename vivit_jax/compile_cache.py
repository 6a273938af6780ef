"""Compiled programs, kept in the workdir, so that a run that starts again need not compile again.

What JAX is told elsewhere, such as by JAX_COMPILATION_CACHE_DIR or JAX_ENABLE_COMPILATION_CACHE,
goes first. A file that a crash left half written is passed over by JAX, with a warning.
"""

import hashlib
import pathlib
import re

import jax

FOLDER = "compiled"
_LEAST_SECONDS = 0.1  # of compiling, from which a program is worth a file


def keep_in(workdir: pathlib.Path) -> None:
    """Lets JAX keep compiled programs in a workdir, unless it was told where to."""
    if jax.config.values["jax_compilation_cache_dir"]:
        return
    folder = workdir / FOLDER
    if jax.default_backend() == "cpu":  # programs fit only processors with the same instructions
        folder /= _instructions()
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _instructions() -> str:
    """Returns a name for the set of instructions that this machine's processors know."""
    try:
        text = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    known = re.findall(r"^(?:flags|Features|model name)\s*:.*$", text, re.MULTILINE)
    return hashlib.blake2b("\n".join(sorted({*known})).encode(), digest_size=6).hexdigest()
