"""Masked pretraining beside Hugging Face's own modules, live, from shared weights and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange
from flax import traverse_util
from torch_weights import attention, norm, randomised, tubelets, weights

from vivit_jax.models.layers import take
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.objectives.latent_prediction import LatentPrediction
from vivit_jax.objectives.masked_pixels import Drawn, MaskedPixels

torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="parity needs the extra `parity`")

B, FRAMES, SIZE, TUBELET = 2, 6, 32, (2, 8, 8)  # 3 slots of 16 places
AXES = (3, 4, 4)
WIDTH, DEPTH, HEADS, MLP = 48, 2, 4, 96
RELATIVE = 1e-4
EPS = 1e-5
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def encoder(**fields):
    sizes = {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "mlp_dim": MLP, "tubelet": TUBELET}
    return VideoTransformer(**sizes, **fields, pool="mean", gelu="erf", norm_eps=EPS, **IMAGENET)


def places(rng, visible, masked):
    """Places of a tube mask, those seen and those not."""
    order = np.stack([rng.permutation(16) for _ in range(B)])
    parts = (order[:, :visible], order[:, visible : visible + masked])
    slots = 16 * np.arange(3)[None, :, None]
    return [(slots + np.sort(x)[:, None]).reshape(B, -1) for x in parts]


def clips():
    rng = np.random.default_rng(0)
    video = rng.normal(size=(B, FRAMES, SIZE, SIZE, 3)).astype(np.float32)
    return video, torch.from_numpy(rearrange(video, "b t h w c -> b t c h w").copy())


def block(layer, attend, out, norms, mlp, heads, part):
    """A block's parameters, from its Linears and LayerNorms."""
    return {
        "attention_norm_0": norm(norms[0], part),
        "attention_0": attention(*(weights(x, part) for x in attend), weights(out, part), heads),
        "mlp_norm": norm(norms[1], part),
        "mlp_in": weights(mlp[0], part),
        "mlp_out": weights(mlp[1], part),
    }


def videomae_blocks(layers, heads, part):
    return {
        f"block_{i}": block(
            layer,
            [getattr(layer.attention.attention, name) for name in ("query", "key", "value")],
            layer.attention.output.dense,
            (layer.layernorm_before, layer.layernorm_after),
            (layer.intermediate.dense, layer.output.dense),
            heads,
            part,
        )
        for i, layer in enumerate(layers)
    }


def videomae_params(model, part):
    decoder, backbone = model.decoder, model.videomae
    blocks = videomae_blocks(backbone.encoder.layer, HEADS, part)
    return {
        "encoder": {
            "tubelets": tubelets(backbone.embeddings.patch_embeddings.projection, part),
            "blocks": blocks | {"norm": norm(backbone.layernorm, part)},
        },
        "decoder": {
            "embed": weights(model.encoder_to_decoder, part),
            "mask_tokens": part(model.mask_token).numpy(force=True)[0],
            "blocks": videomae_blocks(decoder.decoder_layers, 2, part)
            | {"norm": norm(decoder.norm, part)},
            "out": weights(decoder.head, part),
        },
    }


def vjepa2_blocks(layers, heads, part):
    return {
        f"block_{i}": block(
            layer,
            [getattr(layer.attention, name) for name in ("query", "key", "value")],
            layer.attention.proj,
            (layer.norm1, layer.norm2),
            (layer.mlp.fc1, layer.mlp.fc2),
            heads,
            part,
        )
        for i, layer in enumerate(layers)
    }


def vjepa2_params(model, part):
    own, predictor = model.encoder, model.predictor
    return {
        "encoder": {
            "tubelets": tubelets(own.embeddings.patch_embeddings.proj, part),
            "blocks": vjepa2_blocks(own.layer, HEADS, part) | {"norm": norm(own.layernorm, part)},
        },
        "predictor": {
            "embed": weights(predictor.embeddings.predictor_embeddings, part),
            "mask_tokens": part(predictor.embeddings.mask_tokens).numpy(force=True)[:, 0, 0],
            "blocks": vjepa2_blocks(predictor.layer, 2, part)
            | {"norm": norm(predictor.layernorm, part)},
            "out": weights(predictor.proj, part),
        },
    }


def gradient(parameter):
    return parameter.grad


def compare(found, wanted):
    """Asserts that two trees of gradients differ by RELATIVE of each array's largest."""
    found, wanted = (traverse_util.flatten_dict(x, sep="/") for x in (found, wanted))
    assert found.keys() == wanted.keys()
    largest = max(np.abs(x).max() for x in wanted.values())
    for path, grad in wanted.items():
        atol = RELATIVE * max(np.abs(grad).max(), 1e-3 * largest)
        np.testing.assert_allclose(found[path], grad, rtol=0, atol=atol, err_msg=path)


@pytest.mark.parametrize("normalised", ["colour", "none"])
def test_masked_pixels_is_hugging_face_s_videomae(normalised):
    theirs = randomised(
        transformers.VideoMAEForPreTraining(
            transformers.VideoMAEConfig(
                image_size=SIZE,
                patch_size=8,
                num_frames=FRAMES,
                hidden_size=WIDTH,
                num_hidden_layers=DEPTH,
                num_attention_heads=HEADS,
                intermediate_size=MLP,
                decoder_hidden_size=24,
                decoder_num_hidden_layers=1,
                decoder_num_attention_heads=2,
                decoder_intermediate_size=40,
                layer_norm_eps=EPS,
                norm_pix_loss=normalised == "colour",
                use_mean_pooling=False,  # which is where its closing norm is
            )
        )
    )
    ours = MaskedPixels(
        encoder(positions="sincos_1d", key_bias=False),
        decoder_width=24,
        decoder_depth=1,
        decoder_heads=2,
        decoder_mlp_dim=40,
        target_normalised=normalised,
    )
    visible, masked = places(np.random.default_rng(1), 4, 12)
    hidden = np.ones((B, 48), bool)
    np.put_along_axis(hidden, visible, False, axis=1)
    video, pixels = clips()
    expected = theirs(pixels, torch.from_numpy(hidden)).loss
    expected.backward()
    drawn = Drawn(jnp.asarray(visible), jnp.asarray(masked), jnp.ones(masked.shape))

    def loss(params):
        return ours.apply({"params": params}, jnp.asarray(video), drawn, method="losses").mean()

    params = jax.tree.map(jnp.asarray, videomae_params(theirs, lambda x: x))
    value, grads = jax.jit(jax.value_and_grad(loss))(params)
    assert value == pytest.approx(expected.item(), rel=RELATIVE)
    compare(grads, videomae_params(theirs, gradient))


def test_encoder_and_predictor_are_hugging_face_s_v_jepa_2():
    theirs = randomised(
        transformers.VJEPA2Model(
            transformers.VJEPA2Config(
                crop_size=SIZE,
                patch_size=8,
                frames_per_clip=FRAMES,
                tubelet_size=2,
                hidden_size=WIDTH,
                num_hidden_layers=DEPTH,
                num_attention_heads=HEADS,
                mlp_ratio=MLP / WIDTH,
                pred_hidden_size=24,
                pred_num_attention_heads=2,
                pred_num_hidden_layers=1,
                pred_num_mask_tokens=2,
                pred_mlp_ratio=4,
                layer_norm_eps=EPS,
            )
        )
    )
    ours = LatentPrediction(
        encoder(positions="rotary_3d_tiled"),
        predictor_width=24,
        predictor_depth=1,
        predictor_heads=2,
        predictor_positions="rotary_3d_tiled",
    )
    visible, masked = places(np.random.default_rng(2), 5, 7)
    video, pixels = clips()
    found = theirs(pixels, [torch.from_numpy(visible)], [torch.from_numpy(masked)])
    expected = found.predictor_output.last_hidden_state
    expected.square().mean().backward()

    def predict(module, video):  # theirs runs the encoder on all tokens, and picks
        tokens = module.encoder(video).tokens
        seen = take(tokens, jnp.asarray(visible))
        holes = jnp.asarray(masked)
        return module.predictor(seen, jnp.asarray(visible), holes, AXES, 1), tokens

    def loss(params):
        predicted, tokens = ours.apply({"params": params}, jnp.asarray(video), method=predict)
        return jnp.square(predicted).mean(), (predicted, tokens)

    params = jax.tree.map(jnp.asarray, vjepa2_params(theirs, lambda x: x))
    (_, (predicted, tokens)), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    for ours_, theirs_ in ((tokens, found.last_hidden_state), (predicted, expected)):
        scale = theirs_.abs().max().item()
        np.testing.assert_allclose(ours_, theirs_.numpy(force=True), atol=RELATIVE * scale, rtol=0)
    compare(grads, vjepa2_params(theirs, gradient))
