"""What an objective is: what a batch is worth, example by example.

An objective is a Linen module with a field `encoder`, so that params["encoder"] is the encoder
under every objective, whoever trained it. It offers

    __call__(batch, *, train) -> Outcome      # the streams "dropout", "mix" and "mask"
    costs(frames, image_size, learnt) -> Costs   # see models/costs.py
    predict(batch) -> scores [B K]            # where it has any
    check_clip(frames, height, width)         # where it has any: refuses what it cannot train on
    target = "average"                        # where it has any: __call__ is then also given
                                              # target=, the parameters of the average encoder
    learns = False                            # where it cannot be trained

and a batch holds "video" (uint8 [B T H W 3], or floats already normalised), and when a loss is
wanted "label" and "valid" [B]. Means over examples, gradients and updates are the step's, so an
example that is not valid counts for nothing, and one that spoils a loss can be named.
"""

from typing import NamedTuple

from jaxtyping import Array, Float


class Outcome(NamedTuple):
    """The loss of each example, and whatever else is worth logging."""

    losses: Float[Array, " B"]
    metrics: dict[str, Float[Array, " B"]]
