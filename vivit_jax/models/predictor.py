"""The narrow transformer that fills in what a masked encoder has not seen.

VideoMAE and MAE-ST call it the decoder and let it predict pixels, V-JEPA the predictor and lets it
predict features. It sees the encoder's visible tokens and a learned mask token at every place to be
filled in, each at its own position. Attention has no order of its own, so the visible come first,
wherever they are.

Sources: Tong et al. 2022 (VideoMAE), Feichtenhofer et al. 2022 (MAE-ST), Bardes et al. 2024
(V-JEPA).
"""

from functools import partial

import flax.linen as nn
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from vivit_jax.errors import InputError
from vivit_jax.models.layers import KERNEL_INITS, Block, Dense
from vivit_jax.models.positions import Axes
from vivit_jax.models.token_encoder import TokenEncoder


class Predictor(nn.Module):
    """Predicts a vector for each masked place.

    Attributes:
      width: of its tokens.
      depth: blocks.
      heads: of attention.
      out: width of what it predicts.
      positions: a row of positions.POSITIONS.
      mask_tokens: how many there are to choose from.
      mask_init: what they start from.
      embed_bias: whether the map from the encoder's width has a bias.
      class_token: a learned token of its own takes part (MAE-ST).
      mlp_dim: 0 for four times the width.
      gelu: as in VideoTransformer, and the following too.
      norm_eps: likewise.
      closing_norm_eps: likewise.
      key_bias: likewise.
      kernel_init: likewise.
      dtype: likewise.
      attention_kernel: likewise.
      remat: likewise.
      scan: likewise.
    """

    width: int
    depth: int
    heads: int
    out: int
    positions: str
    mask_tokens: int = 1
    mask_init: nn.initializers.Initializer = nn.initializers.normal(0.02)
    embed_bias: bool = True
    class_token: bool = False
    mlp_dim: int = 0
    gelu: str = "erf"
    norm_eps: float = 1e-6
    closing_norm_eps: float = 0.0
    key_bias: bool = True
    kernel_init: str = "xavier_uniform"
    dtype: str = "float32"
    attention_kernel: str = "auto"
    remat: str = "none"
    scan: bool = False

    @nn.compact
    def __call__(
        self,
        tokens: Float[Array, "B V E"],
        visible: Int[Array, "B V"],
        masked: Int[Array, "B M"],
        axes: Axes,
        mask_token: int = 0,
        class_token: Float[Array, "B E"] | None = None,
    ) -> Float[Array, "B M out"]:
        """Returns the predictions, float32.

        Args:
          tokens: of the encoder, of whatever width.
          visible: their places, in raster order of `axes`.
          masked: the places to predict.
          axes: (slots, rows, columns).
          mask_token: the number of the one to use.
          class_token: of the encoder, which goes on here where it is given.
        """
        dense = partial(Dense, dtype=self.dtype, kernel_init=KERNEL_INITS[self.kernel_init](0))
        embed = dense((self.width,), use_bias=self.embed_bias, name="embed")
        holes = self.param("mask_tokens", self.mask_init, (self.mask_tokens, self.width))
        holes = jnp.broadcast_to(holes[mask_token], (*masked.shape, self.width))
        x = jnp.concatenate([embed(tokens), holes.astype(self.dtype)], axis=1)
        block = partial(
            Block,
            heads=self.heads,
            mlp_dim=self.mlp_dim or 4 * self.width,
            arrangement="joint",
            gelu=self.gelu,
            norm_eps=self.norm_eps,
            dropout=0.0,
            attention_dropout=0.0,
            drop_path_rescaled=True,
            key_bias=self.key_bias,
            kernel=self.attention_kernel,
            kernel_init=self.kernel_init,
            dtype=self.dtype,
        )
        blocks = TokenEncoder(
            block=block,
            depth=self.depth,
            positions=self.positions,
            class_token=self.class_token,
            mean=True,
            average_rows=False,
            norm_summary=False,
            norm_eps=self.closing_norm_eps or self.norm_eps,
            dropout=0.0,
            drop_path=0.0,
            dtype=self.dtype,
            remat=self.remat,
            scan=self.scan,
            name="blocks",
        )
        places = jnp.concatenate([visible, masked], axis=1)
        given = None if class_token is None else embed(class_token)
        x = blocks(x, axes, places, examples=len(x), train=False, class_token=given).tokens
        out = dense((self.out,), name="out")
        return out(x[:, visible.shape[1] :]).astype(jnp.float32)


def check_sizes(name: str, width: int, depth: int, heads: int, encoder_width: int) -> None:
    """Refuses the sizes of a predictor or decoder.

    Args:
      name: what its fields start with.
      width: of its tokens.
      depth: blocks.
      heads: of attention.
      encoder_width: of the tokens that it is given.

    Raises:
      InputError: names the field.
    """
    for field, size in {"width": width, "depth": depth, "heads": heads}.items():
        if size < 1:
            raise InputError(f"objective.{name}_{field} = {size} is below 1.")
    if width % heads:
        raise InputError(
            f"objective.{name}_heads = {heads} does not divide objective.{name}_width = {width}: "
            "each head takes an equal part of the width."
        )
    if width > encoder_width:
        raise InputError(
            f"objective.{name}_width = {width} is above the encoder's {encoder_width}: the {name} "
            "is the narrow one, so that the encoder does the work."
        )
