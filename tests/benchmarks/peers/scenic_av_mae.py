"""Scenic's AV-MAE of video alone as a peer of a config that pretrains by masked pixels.

    git clone https://github.com/google-research/scenic DIR
    pip install immutabledict tensorflow-cpu
    PYTHONPATH=DIR python -m vivit_jax.benchmark step --config configs/videomae_pretrain.py:k400_B \
        --peer tests/benchmarks/peers/scenic_av_mae.py

Its module, its targets and its loss, and optax with the config's optimiser, compiled for one
device: Scenic's trainers import a package that was deleted, its models do not, and need no change.
Tried with commit 4a38d47 of July 2026. Clips are float32, as its input path leaves them, and lie on
the device.

It is VideoMAE but for what Scenic's blocks are: GELU by tanh, and biases of keys, which are counted
as its own. Its decoder predicts the pixels of every token, and the loss leaves out those that were
seen.
"""

import functools

import jax
from ml_collections import ConfigDict

from vivit_jax.benchmarks import parts
from vivit_jax.errors import InputError
from vivit_jax.host_tensorflow import host_tensorflow
from vivit_jax.options import choose

NAME = "scenic AV-MAE"
POSITIONS = {"sincos_1d": "sinusoidal_1d", "sincos_3d": "sinusoidal_3d", "learned": "learned_1d"}
STANDARDISED = {
    "colour": {"standardise_per_patch_channels": True},
    "all": {"standardise_per_patch": True},
    "input": {},
}


def rows(run):
    """Returns Scenic's forward pass, gradient and step of the run's model."""
    host_tensorflow()  # Scenic imports it for files alone, and it would take a GPU's memory
    from scenic.projects.av_mae import base_model, vivit

    choose(f"{NAME}: objective.name", run.experiment.objective["name"], ["masked_pixels"])
    encoder, objective, data = run.objective.encoder, run.objective, run.experiment.data
    model = vivit.ViViTMaskedAutoencoderModel(ConfigDict(theirs(encoder, objective)), {})
    module = model.flax_model
    video_key, params_key, mask_key = jax.random.split(jax.random.key(0), 3)
    shape = (data.batch_size, data.frames, data.image_size, data.image_size, 3)
    batch = {"inputs": jax.random.uniform(video_key, shape, minval=-1.0, maxval=1.0)}
    init = jax.jit(functools.partial(module.init, train=True))  # without train it has no decoder
    keys = {"params": params_key, "dropout": mask_key}
    params = init(keys, batch["inputs"][:1])["params"]
    blocks = ((encoder.dims.depth, encoder.dims.width),)
    blocks += ((objective.decoder_depth, objective.decoder_width),)
    key_biases = 0 if encoder.key_bias else sum(depth * width for depth, width in blocks)
    parts.check_values(NAME, sum(x.size for x in jax.tree.leaves(params)), run, key_biases)

    def loss(params, batch, key):
        video, targets = batch["inputs"], model.config.masked_feature_loss
        wanted = base_model.get_rgb_targets(
            video,
            tuple(model.config.model.patches.size),
            targets.select_central_frame,
            standardise_per_patch=targets.get("standardise_per_patch", False),
            standardise_per_patch_channels=targets.get("standardise_per_patch_channels", False),
        )
        drawn = {"dropout": key}
        predicted, mask = module.apply({"params": params}, video, train=True, rngs=drawn)
        return model.loss_function(predicted, mask, {"target_rgb": wanted}, params)

    return parts.in_jax(NAME, loss, params, batch, run)


def theirs(encoder, objective):
    """Returns the model in Scenic's words; refuses what it has not."""
    for module, field, choices in (
        (encoder, "attention", ["joint"]),
        (encoder, "pool", ["class_token", "mean"]),
        (encoder, "positions", POSITIONS),
        (objective, "decoder_positions", POSITIONS),
        (objective, "mask", ["tube", "random"]),
        (objective, "target_frames", ["all", "central"]),
        (objective, "target_normalised", STANDARDISED),
    ):
        part = "model" if module is encoder else "objective"
        choose(f"{NAME}: {part}.{field}", getattr(module, field), choices)
    if objective.decoder_mask_ratio or objective.decoder_class_token:
        raise InputError(
            f"{NAME}: decodes every token, without a class token of the decoder's own."
        )
    width, depth, heads, mlp_dim = encoder.dims
    frames, height, breadth = encoder.tubelet
    none = {"dropout_rate": 0.0, "attention_dropout_rate": 0.0, "stochastic_droplayer_rate": 0.0}
    joint = {"attention_config": {"type": "spacetime"}}
    return {
        "model": {
            **joint,
            "hidden_size": width,
            "num_layers": depth,
            "num_heads": heads,
            "mlp_dim": mlp_dim,
            "patches": {"size": (height, breadth, frames)},
            "classifier": "token" if encoder.class_token else "none",
            "positional_embedding": POSITIONS[encoder.positions],
            "positional_embedding_decoder": POSITIONS[objective.decoder_positions],
            "temporal_encoding_config": {"method": "3d_conv"},
            "dropout_rate": encoder.dropout,
            "attention_dropout_rate": encoder.attention_dropout,
            "stochastic_droplayer_rate": encoder.drop_path,
            "decoder_config": {
                **none,
                **joint,
                "hidden_size": objective.decoder_width,
                "num_layers": objective.decoder_depth,
                "num_heads": objective.decoder_heads,
                "mlp_dim": objective.decoder_mlp_dim or 4 * objective.decoder_width,
                "use_projection_bias": objective.decoder_embed_bias,
            },
        },
        "model_dtype_str": encoder.dtype,
        "masked_feature_loss": {
            "target": "rgb",
            "masking_strategy": objective.mask,
            "token_mask_probability": objective.mask_ratio,
            "select_central_frame": objective.target_frames == "central",
            "normalise_by_output_dimension": True,
            **STANDARDISED[objective.target_normalised],
        },
    }
