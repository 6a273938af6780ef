"""What a decoding process may take of its machine: it limits itself before it opens a video.

Files are made by strangers, and FFmpeg reads them in C. So whatever becomes of a decoding process,
it writes no file, leaves no core dump, takes no more memory than was said, is what the kernel ends
first where memory runs out, and is given nothing of the environment but what Python runs by: access
keys stay with the training process. Limits are lowered for good: nothing that a file does to the
process can raise them again.
"""

import contextlib
import os
import pathlib
import resource
from collections.abc import Mapping

import vivit_jax

PACKAGE_ROOT = pathlib.Path(vivit_jax.__file__).parents[1]  # where it is imported from
MEMORY = 4_000_000_000  # bytes for a video; docs/data.md says what that is enough for
_ENDED_FIRST = "500"  # of -1000 to 1000, where memory runs out
_KEPT = frozenset(
    ("PATH", "HOME", "TMPDIR", "TZ", "LANG", "VIRTUAL_ENV", "LD_LIBRARY_PATH", "LD_PRELOAD")
    + ("DYLD_LIBRARY_PATH", "GLIBC_TUNABLES", "MALLOC_ARENA_MAX", "OMP_NUM_THREADS")
    + ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHOME", "PYTHONNOUSERSITE", "PYTHONUTF8")
    + ("PYTHONSAFEPATH", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONHASHSEED")
)


def confine(memory: int) -> None:
    """Returns with this process limited.

    Args:
      memory: bytes that it may take beyond what it has.
    """
    with contextlib.suppress(OSError):  # Linux alone has it
        pathlib.Path("/proc/self/oom_score_adj").write_text(_ENDED_FIRST, encoding="ascii")
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_FSIZE, 0)  # its shared memory has its size already
    with contextlib.suppress(OSError):
        pages = int(pathlib.Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + memory)


def environment(whole: Mapping[str, str], package_root: str) -> dict[str, str]:
    """Returns the environment of a decoding process.

    Args:
      whole: of this process.
      package_root: where this package is imported from.
    """
    kept = {name: text for name, text in whole.items() if name in _KEPT or name[:3] == "LC_"}
    paths = [package_root, *filter(None, [whole.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def _lower(which: int, limit: int) -> None:
    """Lowers a limit, both the one that counts and the one up to which it could be raised."""
    _, most = resource.getrlimit(which)
    limit = limit if most == resource.RLIM_INFINITY else min(limit, most)
    resource.setrlimit(which, (limit, limit))
