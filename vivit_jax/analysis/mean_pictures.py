"""Each window as its mean picture, made small: what it looks like, whatever it means.

It is what features must beat where classes are searched, and what tells a copy from another video
of the same class, which the features of a classifier do not.
"""

import numpy as np
from einops import reduce
from jaxtyping import Float, UInt8

from vivit_jax.analysis.lengths import unit

_CELLS = 8  # rows, and columns
_PLAIN = 6.0  # grey levels of contrast, below which all pictures look alike
_SHORT = 1e-6  # length of what is no pattern
FEATURES = 3 * _CELLS**2  # F


def mean_pictures(clips: UInt8[np.ndarray, "n V T H W 3"]) -> Float[np.ndarray, "n F"]:
    """Returns the mean over frames and crops of each window, 8 x 8 cells of three colours."""
    cells = _CELLS * max(1, clips.shape[3] // _CELLS), _CELLS * max(1, clips.shape[4] // _CELLS)
    if min(clips.shape[3:5]) < _CELLS:
        raise ValueError(f"Pictures of {clips.shape[3:5]} pixels; expected at least {_CELLS}.")
    inside = clips[:, :, :, : cells[0], : cells[1]]  # what is over at the edges is left out
    form = "n v t (y h) (x w) c -> n (y x c)"
    means = reduce(inside.astype(np.float32), form, "mean", y=_CELLS, x=_CELLS)
    return means.astype(np.float32)


def patterns(rows: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N F"]:
    """Returns what a copy shares with its original, whatever else there is: light and dark places.

    Each colour is taken off its mean over the picture. Plain pictures, such as black ones, have no
    pattern and are like nothing.
    """
    colours = rows.reshape(len(rows), -1, 3)
    flat = (colours - colours.mean(axis=1, keepdims=True)).reshape(len(rows), -1)
    contrast = np.sqrt(np.square(flat).mean(axis=1, keepdims=True))
    return np.where(contrast < _PLAIN, 0, unit(flat, _SHORT)[0]).astype(np.float32)


def compared(rows: Float[np.ndarray, "N F"]) -> Float[np.ndarray, "N F"]:
    """Returns mean pictures as they are compared: by how they differ from all together."""
    centred = rows - rows.mean(axis=0, keepdims=True)
    return unit(centred, _SHORT)[0].astype(np.float32)
