"""Where a run's model looked in clips, as heat over their pictures; the page's only use of JAX."""

import numpy as np

from vivit_jax.analysis import attribution, overlay
from vivit_jax.checkpoint import FOLDER
from vivit_jax.errors import InputError
from vivit_jax.observer import Observer
from vivit_jax.page.runs import Run
from vivit_jax.page.videos import Clips

METHOD = "gradient_attention"  # for the class that the model says


def attend(run: Run, seen: Clips, large: Clips) -> Clips:
    """Returns clips under the heat of where the model looked.

    Args:
      run: whose model, as it was at its newest evaluation.
      seen: the clips as the model sees them.
      large: the same moments and parts of the picture, to be drawn on.

    Raises:
      InputError: that step is not kept, or its model has no attention that can be followed.
    """
    step = run.last["step"]
    saved = run.workdir / FOLDER / str(step)
    if not saved.is_dir():
        raise InputError(f"step {step}, which was judged, is no longer kept.")
    found = attribution.attribute(Observer(str(saved)), METHOD)(seen[:, None])
    shares = attribution.shares(found.tubelets)
    return np.stack([overlay.heated(*pair) for pair in zip(large, shares, strict=True)])
