"""Models over time: from a vector for each frame to what the frames make together, one row each.

    time=          each frame comes out as                   the summary is
    "mean"         it was                                    the mean over frames
    "lstm", "gru"  the state after it                        the last state
    "transformer"  what it gathers from all frames           the mean over frames
    "gpt2"         what it gathers from those before it      the mean over frames

Only "mean" cannot tell an order from another. "gpt2" has GPT-2's form, and takes its weights:
learned positions, a norm before each half of a block, the tanh GELU, a causal mask.

Sources: Hochreiter and Schmidhuber 1997, with the biases of Jozefowicz et al. 2015 (LSTM); Cho et
al. 2014, in the form of cuDNN and PyTorch (GRU); Radford et al. 2019 (GPT-2).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from einops import rearrange
from jaxtyping import Array, Float

from vivit_jax.layout import constrain
from vivit_jax.models.costs import Count, Sizes
from vivit_jax.models.layers import Block, Dense, Features
from vivit_jax.models.token_encoder import TokenEncoder, recomputed


class OverTime(NamedTuple):
    """What a model over time is made by; each row of TIMES reads what it needs.

    Attributes:
      width: D, of what comes in and what goes out.
      depth: layers, or blocks.
      heads: of attention.
      gelu: of a transformer; GPT-2's is its own, as is its norms'.
      norm_eps: likewise.
      dropout: between recurrent layers, or as in VideoTransformer.
      drop_path: as in VideoTransformer.
      dtype: in which matrices are multiplied.
      attention_kernel: a name of kernels.NAMES.
      remat: a row of token_encoder.REMATS.
    """

    width: int
    depth: int
    heads: int
    gelu: str
    norm_eps: float
    dropout: float
    drop_path: float
    dtype: str
    attention_kernel: str
    remat: str


class Row(NamedTuple):
    """A model over time.

    Attributes:
      make: the module; None where it has no parameters.
      depth: layers or blocks, where nothing else is said.
      arrangement: of its blocks, where it has any.
    """

    make: Callable[[OverTime], nn.Module] | None
    depth: int
    arrangement: str = ""


class Recurrent(nn.Module):
    """Layers of an LSTM or a GRU over frames.

    Attributes:
      cell: a row of CELLS.
      width: of the states.
      depth: layers.
      dropout: of what one layer gives to the next.
      dtype: in which matrices are multiplied; gates and states are float32.
      remat: a row of token_encoder.REMATS.
    """

    cell: str
    width: int
    depth: int
    dropout: float
    dtype: str
    remat: str = "none"

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], *, train: bool = False) -> Features:
        """Returns the last layer's state after each frame, and after the last one."""
        for i in range(self.depth):
            if i:
                x = nn.Dropout(self.dropout, deterministic=not train)(x)
            layer = RecurrentLayer(self.cell, self.width, self.dtype, self.remat, name=f"layer_{i}")
            x = layer(x)
        return Features(x, x[:, -1])


class RecurrentLayer(nn.Module):
    """One layer; what depends on a frame alone is computed for all frames at once."""

    cell: str
    width: int
    dtype: str
    remat: str

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"]) -> Float[Array, "B T D"]:
        """Returns the state after each frame, in float32."""
        cell = CELLS[self.cell]
        width, outputs = self.width, cell.gates * self.width
        given = Dense((outputs,), self.dtype, bias_init=cell.bias_init, name="input")(x)
        kernel = self.param("hidden_kernel", hidden_init(cell.gates), (width, outputs))
        bias = self.param("hidden_bias", nn.initializers.zeros, (width,)) if cell.bias else None
        kernel = kernel.astype(self.dtype)

        def step(state: tuple[jax.Array, ...], given: jax.Array) -> tuple[Any, jax.Array]:
            hidden = state[0].astype(self.dtype)
            hidden = jnp.matmul(hidden, kernel, preferred_element_type=jnp.float32)
            state = cell.step(state, given, hidden, bias)
            return state, state[0]

        step = recomputed(self.remat, partial(jax.checkpoint, prevent_cse=False), step)
        start = (jnp.zeros((len(x), width), jnp.float32),) * cell.states
        frames = rearrange(constrain(given, "clips"), "b t d -> t b d").astype(jnp.float32)
        return rearrange(jax.lax.scan(step, start, frames)[1], "t b d -> b t d")


def lstm_step(state: Any, given: jax.Array, hidden: jax.Array, bias: Any) -> tuple[Any, ...]:
    """Returns an LSTM's state and cell after a frame."""
    del bias
    i, f, g, o = jnp.split(given + hidden, 4, axis=-1)
    cell = jax.nn.sigmoid(f) * state[1] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(cell), cell


def gru_step(state: Any, given: jax.Array, hidden: jax.Array, bias: Any) -> tuple[Any, ...]:
    """Returns a GRU's state after a frame; its candidate's bias is within the reset."""
    (r, z, n), (hr, hz, hn) = (jnp.split(x, 3, axis=-1) for x in (given, hidden))
    reset, kept = jax.nn.sigmoid(r + hr), jax.nn.sigmoid(z + hz)
    candidate = jnp.tanh(n + reset * (hn + bias[None]))
    return ((1 - kept) * candidate + kept * state[0],)


def remembering(key: Any, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Returns an LSTM's first biases: 1 for its forget gate, so that it forgets little."""
    del key
    return jnp.zeros(shape, dtype).at[shape[0] // 4 : shape[0] // 2].set(1)


def hidden_init(gates: int) -> nn.initializers.Initializer:
    """Returns what draws an orthogonal matrix for each gate."""
    orthogonal = nn.initializers.orthogonal()

    def init(key: Any, shape: tuple[int, int], dtype: Any = jnp.float32) -> jax.Array:
        square = (shape[0], shape[0])
        keys = jax.random.split(key, gates)
        return jnp.concatenate([orthogonal(k, square, dtype) for k in keys], axis=1)

    return init


class Cell(NamedTuple):
    """A recurrence.

    Attributes:
      gates: widths of its inputs, the candidate among them.
      states: arrays that go on from frame to frame; the first is what it gives.
      step: the states after a frame.
      bias_init: of what depends on the frame.
      bias: whether its candidate has one beside.
    """

    gates: int
    states: int
    step: Callable[..., tuple[Any, ...]]
    bias_init: Callable[..., jax.Array]
    bias: bool


CELLS = {
    "lstm": Cell(4, 2, lstm_step, remembering, bias=False),
    "gru": Cell(3, 1, gru_step, nn.initializers.zeros, bias=True),
}


def recurrent(cell: str, fields: OverTime) -> Recurrent:
    """Returns a recurrent model."""
    given = (fields.width, fields.depth, fields.dropout, fields.dtype, fields.remat)
    return Recurrent(cell, *given, name="time")


def transformer(
    arrangement: str, kernel_init: str, fields: OverTime, **changed: Any
) -> TokenEncoder:
    """Returns a transformer over frames, whose summary is their mean."""
    fields = fields._replace(**changed)
    block = partial(
        Block,
        heads=fields.heads,
        mlp_dim=4 * fields.width,
        arrangement=arrangement,
        gelu=fields.gelu,
        norm_eps=fields.norm_eps,
        dropout=fields.dropout,
        attention_dropout=0.0,
        drop_path_rescaled=True,
        key_bias=True,
        kernel=fields.attention_kernel,
        kernel_init=kernel_init,
        dtype=fields.dtype,
    )
    return TokenEncoder(
        block=block,
        depth=fields.depth,
        positions="learned",
        class_token=False,
        mean=True,
        average_rows=False,
        norm_summary=False,
        norm_eps=fields.norm_eps,
        dropout=fields.dropout,
        drop_path=fields.drop_path,
        dtype=fields.dtype,
        remat=fields.remat,
        scan=False,
        layout="clips",
        name="time",
    )


GPT2 = {"gelu": "tanh", "norm_eps": 1e-5}
TIMES = {
    "mean": Row(None, 0),
    "lstm": Row(partial(recurrent, "lstm"), 1),
    "gru": Row(partial(recurrent, "gru"), 1),
    "transformer": Row(partial(transformer, "joint", "xavier_uniform"), 4, "joint"),
    "gpt2": Row(partial(transformer, "causal", "normal", **GPT2), 12, "causal"),
}


def run(name: str, fields: OverTime, x: Float[Array, "B T D"], train: bool) -> Features:
    """Returns what a row of TIMES makes of frames; within a module, whose part it is."""
    make = TIMES[name].make
    if make is None:
        return Features(x, x.mean(axis=1))
    model: Any = make(fields)
    if isinstance(model, TokenEncoder):
        return model(x, (x.shape[1], 1, 1), examples=len(x), train=train)
    return model(x, train=train)


def count(counter: Count, name: str, fields: OverTime, frames: int, flows: bool, path: str) -> bool:
    """Counts a row of TIMES; returns whether a gradient flows into what it gives.

    Args:
      counter: to which it is added.
      name: of the row.
      fields: see OverTime.
      frames: of a clip.
      flows: whether a gradient flows into them.
      path: of the parameters.
    """
    width = fields.width
    if name in CELLS:
        gates = CELLS[name].gates
        for i in range(fields.depth):
            at = f"{path}/layer_{i}"
            flows = counter.dense(f"{at}/input", frames, width, gates * width, flows)
            flows |= counter.learns(at)
            learnt = counter.learns(f"{at}/hidden_kernel")
            hidden = frames * gates * width**2
            if counter.product(hidden, learnt, flows):
                counter.blocks += hidden
        return flows
    if arrangement := TIMES[name].arrangement:
        flows |= counter.learns(f"{path}/position")
        for i in range(fields.depth):
            sizes = Sizes(width, 4 * width)
            flows = counter.block(f"{path}/block_{i}", sizes, arrangement, 0, frames, 1, flows)
        flows |= counter.learns(path)
    return flows
