"""Hugging Face's V-JEPA 2: encoder and predictor (VJEPA2Model), and classification.

Every such model has a predictor. That of a classifier takes no part and is left out; where there is
none to write, the least that there can be is: of no blocks, and one column of zeros. Positions are
rotary, as the released code tiles them, and not in the file.
"""

import math
from typing import Any

import numpy as np

from vivit_jax.pretrained.found import Found, Pretrained, about_rate, depth
from vivit_jax.pretrained.hf_express import (
    Theirs,
    about_encoder,
    check_model,
    check_objective,
    labels,
    preprocessor,
)
from vivit_jax.pretrained.hf_folder import Folder
from vivit_jax.pretrained.originals import IMAGENET
from vivit_jax.pretrained.rules import Left, Rule, dense, from_heads, norm, to_heads, tubelets

NAMES = ()  # the same in memory and in published files
KIND = "VJEPA2VideoProcessor"
RATE = {"fps": 4.0}
ROTARY = "rotary_3d_tiled"
LIKE = {  # what every V-JEPA 2 is
    "attention": "joint",
    "positions": ROTARY,
    "pool": "mean",
    "gelu": "erf",
}
MASK_TOKEN = (
    "Hugging Face's predictor puts mask token 1 at every hidden place; pretraining put 0 there, as "
    "this model does."
)


ENCODING = ("norm1", *(f"attention.{x}" for x in ("query", "key", "value", "proj")), "norm2")
POOLING = (
    "layer_norm1",
    *(f"self_attn.{x}_proj" for x in ("q", "k", "v", "out")),
    "layer_norm2",
)


def block(
    theirs: str, ours: str, heads: str = "h", names: tuple[str, ...] = ENCODING
) -> list[Rule]:
    """Returns the rules of the blocks of a stack, whose heads are an axis of their own."""
    before, query, key, value, out, after = (f"{theirs}.{name}" for name in names)
    attend = f"{ours}/attention_0"
    return [
        *norm(before, f"{ours}/attention_norm_0"),
        *to_heads(query, f"{attend}/query", heads=heads),
        *to_heads(key, f"{attend}/key", heads=heads),
        *to_heads(value, f"{attend}/value", heads=heads),
        *from_heads(out, f"{attend}/out", heads=heads),
        *norm(after, f"{ours}/mlp_norm"),
        *dense(f"{theirs}.mlp.fc1", f"{ours}/mlp_in"),
        *dense(f"{theirs}.mlp.fc2", f"{ours}/mlp_out"),
    ]


def encoder(root: str) -> list[Rule]:
    """Returns the rules of the encoder of a model at a root, such as "vjepa2."."""
    return [
        *tubelets(f"{root}encoder.embeddings.patch_embeddings.proj"),
        *block(f"{root}encoder.layer.{{i}}", "encoder/blocks/block_{i}"),
        *norm(f"{root}encoder.layernorm", "encoder/blocks/norm"),
    ]


CROSS = "pooler.cross_attention_layer"
KERNEL, BIAS = "(h k) d -> d h k", "(h k) -> h k"
CLASSIFY = [
    *encoder("vjepa2."),
    *block("pooler.self_attention_layers.{i}", "pooler/block_{i}", names=POOLING),
    Rule("pooler.query_tokens", "pooler/query_token", "1 q d -> q d"),
    Rule(f"{CROSS}.layer_norm1.weight", "pooler/attention/norm_scale"),
    Rule(f"{CROSS}.layer_norm1.bias", "pooler/attention/norm_bias"),
    *to_heads(f"{CROSS}.cross_attn.q_proj", "pooler/attention/query"),
    Rule(f"{CROSS}.cross_attn.k_proj.weight", "pooler/attention/key_kernel", KERNEL),
    Rule(f"{CROSS}.cross_attn.k_proj.bias", "pooler/attention/key_bias", BIAS),
    Rule(f"{CROSS}.cross_attn.v_proj.weight", "pooler/attention/value_kernel", KERNEL),
    Rule(f"{CROSS}.cross_attn.v_proj.bias", "pooler/attention/value_bias", BIAS),
    *norm(f"{CROSS}.layer_norm2", "pooler/mlp_norm"),
    *dense(f"{CROSS}.mlp.fc1", "pooler/mlp_in"),
    *dense(f"{CROSS}.mlp.fc2", "pooler/mlp_out"),
    *dense("classifier", "head"),
]
ENCODE = encoder("")
PREDICT = [
    *ENCODE,
    *dense("predictor.embeddings.predictor_embeddings", "predictor/embed"),
    Rule("predictor.embeddings.mask_tokens", "predictor/mask_tokens", "m 1 1 d -> m d"),
    *block("predictor.layer.{i}", "predictor/blocks/block_{i}", "g"),
    *norm("predictor.layernorm", "predictor/blocks/norm"),
    *dense("predictor.proj", "predictor/out"),
]


def find(folder: Folder) -> Found:
    """Returns what a folder holds.

    Raises:
      InputError: config.json lacks something, or is of a form that nobody trained.
    """
    get, arrays = folder.get, folder.arrays
    folder.check("qkv_bias", True)
    folder.check("hidden_act", "gelu")  # which the pooler has, whatever the encoder's is
    patch, side, told = get("patch_size"), get("crop_size"), folder.encoder()
    model: dict[str, Any] = {
        **LIKE,
        **told,
        "mlp_dim": int(told["width"] * get("mlp_ratio", float)),
        "tubelet": (get("tubelet_size"), patch, patch),
        **folder.colours(**IMAGENET),
    }
    sizes, left, notes = {"h": told["heads"]}, [], []
    if "classifier.weight" in arrays:
        objective, rules = pooling(folder), CLASSIFY
        left = [Left(r"vjepa2\.predictor\..+", "the predictor takes no part in classifying")]
    elif depth(arrays, "predictor.layer."):
        objective, rules, notes = predictor(folder), PREDICT, [MASK_TOKEN]
        sizes["g"] = objective["predictor_heads"]
    else:
        objective, rules = {"name": "encode"}, ENCODE
        left = [Left(r"predictor\..+", "a predictor of no blocks, which stands for none")]
    return Found(
        where=folder.where,
        model=model,
        objective=objective,
        data={"frames": get("frames_per_clip"), "image_size": side, **RATE},
        arrays=arrays,
        rules=rules,
        sizes=sizes,
        eval={"resize": short_side(side)},
        label_maps=folder.labels(),
        left=left,
        notes=[*notes, about_rate(RATE)],
    )


def pooling(folder: Folder) -> dict[str, Any]:
    """Returns config.objective of a classifier."""
    return {
        "name": "classify",
        "pooling": "attentive",
        "pooler_depth": depth(folder.arrays, "pooler.self_attention_layers."),
        "pooler_norm_eps": folder.get("layer_norm_eps", float),
        "pooler_key_bias": True,
    }


def predictor(folder: Folder) -> dict[str, Any]:
    """Returns config.objective of an encoder with a predictor."""
    width = folder.get("pred_hidden_size")
    return {
        "name": "latent_prediction",
        "predictor_width": width,
        "predictor_depth": depth(folder.arrays, "predictor.layer."),
        "predictor_heads": folder.get("pred_num_attention_heads"),
        "predictor_mlp_dim": int(width * folder.get("pred_mlp_ratio", float)),
        "predictor_positions": ROTARY,
        "shared_mask_token": True,
        "mask_tokens": folder.get("pred_num_mask_tokens"),
    }


def express(pretrained: Pretrained) -> Theirs:
    """Returns the same model as Hugging Face has it.

    Raises:
      InputError: it has no such V-JEPA 2; names what differs.
    """
    model, data = pretrained.experiment.model, pretrained.experiment.data
    objective: Any = pretrained.objective()
    encoder = objective.encoder
    check_objective(wanted(objective), pretrained.experiment.objective)
    closing = encoder.closing_norm_eps and encoder.norm_eps
    check_model({**LIKE, "closing_norm_eps": closing}, model)
    kinds = {"encode": alone, "latent_prediction": predicting, "classify": classifying}
    theirs = kinds[pretrained.experiment.objective["name"]](pretrained, objective)
    content = {
        **about_encoder(encoder),
        "crop_size": data.image_size,
        "patch_size": encoder.tubelet[1],
        "in_chans": 3,
        "frames_per_clip": data.frames,
        "tubelet_size": encoder.tubelet[0],
        "mlp_ratio": ratio(encoder.dims.mlp_dim, encoder.dims.width),
        "qkv_bias": True,
        **theirs.config,
    }
    shown = preprocessor(pretrained, KIND)
    shown["video_processor_type"] = shown.pop("image_processor_type")
    shown["size"] = {"shortest_edge": short_side(data.image_size)}
    return theirs._replace(config=content, preprocessor=shown)


def wanted(objective: Any) -> dict[str, dict[str, Any]]:
    """Returns what objectives must be that Hugging Face has, by name."""
    encoder, pooler_heads = objective.encoder, getattr(objective, "pooler_heads", 0)
    return {
        "encode": {},
        "latent_prediction": {"predictor_positions": ROTARY, "shared_mask_token": True},
        "classify": {
            "pooling": "attentive",
            "pooler_heads": pooler_heads and encoder.dims.heads,
            "pooler_norm_eps": encoder.norm_eps,
            "pooler_key_bias": True,
        },
    }


def alone(pretrained: Pretrained, objective: Any) -> Theirs:
    """Returns an encoder's own part."""
    del pretrained
    content = {"architectures": ["VJEPA2Model"], **NO_PREDICTOR}
    idle = no_predictor("predictor", objective.encoder.dims.width)
    return Theirs(content, {}, ENCODE, idle=idle)


def predicting(pretrained: Pretrained, objective: Any) -> Theirs:
    """Returns the own part of an encoder and its predictor."""
    del pretrained
    predictor = objective.make_predictor()
    content = {
        "architectures": ["VJEPA2Model"],
        "pred_hidden_size": predictor.width,
        "pred_num_hidden_layers": predictor.depth,
        "pred_num_attention_heads": predictor.heads,
        "pred_num_mask_tokens": predictor.mask_tokens,
        "pred_mlp_ratio": ratio(predictor.mlp_dim or 4 * predictor.width, predictor.width),
    }
    return Theirs(content, {}, PREDICT)


def classifying(pretrained: Pretrained, objective: Any) -> Theirs:
    """Returns a classifier's own part."""
    content = {
        "architectures": ["VJEPA2ForVideoClassification"],
        "num_pooler_layers": objective.pooler_depth,
        **NO_PREDICTOR,
        **labels(pretrained),
    }
    idle = no_predictor("vjepa2.predictor", objective.encoder.dims.width)
    return Theirs(content, {}, CLASSIFY, idle=idle)


NO_PREDICTOR = {
    "pred_hidden_size": 1,
    "pred_num_hidden_layers": 0,
    "pred_num_attention_heads": 1,
    "pred_num_mask_tokens": 1,
}


def no_predictor(theirs: str, width: int) -> dict[str, np.ndarray]:
    """Returns the parameters of the least predictor that there can be."""
    shapes = {
        "embeddings.predictor_embeddings.weight": (1, width),
        "embeddings.predictor_embeddings.bias": (1,),
        "embeddings.mask_tokens": (1, 1, 1, 1),
        "layernorm.weight": (1,),
        "layernorm.bias": (1,),
        "proj.weight": (width, 1),
        "proj.bias": (width,),
    }
    return {f"{theirs}.{name}": np.zeros(shape, np.float32) for name, shape in shapes.items()}


def short_side(crop: int) -> int:
    """Returns what the processor resizes to before a crop, pixels; it knows no other."""
    return crop * 256 // 224


def ratio(inner: int, width: int) -> float:
    """Returns what a width is multiplied by, and rounded down, to give another."""
    found = inner / width
    return found if int(width * found) == inner else math.nextafter(found, math.inf)
