"""Rows of features as they are compared: of length 1."""

import numpy as np
from jaxtyping import Float


def unit(
    rows: Float[np.ndarray, "N D"], least: float = 1e-12
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "N 1"]]:
    """Returns rows of length 1, and the lengths that they had.

    Args:
      rows: any; what is shorter than `least` is divided by that, and stays short.
      least: above 0.
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.maximum(lengths, least), lengths
