"""Every test runs on 8 CPU devices, with shapes checked, and compiles each program once ever."""

import os
import pathlib
import signal
import sys

import jax
import pytest
from jaxtyping import install_import_hook

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
# Half of the time to compile; the processes that tests start read it too.
jax.config.update("jax_disable_most_optimizations", True)
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir", str(pathlib.Path(__file__).parents[1] / ".cache/jax")
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

ARRAYS = ["data.augment", "data.colour", "data.randaugment", "models", "objectives"]
install_import_hook([f"vivit_jax.{part}" for part in ARRAYS], "beartype.beartype")


@pytest.fixture(scope="session")
def tiny_videos(tmp_path_factory) -> pathlib.Path:
    """Returns a folder of videos of two classes of noise, a and b."""
    from faults import runs

    return runs.videos(tmp_path_factory.mktemp("videos"), 8, 2)


@pytest.fixture(scope="session")
def tiny_run(tiny_videos, tmp_path_factory) -> pathlib.Path:
    """Returns the workdir of a run on tiny_videos, for commands to use."""
    import tiny

    from vivit_jax import train

    workdir = tmp_path_factory.mktemp("run")
    given = {"data": {"root": str(tiny_videos)}, "train": {"evaluate": False}}
    train.run(tiny.experiment(**given), workdir)
    return workdir


@pytest.fixture
def command_of(tiny_run, monkeypatch, capsys):
    """Returns what makes a function of a command: its exit code and what it said, of tiny_run."""
    from vivit_jax import terminal

    def of(module):
        def run(*arguments):
            given = [module.__name__, "--checkpoint", str(tiny_run), *map(str, arguments)]
            monkeypatch.setattr(sys, "argv", given)
            code = terminal.run(module.main)
            return code, capsys.readouterr()

        return run

    return of
