"""Hugging Face's VideoMAE: pretraining (VideoMAEForPreTraining) and classification.

Its numbers differ a little from the original's: blocks have a layer norm epsilon of 1e-12, and the
norm of the summary and the decoder's closing norm one of 1e-5, where the original has 1e-6
everywhere. Keys have no bias. Positions are not in the file.
"""

from typing import Any

from vivit_jax.errors import InputError
from vivit_jax.pretrained.found import Found, Pretrained, about_rate
from vivit_jax.pretrained.huggingface import (
    Folder,
    Theirs,
    differing,
    labels,
    preprocessor,
    unlike,
)
from vivit_jax.pretrained.rules import Rule, dense, from_heads, norm, to_heads, tubelets

NAMES = (  # transformers 5's, in memory
    (r"attention\.attention\.query\.bias$", "attention.attention.q_bias"),
    (r"attention\.attention\.value\.bias$", "attention.attention.v_bias"),
)
KIND = "VideoMAEImageProcessor"
RATE = {"stride": 4}  # on Kinetics; on Something-Something 2
CLOSING_EPS = 1e-5  # PyTorch's default
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
LIKE = {  # what every VideoMAE is
    "attention": "joint",
    "positions": "sincos_1d",
    "pool": "mean",
    "key_bias": False,
}


def block(theirs: str, ours: str, heads: str) -> list[Rule]:
    """Returns the rules of the blocks of a stack, whose heads are an axis of their own."""
    attend, inner = f"{ours}/attention_0", f"{theirs}.attention.attention"
    bias = f"({heads} k) -> {heads} k"
    return [
        *norm(f"{theirs}.layernorm_before", f"{ours}/attention_norm_0"),
        *to_heads(f"{inner}.query", f"{attend}/query", bias=False, heads=heads),
        *to_heads(f"{inner}.key", f"{attend}/key", bias=False, heads=heads),
        *to_heads(f"{inner}.value", f"{attend}/value", bias=False, heads=heads),
        Rule(f"{inner}.q_bias", f"{attend}/query/bias", bias),
        Rule(f"{inner}.v_bias", f"{attend}/value/bias", bias),
        *from_heads(f"{theirs}.attention.output.dense", f"{attend}/out", heads=heads),
        *norm(f"{theirs}.layernorm_after", f"{ours}/mlp_norm"),
        *dense(f"{theirs}.intermediate.dense", f"{ours}/mlp_in"),
        *dense(f"{theirs}.output.dense", f"{ours}/mlp_out"),
    ]


DECODER = {  # options of the objective that it cannot have otherwise
    "decoder_mask_ratio": 0.0,
    "target_frames": "all",
    "decoder_positions": "sincos_1d",
    "decoder_class_token": False,
    "decoder_embed_bias": False,
}
ENCODER = [
    *tubelets("videomae.embeddings.patch_embeddings.projection"),
    *block("videomae.encoder.layer.{i}", "encoder/blocks/block_{i}", "h"),
]
CLASSIFY = [
    *ENCODER,
    *norm("fc_norm", "encoder/blocks/summary_norm"),
    *dense("classifier", "head"),
]
PRETRAIN = [
    *ENCODER,
    *norm("videomae.layernorm", "encoder/blocks/norm"),
    *dense("encoder_to_decoder", "decoder/embed", bias=False),
    Rule("mask_token", "decoder/mask_tokens", "1 m d -> m d"),
    *block("decoder.decoder_layers.{i}", "decoder/blocks/block_{i}", "g"),
    *norm("decoder.norm", "decoder/blocks/norm"),
    *dense("decoder.head", "decoder/out"),
]


def find(folder: Folder) -> Found:
    """Returns what a folder holds.

    Raises:
      InputError: config.json lacks something, or is of a form that nobody trained.
    """
    get, arrays = folder.get, folder.arrays
    if not folder.config.get("qv_bias", True):
        raise InputError(f"{folder.where}: qv_bias is false; expected true, as all published have.")
    width, heads = get("hidden_size"), get("num_attention_heads")
    patch, frames = get("patch_size"), get("num_frames")
    notes = []
    if width != 64 * heads:
        notes.append(
            f"num_attention_heads = {heads} makes heads of {width / heads:g}, and VideoMAE's have "
            "64: published conversions of the small model say 16 where it was trained with 6. "
            "Correct config.json if this is one."
        )
    model: dict[str, Any] = {
        "width": width,
        "depth": get("num_hidden_layers"),
        "heads": heads,
        "mlp_dim": get("intermediate_size"),
        "tubelet": (get("tubelet_size"), patch, patch),
        "norm_eps": get("layer_norm_eps", float),
        "gelu": folder.gelu(),
        **LIKE,
        **folder.colours(*IMAGENET),
    }
    data = {"frames": frames, "image_size": get("image_size"), **RATE}
    notes.append(about_rate(RATE))
    sizes = {"h": heads}
    if "classifier.weight" in arrays:
        model |= {"norm_summary": True, "closing_norm_eps": CLOSING_EPS}
        objective, rules = {"name": "classify"}, CLASSIFY
    else:
        decoder_heads = get("decoder_num_attention_heads")
        objective = {
            "name": "masked_pixels",
            "decoder_width": get("decoder_hidden_size"),
            "decoder_depth": get("decoder_num_hidden_layers"),
            "decoder_heads": decoder_heads,
            "decoder_mlp_dim": get("decoder_intermediate_size"),
            "decoder_closing_norm_eps": CLOSING_EPS,
            "target_normalised": "colour" if get("norm_pix_loss", bool) else "none",
        }
        rules, sizes = PRETRAIN, {"h": heads, "g": decoder_heads}
    return Found(
        where=folder.where,
        model=model,
        objective=objective,
        data=data,
        arrays=arrays,
        rules=rules,
        sizes=sizes,
        label_maps=folder.labels(),
        notes=notes,
    )


def express(pretrained: Pretrained) -> Theirs:
    """Returns the same model as Hugging Face has it.

    Raises:
      InputError: it has no such VideoMAE; names what differs.
    """
    experiment = pretrained.experiment
    model, data = experiment.model, experiment.data
    objective: Any = pretrained.build()[0]
    classifies = experiment.objective["name"] == "classify"
    if experiment.objective["name"] not in ("classify", "masked_pixels"):
        raise InputError(f"config.objective.name = {experiment.objective['name']!r}")
    if differs := unlike({**LIKE, "norm_summary": classifies, "gelu": "erf"}, model):
        raise InputError(differs)
    if differs := not classifies and differing("objective", DECODER, experiment.objective):
        raise InputError(differs)
    dims = objective.encoder.dims
    content: dict[str, Any] = {
        "model_type": "videomae",
        "image_size": data.image_size,
        "patch_size": model["tubelet"][1],
        "num_channels": 3,
        "num_frames": data.frames,
        "tubelet_size": model["tubelet"][0],
        "hidden_size": dims.width,
        "num_hidden_layers": dims.depth,
        "num_attention_heads": dims.heads,
        "intermediate_size": dims.mlp_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": model["norm_eps"],
        "qv_bias": True,
        "use_mean_pooling": classifies,
    }
    eps = (
        model["closing_norm_eps"] or model["norm_eps"]
        if classifies
        else (objective.decoder_closing_norm_eps or model["norm_eps"])
    )
    notes = (
        []
        if eps == CLOSING_EPS
        else [
            f"its closing norm has an epsilon of {CLOSING_EPS}, and this model's has {eps}: "
            "outputs will differ by a little"
        ]
    )
    if classifies:
        if differs := differing("objective", {"pooling": "summary"}, experiment.objective):
            raise InputError(differs)
        content |= {"architectures": ["VideoMAEForVideoClassification"], **labels(pretrained)}
        return Theirs(content, preprocessor(pretrained, KIND), CLASSIFY, notes)
    content |= {
        "architectures": ["VideoMAEForPreTraining"],
        "decoder_hidden_size": objective.decoder_width,
        "decoder_num_hidden_layers": objective.decoder_depth,
        "decoder_num_attention_heads": objective.decoder_heads,
        "decoder_intermediate_size": objective.decoder_mlp_dim or 4 * objective.decoder_width,
        "norm_pix_loss": objective.target_normalised == "colour",
    }
    return Theirs(content, preprocessor(pretrained, KIND), PRETRAIN, notes)
