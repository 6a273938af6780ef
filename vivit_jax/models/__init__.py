"""Encoders by name: `model.name` of a config is a key of MODELS."""

from vivit_jax.models.frame_models import FrameModel
from vivit_jax.models.video_transformer import VideoTransformer

MODELS = {"video_transformer": VideoTransformer, "frame_model": FrameModel}
