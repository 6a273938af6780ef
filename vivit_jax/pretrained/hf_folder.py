"""What the kinds of Hugging Face's models share when a folder is read: its files, and names.

Each kind tells in config.json what a model is, mostly by the same names; the preprocessor tells
what becomes of pixels.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vivit_jax.errors import InputError
from vivit_jax.pretrained.found import numbered
from vivit_jax.pretrained.rules import Arrays, Rule, dense, from_heads, norm, to_heads

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
SIZES = {  # options of a model: config.json's
    "width": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
}
GELUS = {  # by hidden_act; of two names of one, the first is written
    "gelu": "erf",
    "gelu_fast": "tanh",
    "gelu_python": "erf",
    "gelu_new": "tanh",
    "gelu_pytorch_tanh": "tanh",
}


def block(theirs: str, ours: str, heads: str = "h", query_value_biases: bool = False) -> list[Rule]:
    """Returns the rules of the blocks of a stack.

    Args:
      theirs: prefix of a block.
      ours: path of a block.
      heads: name of the axis of heads.
      query_value_biases: layers have no bias, and those of queries and values stand beside.
    """
    attend, inner = f"{ours}/attention_0", f"{theirs}.attention.attention"
    layers = [
        rule
        for part in ("query", "key", "value")
        for rule in to_heads(f"{inner}.{part}", f"{attend}/{part}", not query_value_biases, heads)
    ]
    bias = f"({heads} k) -> {heads} k"
    beside = [
        Rule(f"{inner}.q_bias", f"{attend}/query/bias", bias),
        Rule(f"{inner}.v_bias", f"{attend}/value/bias", bias),
    ]
    return [
        *norm(f"{theirs}.layernorm_before", f"{ours}/attention_norm_0"),
        *layers,
        *(beside if query_value_biases else []),
        *from_heads(f"{theirs}.attention.output.dense", f"{attend}/out", heads),
        *mlp(theirs, ours),
    ]


def mlp(theirs: str, ours: str) -> list[Rule]:
    """Returns the rules of the second half of a block."""
    return [
        *norm(f"{theirs}.layernorm_after", f"{ours}/mlp_norm"),
        *dense(f"{theirs}.intermediate.dense", f"{ours}/mlp_in"),
        *dense(f"{theirs}.output.dense", f"{ours}/mlp_out"),
    ]


class Folder(NamedTuple):
    """A folder that is read.

    Attributes:
      where: it is.
      config: config.json.
      preprocessor: preprocessor_config.json; empty where there is none.
      arrays: the weights by name.
    """

    where: str
    config: Mapping[str, Any]
    preprocessor: Mapping[str, Any]
    arrays: Arrays

    def get(self, name: str, kind: type = int) -> Any:
        """Returns a value of config.json.

        Raises:
          InputError: it is missing or of another type.
        """
        value = self.config.get(name)
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind:
            raise InputError(
                f"{self.where}/{CONFIG}: {name} = {value!r}; expected {kind.__name__}."
            )
        return value

    def check(self, name: str, value: Any) -> None:
        """Refuses a value of config.json that no published model has.

        Raises:
          InputError: it is there, and another.
        """
        if (found := self.config.get(name, value)) != value:
            raise InputError(
                f"{self.where}/{CONFIG}: {name} = {found!r}; expected {value!r}, as all published "
                "have."
            )

    def encoder(self) -> dict[str, Any]:
        """Returns the options of a model that all kinds tell alike.

        Raises:
          InputError: one is missing, or is none.
        """
        activation = self.get("hidden_act", str)
        if activation not in GELUS:
            raise InputError(
                f"{self.where}/{CONFIG}: hidden_act = {activation!r}; expected one of "
                f"{', '.join(GELUS)}."
            )
        return {
            **{ours: self.get(theirs) for ours, theirs in SIZES.items()},
            "gelu": GELUS[activation],
            "norm_eps": self.get("layer_norm_eps", float),
        }

    def labels(self) -> tuple[tuple[str, ...], ...]:
        """Returns the label map, from id2label, or else from the classifier's number of rows."""
        classes = len(self.arrays["classifier.bias"]) if "classifier.bias" in self.arrays else 0
        names = {int(k): str(v) for k, v in (self.config.get("id2label") or {}).items()}
        if sorted(names) != list(range(classes)):
            return (numbered(classes),)
        return (tuple(names[i] for i in range(classes)),)

    def colours(self, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
        """Returns the model's mean and std, by what the preprocessor makes of pixels.

        Args:
          mean: where it does not say.
          std: likewise.

        Raises:
          InputError: what it says is no colour.
        """
        told = {
            "rescale_factor": 1 / 255,
            "image_mean": mean,
            "image_std": std,
            **self.preprocessor,
        }
        try:
            if not told.get("do_normalize", True):
                told |= {"image_mean": 0.0, "image_std": 1.0}
            mean_, std_ = (np.broadcast_to(told[f"image_{k}"], 3) for k in ("mean", "std"))
            scale = 255 * told["rescale_factor"] if told.get("do_rescale", True) else 255
            shift = 1 if told.get("offset") else 0
            # It gives (scale x - shift - mean) / std of x in [0, 1].
            values = {"mean": (mean_ + shift) / scale, "std": std_ / scale}
            return {name: tuple(value.round(9).tolist()) for name, value in values.items()}
        except (TypeError, ValueError, ZeroDivisionError) as error:
            raise InputError(f"{self.where}/{PREPROCESSOR} tells no colours: {error}.") from error
