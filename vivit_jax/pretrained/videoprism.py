"""VideoPrism's .npz files: the video encoder of public v1, at any size.

The encoder is ViViT's model 2 whose slots are not summarised: space within each frame, then time at
each place. Layer norms store what their scale differs from 1 by, attention logits are capped, and
all blocks of a stack lie in one array, along its first axis. Pixels are in [0, 1].

A model of videos and texts (lvt) or a classifier (vc) holds the same encoder under another name,
which is what is read of it.
"""

import math
import pathlib
from typing import Any

from vivit_jax.errors import InputError
from vivit_jax.pretrained.files import read_npz
from vivit_jax.pretrained.found import Found, shape, side
from vivit_jax.pretrained.linen import dense, norm
from vivit_jax.pretrained.rules import Left, Rule

CAP = 50.0  # of attention logits, in every model that is published
LIKE = {  # what every VideoPrism is
    "attention": "factorised_encoder_by_place",
    "positions": "learned",
    "pool": "mean",
    "gelu": "erf",
    "norm_eps": 1e-6,
    "norm_offset": 1.0,
    "logit_cap": CAP,
    "mean": (0.0, 0.0, 0.0),
    "std": (1.0, 1.0, 1.0),
}
ENCODERS = ("params", "params/vision_encoder", "params/encoder")  # where it lies: v1, lvt, vc
LEFT = (
    Left(r"params/text_encoder/.+", "texts have no encoder here"),
    Left(
        r"params/(auxiliary_encoder|contrastive_vision_pooler)/.+",
        "makes of the encoder's tokens what is compared with texts, which have no encoder here",
    ),
    Left(
        r"params/(atten_pooler|projection)/.+",
        "the classifier's own pooling, which no head here has: train another on the encoder",
    ),
)


def stack(theirs: str, ours: str) -> list[Rule]:
    """Returns the rules of a stack of blocks, each an axis `l` of one array."""
    theirs, ours = f"{theirs}/transformers_stack/x_layers", f"{ours}/block_{{i}}"
    attend = f"{ours}/attention_0"
    parts = ("query", "key", "value")
    return [
        *norm(f"{theirs}/layer_norm", f"{ours}/attention_norm_0"),
        *(Rule(f"{theirs}/self_attention/{x}/w", f"{attend}/{x}/kernel") for x in parts),
        *(Rule(f"{theirs}/self_attention/{x}/b", f"{attend}/{x}/bias") for x in parts),
        Rule(f"{theirs}/self_attention/post/w", f"{attend}/out/kernel", "l d h k -> l h k d"),
        Rule(f"{theirs}/self_attention/post/b", f"{attend}/out/bias"),
        *norm(f"{theirs}/ff_layer/layer_norm", f"{ours}/mlp_norm"),
        *dense(f"{theirs}/ff_layer/ffn_layer1/linear", f"{ours}/mlp_in"),
        *dense(f"{theirs}/ff_layer/ffn_layer2/linear", f"{ours}/mlp_out"),
    ]


def rules(root: str) -> list[Rule]:
    """Returns the table of an encoder that lies under a name."""
    table, linear = "s d -> 1 s d", f"{root}/patch_projection/linear"
    return [
        Rule(f"{linear}/kernel", "encoder/tubelets/kernel", "(r w c) d -> 1 r w c d"),
        Rule(f"{linear}/bias", "encoder/tubelets/bias"),
        Rule(f"{root}/spatial_pos_emb/emb_var", "encoder/space/position", table),
        *stack(f"{root}/spatial_encoder", "encoder/space"),
        *norm(f"{root}/spatial_ln", "encoder/space/norm"),
        Rule(f"{root}/temporal_pos_emb/emb_var", "encoder/time/position", table),
        *stack(f"{root}/temporal_encoder", "encoder/time"),
        *norm(f"{root}/temporal_ln", "encoder/time/norm"),
    ]


def read(path: pathlib.Path) -> Found:
    """Returns what a file holds.

    Raises:
      InputError: it is no .npz file of VideoPrism's.
    """
    where, arrays = str(path), read_npz(path)
    table = "spatial_pos_emb/emb_var"
    root = next((root for root in ENCODERS if f"{root}/{table}" in arrays), ENCODERS[0])

    def shape_of(name: str, axes: int) -> tuple[int, ...]:
        return shape(arrays, f"{root}/{name}", axes, where)

    values, width = shape_of("patch_projection/linear/kernel", 2)
    patch = math.isqrt(values // 3)
    if values != 3 * patch**2:
        raise InputError(f"{where}: {values} values a patch are no square of three colours.")
    blocks = "{}_encoder/transformers_stack/x_layers/{}"
    query = "self_attention/query/w"
    depth, _, heads, _ = shape_of(blocks.format("spatial", query), 4)
    temporal_depth = shape_of(blocks.format("temporal", query), 4)[0]
    mlp = shape_of(blocks.format("spatial", "ff_layer/ffn_layer1/linear/kernel"), 3)
    model: dict[str, Any] = {
        "width": width,
        "depth": depth,
        "temporal_depth": temporal_depth,
        "heads": heads,
        "mlp_dim": mlp[2],
        "tubelet": (1, patch, patch),
        **LIKE,
    }
    frames = shape_of("temporal_pos_emb/emb_var", 2)[0]
    return Found(
        where=where,
        model=model,
        objective={"name": "encode"},
        data={"frames": frames, "image_size": side(shape_of(table, 2)[0], patch, where)},
        arrays=arrays,
        rules=rules(root),
        sizes={"r": patch, "w": patch},
        left=LEFT,
        notes=[f"attention logits are capped at {CAP:g}, which the file does not tell"],
    )
