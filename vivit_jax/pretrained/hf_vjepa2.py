"""Hugging Face's V-JEPA 2: encoder and predictor (VJEPA2Model), and classification.

Every such model has a predictor. That of a classifier takes no part and is left out; where there is
none to write, the least that there can be is: of no blocks, and one column of zeros. Positions are
rotary, as the released code tiles them, and not in the file.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from vivit_jax.errors import InputError
from vivit_jax.pretrained.found import Found, Pretrained, about_rate, depth
from vivit_jax.pretrained.huggingface import (
    Folder,
    Theirs,
    differing,
    labels,
    preprocessor,
    unlike,
)
from vivit_jax.pretrained.rules import Left, Rule, dense, from_heads, norm, to_heads, tubelets

NAMES = ()  # the same in memory and in published files
KIND = "VJEPA2VideoProcessor"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
RATE = {"fps": 4.0}
ROTARY = "rotary_3d_tiled"
LIKE = {  # what every V-JEPA 2 is
    "attention": "joint",
    "positions": ROTARY,
    "pool": "mean",
    "gelu": "erf",
    "norm_summary": False,
    "key_bias": True,
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
    for name, value in {"qkv_bias": True, "hidden_act": "gelu"}.items():
        if folder.config.get(name, value) != value:
            raise InputError(
                f"{folder.where}: {name} = {folder.config[name]!r}; expected {value!r}, as all "
                "published have."
            )
    classifies = "classifier.weight" in arrays
    root = "vjepa2." if classifies else ""
    heads, patch, side = get("num_attention_heads"), get("patch_size"), get("crop_size")
    width, eps = get("hidden_size"), get("layer_norm_eps", float)
    model: dict[str, Any] = {
        "width": width,
        "depth": depth(arrays, f"{root}encoder.layer."),
        "heads": heads,
        "mlp_dim": int(width * get("mlp_ratio", float)),
        "tubelet": (get("tubelet_size"), patch, patch),
        "norm_eps": eps,
        **LIKE,
        **folder.colours(*IMAGENET),
    }
    sizes, left, notes = {"h": heads}, [], []
    if classifies:
        objective, rules = pooling(arrays, eps), CLASSIFY
        left = [Left(r"vjepa2\.predictor\..+", "the predictor takes no part in classifying")]
    elif predicts := depth(arrays, "predictor.layer."):
        predictor_heads = get("pred_num_attention_heads")
        predictor_width = get("pred_hidden_size")
        objective = {
            "name": "latent_prediction",
            "predictor_width": predictor_width,
            "predictor_depth": predicts,
            "predictor_heads": predictor_heads,
            "predictor_mlp_dim": int(predictor_width * get("pred_mlp_ratio", float)),
            "predictor_positions": ROTARY,
            "shared_mask_token": True,
            "mask_tokens": get("pred_num_mask_tokens"),
        }
        rules, sizes, notes = PREDICT, {"h": heads, "g": predictor_heads}, [MASK_TOKEN]
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


def pooling(arrays: Mapping[str, np.ndarray], eps: float) -> dict[str, Any]:
    """Returns config.objective of a classifier."""
    return {
        "name": "classify",
        "pooling": "attentive",
        "pooler_depth": depth(arrays, "pooler.self_attention_layers."),
        "pooler_norm_eps": eps,
        "pooler_key_bias": True,
    }


def express(pretrained: Pretrained) -> Theirs:
    """Returns the same model as Hugging Face has it.

    Raises:
      InputError: it has no such V-JEPA 2; names what differs.
    """
    experiment, name = pretrained.experiment, pretrained.experiment.objective["name"]
    kinds = {"encode": alone, "latent_prediction": predicting, "classify": classifying}
    if name not in kinds:
        raise InputError(f"config.objective.name = {name!r}")
    model, data = experiment.model, experiment.data
    eps = model["norm_eps"]
    if differs := unlike({**LIKE, "closing_norm_eps": model["closing_norm_eps"] and eps}, model):
        raise InputError(differs)
    objective: Any = pretrained.build()[0]
    dims, (frames, patch, _) = objective.encoder.dims, model["tubelet"]
    theirs = kinds[name](pretrained, objective)
    content = {
        "model_type": "vjepa2",
        "crop_size": data.image_size,
        "patch_size": patch,
        "in_chans": 3,
        "frames_per_clip": data.frames,
        "tubelet_size": frames,
        "hidden_size": dims.width,
        "num_hidden_layers": dims.depth,
        "num_attention_heads": dims.heads,
        "mlp_ratio": ratio(dims.mlp_dim, dims.width),
        "hidden_act": "gelu",
        "layer_norm_eps": eps,
        "qkv_bias": True,
        **theirs.config,
    }
    shown = preprocessor(pretrained, KIND)
    shown["video_processor_type"] = shown.pop("image_processor_type")
    shown["size"] = {"shortest_edge": short_side(data.image_size)}
    return theirs._replace(config=content, preprocessor=shown)


def alone(pretrained: Pretrained, objective: Any) -> Theirs:
    """Returns an encoder's own part."""
    del pretrained
    content = {"architectures": ["VJEPA2Model"], **NO_PREDICTOR}
    idle = no_predictor("predictor", objective.encoder.dims.width)
    return Theirs(content, {}, ENCODE, idle=idle)


def predicting(pretrained: Pretrained, objective: Any) -> Theirs:
    """Returns the own part of an encoder and its predictor."""
    wanted = {"predictor_positions": ROTARY, "shared_mask_token": True}
    if differs := differing("objective", wanted, pretrained.experiment.objective):
        raise InputError(differs)
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
    dims, options = objective.encoder.dims, pretrained.experiment.objective
    wanted = {
        "pooling": "attentive",
        "pooler_heads": options["pooler_heads"] and dims.heads,
        "pooler_norm_eps": objective.encoder.norm_eps,
        "pooler_key_bias": True,
    }
    if differs := differing("objective", wanted, options):
        raise InputError(differs)
    content = {
        "architectures": ["VJEPA2ForVideoClassification"],
        "num_pooler_layers": objective.pooler_depth,
        **NO_PREDICTOR,
        **labels(pretrained),
    }
    idle = no_predictor("vjepa2.predictor", dims.width)
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
