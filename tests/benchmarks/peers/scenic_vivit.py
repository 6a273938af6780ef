"""Scenic's own ViViT, models 1 to 4, as a peer of a supervised config.

    git clone https://github.com/google-research/scenic DIR
    pip install immutabledict tensorflow-cpu
    PYTHONPATH=DIR python -m vivit_jax.benchmark step --config configs/vivit.py:k400_B \
        --peer tests/benchmarks/peers/scenic_vivit.py

Its module, its loss, and optax with the config's optimiser, compiled for one device: Scenic's
trainers import a package that was deleted, its models do not, and need no change. Tried with commit
4a38d47 of July 2026. Clips are float32, as its input path leaves them, and lie on the device.
"""

import functools

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from vivit_jax.benchmarks import parts
from vivit_jax.errors import InputError
from vivit_jax.host_tensorflow import host_tensorflow
from vivit_jax.options import choose

NAME = "scenic"
ATTENTION = {
    "joint": "spacetime",
    "factorised_encoder": "factorized_encoder",
    "factorised_self_attention": "factorized_self_attention_block",
    "factorised_dot_product": "factorized_dot_product_attention",
}
CLASSIFIER = {"class_token": "token", "mean": "gap"}


def rows(run):
    """Returns Scenic's forward pass, gradient and step of the run's model."""
    host_tensorflow()  # Scenic imports it for files alone, and it would take a GPU's memory
    from scenic.projects.vivit import model as vivit

    encoder, data, classes = run.objective.encoder, run.experiment.data, classes_of(run)
    model = vivit.ViViTClassificationModel(
        ConfigDict(theirs(encoder, run.objective)),
        {"num_classes": classes, "target_is_onehot": True},
    )
    module = model.flax_model
    video_key, params_key = jax.random.split(jax.random.key(0))
    shape = (data.batch_size, data.frames, data.image_size, data.image_size, 3)
    batch = {
        "inputs": jax.random.uniform(video_key, shape, minval=-1.0, maxval=1.0),
        "label": jax.nn.one_hot(jnp.zeros(data.batch_size, int), classes),
    }
    init = jax.jit(functools.partial(module.init, train=False))
    params = init(params_key, batch["inputs"][:1])["params"]
    parts.check_values(NAME, sum(x.size for x in jax.tree.leaves(params)), run)

    def loss(params, batch, key):
        drawn = {"dropout": key}
        logits = module.apply({"params": params}, batch["inputs"], train=True, rngs=drawn)
        return model.loss_function(logits, batch, params)

    return parts.in_jax(NAME, loss, params, batch, run)


def classes_of(run):
    """Returns the number of classes; refuses what is no classification by one label."""
    choose(f"{NAME}: objective.name", run.experiment.objective["name"], ["classify"])
    choose(f"{NAME}: data.labels", run.experiment.data.labels, ["single"])
    (names,) = run.sources.label_maps
    return len(names)


def theirs(encoder, objective):
    """Returns the model in Scenic's words; refuses what it has not."""
    for field, choices in {
        "attention": ATTENTION,
        "pool": CLASSIFIER,
        "positions": ["learned"],
        "gelu": ["tanh"],
    }.items():
        choose(f"{NAME}: model.{field}", getattr(encoder, field), choices)
    if not (encoder.key_bias and encoder.temporal_depth) or encoder.lora_rank or encoder.adapter:
        raise InputError(f"{NAME}: has biases of keys, blocks over time, no LoRA and no adapter.")
    width, depth, heads, mlp_dim = encoder.dims
    frames, height, breadth = encoder.tubelet
    stack = {"mlp_dim": mlp_dim, "num_heads": heads, "num_layers": depth}
    return {
        "model": {
            **stack,
            "spatial_transformer": stack,
            "temporal_transformer": {**stack, "num_layers": encoder.temporal_depth},
            "hidden_size": width,
            "patches": {"size": (height, breadth, frames)},
            "representation_size": None,
            "classifier": CLASSIFIER[encoder.pool],
            "attention_config": {
                "type": ATTENTION[encoder.attention],
                "attention_order": "time_space",
            },
            "temporal_encoding_config": {"method": "3d_conv"},
            "dropout_rate": encoder.dropout,
            "attention_dropout_rate": encoder.attention_dropout,
            "stochastic_droplayer_rate": encoder.drop_path,
        },
        "model_dtype_str": encoder.dtype,
        "label_smoothing": objective.label_smoothing or None,
    }
