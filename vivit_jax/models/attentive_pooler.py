"""V-JEPA's attentive pooling: a learned query gathers from all tokens what a head needs.

One query sees the same tokens in every example, so keys and values need not be made: a head's
query goes through the key matrix to a vector that the tokens are compared with, and the value
matrix is applied to what was gathered. The scale and bias of the tokens' norm pass along likewise.
This is the same function at 1 / (width of a head) of the cost, and where many poolers are trained
on the same tokens (a grid of probes), nothing as large as the tokens belongs to one of them.

Sources: Bardes et al. 2024 (V-JEPA): one cross-attention block without an output projection, whose
queries have no norm; Assran et al. 2025 (V-JEPA 2): three self-attention blocks before it.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from vivit_jax.models.layers import GELUS, NUDGES, WEIGHTS, Block, Dense


class AttentivePooler(nn.Module):
    """Pools the tokens of a clip, or of several, into one vector.

    Attributes:
      heads: of attention; divides the tokens' width.
      depth: self-attention blocks before the one that pools; they know no positions.
      mlp_dim: hidden width of the MLPs; 0 for four times the tokens' width.
      gelu: a row of layers.GELUS.
      norm_eps: of every layer norm.
      key_bias: whether keys have a bias. Softmax takes it out again, so it changes nothing; the
        published weights have one, and give it back as it was.
    """

    heads: int
    depth: int = 0
    mlp_dim: int = 0
    gelu: str = "erf"
    norm_eps: float = 1e-5
    key_bias: bool = False

    @nn.compact
    def __call__(self, tokens: Float[Array, "B N D"]) -> Float[Array, "B D"]:
        """Returns a vector for each example, float32."""
        count, width = tokens.shape[1:]
        mlp_dim = self.mlp_dim or 4 * width
        for i in range(self.depth):
            block = Block(
                heads=self.heads,
                mlp_dim=mlp_dim,
                arrangement="joint",
                gelu=self.gelu,
                norm_eps=self.norm_eps,
                dropout=0.0,
                attention_dropout=0.0,
                drop_path_rescaled=True,
                key_bias=self.key_bias,
                kernel_init="xavier_uniform",
                dtype="float32",
                name=f"block_{i}",
            )
            tokens = block(tokens, (1, count), None, 0.0, examples=len(tokens), train=False)
        query = self.param("query_token", nn.initializers.normal(0.02), (1, width))
        gather = Gather(self.heads, self.norm_eps, self.key_bias, name="attention")
        x = query + gather(query, tokens)
        y = nn.LayerNorm(epsilon=self.norm_eps, name="mlp_norm")(x)
        y = Dense((mlp_dim,), "float32", name="mlp_in")(y)
        return x + Dense((width,), "float32", name="mlp_out")(GELUS[self.gelu](y))


class Gather(nn.Module):
    """Cross-attention of one query that all examples share, with a norm before keys and values."""

    heads: int
    norm_eps: float
    key_bias: bool

    @nn.compact
    def __call__(
        self, query: Float[Array, "1 D"], tokens: Float[Array, "B N D"]
    ) -> Float[Array, "B D"]:
        """Returns what the query finds in each example's tokens."""
        width = tokens.shape[-1]
        shape = (self.heads, width // self.heads)

        def kernel(key: jax.Array) -> jax.Array:
            flat = nn.initializers.xavier_uniform()(key, (width, width), jnp.float32)
            return flat.reshape(width, *shape)

        q = Dense(shape, "float32", name="query")(query)[0]
        keys, values = self.param("key_kernel", kernel), self.param("value_kernel", kernel)
        value_bias = self.param("value_bias", nn.initializers.zeros, shape)
        if self.key_bias:  # kept, and not read: see below
            self.param("key_bias", nn.initializers.zeros, shape)
        scale = self.param("norm_scale", nn.initializers.ones, (width,))
        bias = self.param("norm_bias", nn.initializers.zeros, (width,))

        norm = nn.LayerNorm(epsilon=self.norm_eps, use_scale=False, use_bias=False)
        x = norm(tokens.astype(jnp.float32))
        # The biases of norm and keys add the same to the logits of all tokens.
        wanted = jnp.einsum("dhk,hk->hd", keys, q) * scale[None] * shape[1] ** -0.5
        weights = jax.nn.softmax(jnp.einsum("bnd,hd->bhn", x, wanted), axis=-1)
        if not self.is_initializing() and self.is_mutable_collection(WEIGHTS):
            weights = self.perturb("weights_0", weights, NUDGES)
            self.sow(WEIGHTS, "weights", weights)
        found = jnp.einsum("bhn,bnd->bhd", weights, x) * scale[None, None] + bias[None, None]
        y = jnp.einsum("bhd,dhk->bhk", found, values) + value_bias[None]
        return y.reshape(len(y), width)
