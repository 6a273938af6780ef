"""Encoders by name: `model.name` of a config is a key of MODELS."""

from vivit_jax.models.video_transformer import VideoTransformer

MODELS = {"video_transformer": VideoTransformer}
