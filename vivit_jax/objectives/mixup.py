"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of a batch with itself reversed.

One draw for the whole batch ("batch" mode, as VideoMAE and ViViT train): clip i is mixed with clip
B - 1 - i, all pairs in the same share, and a CutMix box lies at the same place in all frames.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key


def mix(
    video: Float[Array, "B T H W 3"],
    targets: Float[Array, "B K"],
    valid: Bool[Array, " B"],
    key: Key[Array, ""],
    *,
    mixup_alpha: float,
    cutmix_alpha: float,
    switch: float = 0.5,
) -> tuple[Float[Array, "B T H W 3"], Float[Array, "B K"]]:
    """Returns the clips and their targets, mixed in the same shares.

    Args:
      video: clips, after all other augmentation.
      targets: of each clip, a probability for each class.
      valid: False for padding and for unreadable videos; they and their partners stay unmixed.
      key: of everything drawn.
      mixup_alpha: of Beta(alpha, alpha), from which mixup's share is drawn; 0 for no mixup.
      cutmix_alpha: likewise.
      switch: probability of CutMix, where both are on.
    """
    if not mixup_alpha and not cutmix_alpha:
        return video, targets
    which_key, share_key, place_key = jax.random.split(key, 3)
    if not (mixup_alpha and cutmix_alpha):
        switch = float(cutmix_alpha > 0)
    cut = jax.random.bernoulli(which_key, switch)
    alpha = jnp.where(cut, cutmix_alpha, mixup_alpha)
    share = jax.random.beta(share_key, alpha, alpha)
    box = cut_box(video.shape[2], video.shape[3], share, place_key)
    weight = jnp.where(cut, 1 - box, share)  # of a clip's own pixels [H W]
    both = (valid & valid[::-1])[:, None]
    own = jnp.where(both, weight.mean(), 1.0)
    targets = own * targets + (1 - own) * targets[::-1]
    weight = jnp.where(both[:, :, None], weight[None], 1.0)[:, None, :, :, None]
    return weight * video + (1 - weight) * video[::-1], targets


def cut_box(
    height: int, width: int, share: Float[Array, ""], key: Key[Array, ""]
) -> Float[Array, "H W"]:
    """Returns 1 in a box with a share of 1 - `share` of the picture, less where its border cuts it.

    The centre is uniform over the picture, as in the paper.
    """
    sides = jnp.floor(jnp.sqrt(1 - share) * jnp.array([height, width]))
    centre = jnp.floor(jax.random.uniform(key, (2,)) * jnp.array([height, width]))
    start = centre - sides // 2
    rows, columns = (
        (jnp.arange(n) >= a) & (jnp.arange(n) < a + 2 * (side // 2))
        for n, a, side in zip((height, width), start, sides, strict=True)
    )
    return (rows[:, None] & columns[None, :]).astype(jnp.float32)
