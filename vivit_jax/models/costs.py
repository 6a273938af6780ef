"""What a forward pass costs: multiply-accumulates of its matrix products, by arithmetic.

The papers' "FLOPs" are these, for one view: patch embedding, dense layers, attention scores and
weighted values, head; not norms, softmax, activations or additions. Counting from the fields,
and not from a compiled program, stays right under scan, remat and masks.
"""

import math
from typing import NamedTuple

from vivit_jax.models.attention import ARRANGEMENTS
from vivit_jax.models.attentive_pooler import AttentivePooler
from vivit_jax.models.predictor import Predictor
from vivit_jax.models.video_transformer import BY_SLOT, VideoTransformer


class Costs(NamedTuple):
    """Multiply-accumulates of one clip's forward pass.

    Attributes:
      learnt: of what gradients flow through; a train step costs three times as much,
        where nothing is frozen.
      fixed: of the rest, which has no backward pass.
    """

    learnt: int
    fixed: int = 0


def multiply_accumulates(
    encoder: VideoTransformer,
    frames: int,
    image_size: int,
    num_classes: int = 0,
    visible: int | None = None,
) -> int:
    """Returns the multiply-accumulates of one clip's forward pass.

    Args:
      frames: of the clip.
      image_size: its height and width, pixels.
      num_classes: of a linear head on the summary; 0 for none.
      visible: tokens that the encoder sees, as many in every slot; None for all.
    """
    width, depth, _, _ = encoder.dims
    t, rows, columns = encoder.grid(frames, image_size, image_size)
    tokens = t * rows * columns if visible is None else visible
    total = tokens * math.prod(encoder.tubelet) * 3 * width + width * num_classes
    if encoder.attention == "joint":
        return total + depth * _block(encoder, "joint", 1, tokens)
    s = tokens // t
    if encoder.attention not in BY_SLOT:
        return total + depth * _block(encoder, encoder.attention, t, s)
    total += t * depth * _block(encoder, "joint", 1, s)
    sequences = {"factorised_encoder": 1, "factorised_encoder_by_place": s}  # over time
    over_time = encoder.temporal_depth * _block(encoder, "joint", t, 1)
    total += sequences.get(encoder.attention, 0) * over_time
    if encoder.attention == "factorised_encoder":
        total += 2 * t * width * encoder.adapter
    return total


def predictor_multiply_accumulates(
    predictor: Predictor, width: int, visible: int, masked: int
) -> int:
    """Returns the multiply-accumulates of one clip's forward pass through a predictor or decoder.

    Args:
      width: of the encoder's tokens.
      visible: how many there are.
      masked: places to predict.
    """
    tokens = int(predictor.class_token) + visible + masked
    d = predictor.width
    block = _plain_block(tokens, d, predictor.mlp_dim or 4 * d)
    return visible * width * d + predictor.depth * block + masked * d * predictor.out


def pooler_multiply_accumulates(pooler: AttentivePooler, width: int, tokens: int) -> int:
    """Returns the multiply-accumulates of one clip's forward pass through an attentive pooler.

    Args:
      width: of the encoder's tokens.
      tokens: how many there are.
    """
    mlp_dim = pooler.mlp_dim or 4 * width
    gather = 3 * width**2 + 2 * tokens * pooler.heads * width  # no key or value is made
    return pooler.depth * _plain_block(tokens, width, mlp_dim) + gather + 2 * width * mlp_dim


def _plain_block(tokens: int, width: int, mlp_dim: int) -> int:
    """Of one block of joint attention on some tokens."""
    return tokens * (4 * width**2 + 2 * width * mlp_dim) + 2 * tokens**2 * width


def _block(encoder: VideoTransformer, arrangement: str, t: int, s: int) -> int:
    """Of one block on t slots of s tokens, and the class token where there is one."""
    width, _, _, mlp_dim = encoder.dims
    classes, updates = int(encoder.class_token), len(set(encoder.lora_targets))
    total = 2 * (classes + t * s) * width * mlp_dim
    for step in ARRANGEMENTS[arrangement].steps:
        taking_part = 0 if step.patches_only else classes
        projections = 4 + step.zero_dense  # query, key, value, out
        total += projections * (taking_part + t * s) * width**2
        total += updates * (taking_part + t * s) * 2 * width * encoder.lora_rank
        total += 2 * round(step.pairs(taking_part, t, s) * width)
    return total
