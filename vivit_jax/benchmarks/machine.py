"""What this machine is, and how fast it could be: the floors that rows are held against."""

import importlib.metadata
import os
import pathlib
import platform
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from vivit_jax.benchmarks.rounds import Measured, Row
from vivit_jax.data.pool import cores

PACKAGES = (
    *("jax", "jaxlib", "flax", "numpy", "av", "tensorflow-cpu", "tensorflow"),
    *("torch", "transformers", "decord", "opencv-python-headless", "torchcodec", "grain"),
)
_CPU_SIDE, _SIDE = 2048, 8192  # of the matrices whose product tells the machine's rate


def about() -> dict[str, Any]:
    """Returns what figures depend on: processor, cores, versions of what is installed."""
    versions = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": cores(),
        "load_before": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": versions,
    }


def in_words(about: Mapping[str, Any]) -> str:
    """Returns `about` in a line."""
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['processor']}, {about['cores']} cores, load {about['load_before']} before; "
        f"Python {about['python']}, {versions}"
    )


def _processor() -> str:
    """Returns the name of the processor."""
    try:
        found = re.search(r"model name\s*:\s*(.*)", pathlib.Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor()


class Products:
    """Large matrix products on a device, called as a row; remembers the best."""

    OF = "matrix products"

    def __init__(self, dtype: str, devices: int = 1):
        """Makes the matrices.

        Args:
          dtype: of theirs.
          devices: that the rows which are held against the rate run on.
        """
        import jax
        import jax.numpy as jnp

        self._side = _CPU_SIDE if jax.default_backend() == "cpu" else _SIDE
        square, product = jnp.ones((self._side, self._side), dtype), jax.jit(jnp.matmul)
        self._product = lambda: jax.block_until_ready(product(square, square))
        self._product()
        self._best, self._devices = float("inf"), devices

    def row(self) -> Row:
        """Returns the row; each of its calls is several products, of which the best counts."""
        return Row("a large matrix product", self.measure, about={"side": self._side})

    def measure(self) -> float:
        """Returns the seconds of the best of some products."""
        best = float("inf")
        for _ in range(5):
            start = time.perf_counter()
            self._product()
            best = min(best, time.perf_counter() - start)
        self._best = min(self._best, best)
        return best

    def rate(self, measured: Sequence[Measured]) -> float:
        """Returns the multiply-accumulates a second of all devices, by the best that was seen."""
        del measured
        return self._devices * self._side**3 / self._best
