"""A command starts itself again once, with the arguments that it was given, or not at all."""

import os
import subprocess
import sys

import pytest

from vivit_jax import huge_pages

PROGRAM = """
import os, sys
from vivit_jax import huge_pages
print(os.getpid())
huge_pages.ask()
print(os.environ["GLIBC_TUNABLES"], sys.argv[1:])
"""


@pytest.fixture
def clean():
    """The environment of a machine without accelerators that was told nothing."""
    kept = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    return {**kept, "JAX_PLATFORMS": "cpu"}


def test_a_command_starts_again_once_as_the_same_process(clean):
    if not huge_pages.helps(clean):
        pytest.skip("this system has no huge pages to ask for")
    command = [sys.executable, "-c", PROGRAM, "a b", "--c=d"]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, check=True)
    first, second, told = done.stdout.splitlines()
    assert first == second
    assert told == "glibc.malloc.hugetlb=1 ['a b', '--c=d']"


@pytest.mark.parametrize(
    "told", [{"GLIBC_TUNABLES": "glibc.malloc.check=3"}, {"JAX_PLATFORMS": "cuda"}]
)
def test_a_user_who_said_otherwise_and_accelerators_are_left_alone(told, clean, monkeypatch):
    monkeypatch.setattr(huge_pages, "_ACCELERATORS", ("/proc/self",))
    assert not huge_pages.helps({**clean, **told})


@pytest.mark.parametrize("system", ["[always] madvise never", "always madvise [never]", None])
def test_a_system_that_cannot_be_asked_is_not(system, clean, tmp_path, monkeypatch):
    file = tmp_path / "enabled"
    if system:
        file.write_text(system)
    monkeypatch.setattr(huge_pages, "_SYSTEM", file)
    assert not huge_pages.helps(clean)
