"""Every test runs on 8 CPU devices, with shapes checked, and compiles each program once ever."""

import pathlib
import signal

import jax
from jaxtyping import install_import_hook

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update(
    "jax_compilation_cache_dir", str(pathlib.Path(__file__).parents[1] / ".cache/jax")
)
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)

ARRAYS = ["data.augment", "data.colour", "data.randaugment", "models", "objectives"]
install_import_hook([f"vivit_jax.{part}" for part in ARRAYS], "beartype.beartype")
