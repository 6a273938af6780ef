"""A decoding process limits itself, for good."""

import subprocess
import sys

from vivit_jax.data.limits import environment

PROGRAM = """
import os, resource, sys
import numpy as np
from vivit_jax.data.limits import confine
confine(300_000_000)
np.ones(200_000_000, np.uint8)
failed = []
file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
for take in (lambda: np.ones(400_000_000, np.uint8), lambda: os.write(file, b"x")):
    try:
        take()
    except (MemoryError, OSError) as error:
        failed.append("MemoryError" if isinstance(error, MemoryError) else "OSError")
for limit in (resource.RLIMIT_AS, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
    soft, hard = resource.getrlimit(limit)
    assert soft == hard != resource.RLIM_INFINITY
print(*failed)
"""


def test_memory_and_files_end_where_they_must(tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "file")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.stdout.split() == ["MemoryError", "OSError"], done.stderr


def test_nothing_secret_is_handed_on():
    whole = {"PATH": "/bin", "LC_ALL": "C", "HOME": "/h", "HOMEBREW_GITHUB_API_TOKEN": "x"}
    whole |= {"PYTHONPATH": "/more", "PYTHON_KEYRING": "x", "OMP_NUM_THREADS": "1", "LC": "x"}
    kept = {"PATH": "/bin", "LC_ALL": "C", "HOME": "/h", "OMP_NUM_THREADS": "1"}
    assert environment(whole, "/here") == {**kept, "PYTHONPATH": "/here:/more"}
