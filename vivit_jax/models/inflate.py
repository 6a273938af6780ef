"""Tubelet kernels made of image kernels: (rows, columns, 3, D) to (frames, rows, columns, 3, D).

"average" repeats the image kernel in every frame, divided by their number: a still clip then gives
what its picture gave. "central_frame" leaves every frame but one at zero: the tubelet starts as
the picture at its middle. Source: Arnab et al. 2021, section 3.4.

Two departures from the published code, both where training starts from scratch. Its central-frame
initialiser zeroes the columns of the kernel and not its frames; here it is the frames. Its average
does not divide by their number; here an inflated kernel is the same whatever it was made of.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

Kernel2D = Float[Array, "h w c D"]
Kernel3D = Float[Array, "t h w c D"]


def average(kernel: Kernel2D, frames: int) -> Kernel3D:
    """Returns the kernel in each of `frames` frames, divided by their number."""
    return jnp.broadcast_to(kernel[None] / frames, (frames, *kernel.shape))


def central_frame(kernel: Kernel2D, frames: int) -> Kernel3D:
    """Returns the kernel in frame frames // 2 and zeros in the others."""
    return jnp.zeros((frames, *kernel.shape), kernel.dtype).at[frames // 2].set(kernel)


INFLATIONS: dict[str, Callable[[jax.Array, int], jax.Array]] = {
    "average": average,
    "central_frame": central_frame,
}


def _from_scratch(inflate: Callable[[jax.Array, int], jax.Array]) -> nn.initializers.Initializer:
    def init(key: PRNGKeyArray, shape, dtype=jnp.float32, out_sharding=None) -> Kernel3D:
        del out_sharding
        return inflate(nn.initializers.lecun_normal()(key, shape[1:], dtype), shape[0])

    return init


TUBELET_INITS: dict[str, nn.initializers.Initializer] = {
    "lecun_normal": nn.initializers.lecun_normal(),
    "normal": nn.initializers.normal(0.02),  # V-JEPA
    **{name: _from_scratch(inflate) for name, inflate in INFLATIONS.items()},
}
