"""ViViT and TimeSformer beside Hugging Face's, from shared random weights."""

from typing import Any

import jax
import numpy as np
import pytest
from einops import rearrange
from torch_weights import attention, norm, randomised, weights

from vivit_jax.models.video_transformer import VideoTransformer

torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="parity needs the extra `parity`")

SHAPES: dict[str, dict[str, Any]] = {  # two that are unlike in everything
    "deep": {"width": 48, "depth": 3, "heads": 3, "mlp_dim": 80, "tubelet": (2, 8, 8)},
    "wide": {"width": 64, "depth": 2, "heads": 4, "mlp_dim": 96, "tubelet": (3, 4, 4)},
}
CLIPS = {"deep": (4, 32), "wide": (6, 16)}  # frames, image_size


def fused(attend, heads):
    """The same, from TimeSformer's fused projection."""
    qkv = weights(attend.attention.qkv)
    parts = zip(*(np.split(x, 3, axis=-1) for x in qkv.values()), strict=True)
    qkv = [dict(zip(qkv, part, strict=True)) for part in parts]
    return attention(*qkv, weights(attend.output.dense), heads)


def vivit_params(model, heads):
    embeddings = model.vivit.embeddings
    projection = embeddings.patch_embeddings.projection
    blocks = {
        f"block_{i}": {
            "attention_norm_0": norm(layer.layernorm_before),
            "attention_0": attention(
                *(
                    weights(getattr(layer.attention, f"{name}_proj"))
                    for name in ("q", "k", "v", "o")
                ),
                heads,
            ),
            "mlp_norm": norm(layer.layernorm_after),
            "mlp_in": weights(layer.mlp.fc1),
            "mlp_out": weights(layer.mlp.fc2),
        }
        for i, layer in enumerate(model.vivit.layers)
    }
    return {
        "tubelets": {
            "kernel": rearrange(projection.weight.numpy(force=True), "d c t h w -> t h w c d"),
            "bias": projection.bias.numpy(force=True),
        },
        "blocks": blocks
        | {
            "class_token": embeddings.cls_token.numpy(force=True),
            "position": embeddings.position_embeddings.numpy(force=True),
            "norm": norm(model.vivit.layernorm),
        },
    }


def timesformer_params(model, heads):
    embeddings = model.timesformer.embeddings
    projection = embeddings.patch_embeddings.projection
    blocks = {}
    for i, layer in enumerate(model.timesformer.encoder.layer):
        block = {
            "mlp_norm": norm(layer.layernorm_after),
            "mlp_in": weights(layer.intermediate.dense),
            "mlp_out": weights(layer.output.dense),
        }
        space = {"norm": norm(layer.layernorm_before), "attend": fused(layer.attention, heads)}
        if layer.attention_type == "divided_space_time":
            block["attention_norm_0"] = norm(layer.temporal_layernorm)
            block["attention_0"] = fused(layer.temporal_attention, heads)
            block["zero_dense"] = weights(layer.temporal_dense)
            block |= {"attention_norm_1": space["norm"], "attention_1": space["attend"]}
        else:
            block |= {"attention_norm_0": space["norm"], "attention_0": space["attend"]}
        blocks[f"block_{i}"] = block
    return {
        "tubelets": {
            "kernel": rearrange(projection.weight.numpy(force=True), "d c h w -> 1 h w c d"),
            "bias": projection.bias.numpy(force=True),
        },
        "blocks": blocks
        | {
            "class_token": embeddings.cls_token.numpy(force=True),
            "position_space": embeddings.position_embeddings.numpy(force=True),
            "position_time": embeddings.time_embeddings.numpy(force=True),
            "norm": norm(model.timesformer.layernorm),
        },
    }


def compare(ours, params, theirs, backbone, video, to_raster):
    """Asserts that features and logits differ by 1e-4 at most."""
    features = jax.jit(ours.apply)({"params": params}, video)
    pixels = torch.from_numpy(rearrange(video, "b t h w c -> b t c h w").copy())
    with torch.no_grad():
        hidden = backbone(pixels)[0]
        logits = theirs(pixels).logits.numpy()
    np.testing.assert_allclose(features.tokens, to_raster(hidden[:, 1:].numpy()), atol=1e-4, rtol=0)
    head = weights(theirs.classifier)
    found = np.asarray(features.summary) @ head["kernel"] + head["bias"]
    np.testing.assert_allclose(found, logits, atol=1e-4, rtol=0)


def clips(frames, image_size):
    shape = (2, frames, image_size, image_size, 3)
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", SHAPES)
def test_joint_is_hugging_face_s_vivit(shape):
    fields, (frames, image_size) = SHAPES[shape], CLIPS[shape]
    theirs = randomised(
        transformers.VivitForVideoClassification(
            transformers.VivitConfig(
                image_size=image_size,
                num_frames=frames,
                tubelet_size=list(fields["tubelet"]),
                hidden_size=fields["width"],
                num_hidden_layers=fields["depth"],
                num_attention_heads=fields["heads"],
                intermediate_size=fields["mlp_dim"],
                num_labels=7,
            )
        )
    )
    params = vivit_params(theirs, fields["heads"])
    video = clips(frames, image_size)
    compare(VideoTransformer(**fields), params, theirs, theirs.vivit, video, lambda x: x)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("arrangement", "attention_type"),
    [("divided", "divided_space_time"), ("joint", "joint_space_time")],
)
def test_divided_and_joint_are_hugging_face_s_timesformer(arrangement, attention_type, shape):
    frames, image_size = CLIPS[shape]
    fields: dict[str, Any] = SHAPES[shape] | {"tubelet": (1, *SHAPES[shape]["tubelet"][1:])}
    theirs = randomised(
        transformers.TimesformerForVideoClassification(
            transformers.TimesformerConfig(
                image_size=image_size,
                patch_size=fields["tubelet"][1],
                num_frames=frames,
                hidden_size=fields["width"],
                num_hidden_layers=fields["depth"],
                num_attention_heads=fields["heads"],
                intermediate_size=fields["mlp_dim"],
                attention_type=attention_type,
                num_labels=5,
            )
        )
    )
    ours = VideoTransformer(**fields, attention=arrangement, positions="separable", gelu="erf")
    params = timesformer_params(theirs, fields["heads"])

    def to_raster(tokens):  # theirs run through time fastest
        return rearrange(tokens, "b (s t) d -> b (t s) d", t=frames)

    compare(ours, params, theirs, theirs.timesformer, clips(frames, image_size), to_raster)
