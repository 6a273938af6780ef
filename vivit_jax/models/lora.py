"""Low-rank updates of kernels that stay as they are.

A kernel W becomes W + alpha / rank * A B, where A starts at random and B at zero, so that the model
starts as it was; folded in, the update costs nothing more.

Source: Hu et al. 2021 (LoRA), section 4; of a transformer's kernels it adapts attention's queries
and values.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

TARGETS = ("query", "key", "value", "out")  # kernels of attention


class Lora(NamedTuple):
    """Which kernels have an update, and of which rank.

    Attributes:
      rank: of an update; 0 for none.
      alpha: what A B is multiplied by, times rank.
      targets: rows of TARGETS.
    """

    rank: int = 0
    alpha: float = 1.0
    targets: tuple[str, ...] = ()

    @property
    def scale(self) -> float:
        """What A B is multiplied by."""
        return self.alpha / self.rank

    def of(self, target: str) -> "Lora":
        """Returns this for a kernel that has an update, and none for another."""
        return self if target in self.targets else Lora()


def fold(params: Mapping[str, np.ndarray], alpha: float) -> dict[str, np.ndarray]:
    """Returns parameters by path without updates, which are added to their kernels.

    Args:
      params: by path; "NAME/lora_a" and "NAME/lora_b" belong to "NAME/kernel".
      alpha: of Lora.
    """
    plain = {path: x for path, x in params.items() if not path.endswith(("/lora_a", "/lora_b"))}
    for path, a in params.items():
        name, _, last = path.rpartition("/")
        if last == "lora_a":
            update = np.tensordot(a, params[f"{name}/lora_b"], axes=1)
            plain[f"{name}/kernel"] = plain[f"{name}/kernel"] + alpha / a.shape[-1] * update
    return plain
