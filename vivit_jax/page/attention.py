"""Where a run's model looked in clips, as heat over their pictures; the page's only use of JAX."""

import numpy as np

from vivit_jax.analysis import attribution, overlay
from vivit_jax.checkpoint import FOLDER
from vivit_jax.errors import InputError
from vivit_jax.observer import Observer
from vivit_jax.page.runs import Run
from vivit_jax.page.videos import Clips


def attend(run: Run, seen: Clips, large: Clips) -> Clips:
    """Returns clips under the heat of where the model looked, for the class that it says.

    By its attention, or by integrated gradients where that cannot be followed down to the pixels.

    Args:
      run: whose model, as it was at its newest evaluation.
      seen: the clips as the model sees them.
      large: the same moments and parts of the picture, to be drawn on.

    Raises:
      InputError: that step is not kept.
    """
    step = run.last["step"]
    saved = run.workdir / FOLDER / str(step)
    if not saved.is_dir():
        where = "is no longer kept" if step else "is what config.init_from gave, and not kept here"
        raise InputError(f"step {step}, which was judged, {where}.")
    observer = Observer(str(saved))
    followed = attribution.attends(observer)
    method = "gradient_attention" if followed else "integrated_gradients"
    found = attribution.attribute(observer, method)(seen[:, None])
    shares = attribution.shares(found.tubelets)
    return np.stack([overlay.heated(*pair) for pair in zip(large, shares, strict=True)])
