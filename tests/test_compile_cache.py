"""What was compiled once is not compiled again, and JAX's own settings go first."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import pathlib, sys
import jax, jax.numpy as jnp
from vivit_jax import compile_cache
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name.endswith("cache_hits")))
compile_cache.keep_in(pathlib.Path(sys.argv[1]))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
jax.jit(lambda x: jnp.sin(x) @ x)(jnp.ones((8, 8)))
print(sum(hits) > 0)
"""


def hit(workdir, **environment):
    """Returns whether a process finds its program in the cache of a workdir."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment = {**clean, "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", PROGRAM, str(workdir)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip() == "True"


def test_a_second_process_finds_what_the_first_compiled(tmp_path):
    assert [hit(tmp_path) for _ in range(2)] == [False, True]


@pytest.mark.parametrize("kept", ["whole", "cut"])
def test_a_file_that_a_crash_cut_is_passed_over(kept, tmp_path):
    assert not hit(tmp_path)
    for file in (tmp_path / "compiled").rglob("*-cache"):
        content = file.read_bytes()
        file.write_bytes(content if kept == "whole" else content[: len(content) // 2])
    assert hit(tmp_path) == (kept == "whole")


def test_what_the_environment_says_goes_first(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    hit(tmp_path / "run", JAX_COMPILATION_CACHE_DIR=str(elsewhere))
    assert any(elsewhere.iterdir())
    assert not (tmp_path / "run").exists()
