"""Hugging Face's VideoMAE: pretraining (VideoMAEForPreTraining) and classification.

Its numbers differ a little from the original's: blocks have a layer norm epsilon of 1e-12, and the
norm of the summary and the decoder's closing norm one of 1e-5, where the original has 1e-6
everywhere. Keys have no bias. Positions are not in the file.
"""

from typing import Any

from vivit_jax.pretrained.found import Found, Pretrained, about_rate
from vivit_jax.pretrained.hf_express import (
    Theirs,
    about_encoder,
    check_model,
    check_objective,
    labels,
    preprocessor,
)
from vivit_jax.pretrained.hf_folder import Folder, block
from vivit_jax.pretrained.originals import IMAGENET
from vivit_jax.pretrained.rules import Rule, dense, norm, tubelets
from vivit_jax.pretrained.videomae import LIKE

NAMES = (  # transformers 5's, in memory
    (r"attention\.attention\.query\.bias$", "attention.attention.q_bias"),
    (r"attention\.attention\.value\.bias$", "attention.attention.v_bias"),
)
KIND = "VideoMAEImageProcessor"
RATE = {"stride": 4}  # on Kinetics; on Something-Something 2
CLOSING_EPS = 1e-5  # PyTorch's default
DECODER = {  # options of the objective that it cannot have otherwise
    "decoder_mask_ratio": 0.0,
    "target_frames": "all",
    "decoder_positions": "sincos_1d",
    "decoder_class_token": False,
    "decoder_embed_bias": False,
}
ENCODER = [
    *tubelets("videomae.embeddings.patch_embeddings.projection"),
    *block("videomae.encoder.layer.{i}", "encoder/blocks/block_{i}", "h", query_value_biases=True),
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
    *block("decoder.decoder_layers.{i}", "decoder/blocks/block_{i}", "g", query_value_biases=True),
    *norm("decoder.norm", "decoder/blocks/norm"),
    *dense("decoder.head", "decoder/out"),
]


def find(folder: Folder) -> Found:
    """Returns what a folder holds.

    Raises:
      InputError: config.json lacks something, or is of a form that nobody trained.
    """
    get = folder.get
    folder.check("qv_bias", True)
    patch, told = get("patch_size"), folder.encoder()
    width, heads = told["width"], told["heads"]
    notes = []
    if width != 64 * heads:
        notes.append(
            f"num_attention_heads = {heads} makes heads of {width / heads:g}, and VideoMAE's have "
            "64: published conversions of the small model say 16 where it was trained with 6. "
            "Correct config.json if this is one."
        )
    model: dict[str, Any] = {
        **LIKE,
        **told,
        "mlp_dim": get("intermediate_size"),
        "tubelet": (get("tubelet_size"), patch, patch),
        **folder.colours(**IMAGENET),
    }
    sizes = {"h": heads}
    if "classifier.weight" in folder.arrays:
        model |= {"norm_summary": True, "closing_norm_eps": CLOSING_EPS}
        objective, rules = {"name": "classify"}, CLASSIFY
    else:
        sizes["g"] = get("decoder_num_attention_heads")
        objective, rules = decoder(folder), PRETRAIN
    return Found(
        where=folder.where,
        model=model,
        objective=objective,
        data={"frames": get("num_frames"), "image_size": get("image_size"), **RATE},
        arrays=folder.arrays,
        rules=rules,
        sizes=sizes,
        label_maps=folder.labels(),
        notes=[*notes, about_rate(RATE)],
    )


def decoder(folder: Folder) -> dict[str, Any]:
    """Returns config.objective of a folder from pretraining.

    Raises:
      InputError: config.json lacks something.
    """
    return {
        "name": "masked_pixels",
        "decoder_width": folder.get("decoder_hidden_size"),
        "decoder_depth": folder.get("decoder_num_hidden_layers"),
        "decoder_heads": folder.get("decoder_num_attention_heads"),
        "decoder_mlp_dim": folder.get("decoder_intermediate_size"),
        "decoder_closing_norm_eps": CLOSING_EPS,
        "target_normalised": "colour" if folder.get("norm_pix_loss", bool) else "none",
    }


def express(pretrained: Pretrained) -> Theirs:
    """Returns the same model as Hugging Face has it.

    Raises:
      InputError: it has no such VideoMAE; names what differs.
    """
    experiment = pretrained.experiment
    wanted = {"classify": {"pooling": "summary"}, "masked_pixels": DECODER}
    check_objective(wanted, experiment.objective)
    classifies = experiment.objective["name"] == "classify"
    check_model({**LIKE, "norm_summary": classifies}, experiment.model)
    objective: Any = pretrained.objective()
    encoder = objective.encoder
    closing = encoder.closing_norm_eps if classifies else objective.decoder_closing_norm_eps
    eps, notes = closing or encoder.norm_eps, []
    if eps != CLOSING_EPS:
        notes.append(
            f"its closing norm has an epsilon of {CLOSING_EPS}, and this model's has {eps}: "
            "outputs will differ by a little"
        )
    content = {
        **about_encoder(encoder),
        "image_size": experiment.data.image_size,
        "patch_size": encoder.tubelet[1],
        "num_channels": 3,
        "num_frames": experiment.data.frames,
        "tubelet_size": encoder.tubelet[0],
        "intermediate_size": encoder.dims.mlp_dim,
        "qv_bias": True,
        "use_mean_pooling": classifies,
        **(classifying(pretrained) if classifies else pretraining(objective)),
    }
    rules = CLASSIFY if classifies else PRETRAIN
    return Theirs(content, preprocessor(pretrained, KIND), rules, notes)


def classifying(pretrained: Pretrained) -> dict[str, Any]:
    """Returns what only a classifier has in config.json."""
    return {"architectures": ["VideoMAEForVideoClassification"], **labels(pretrained)}


def pretraining(objective: Any) -> dict[str, Any]:
    """Returns what only a model for pretraining has in config.json: `decoder` undone."""
    return {
        "architectures": ["VideoMAEForPreTraining"],
        "decoder_hidden_size": objective.decoder_width,
        "decoder_num_hidden_layers": objective.decoder_depth,
        "decoder_num_attention_heads": objective.decoder_heads,
        "decoder_intermediate_size": objective.decoder_mlp_dim or 4 * objective.decoder_width,
        "norm_pix_loss": objective.target_normalised == "colour",
    }
