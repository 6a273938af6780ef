"""Objectives by name: `objective.name` of a config is a key of OBJECTIVES."""

from vivit_jax.objectives.classify import Classify
from vivit_jax.objectives.encode import Encode
from vivit_jax.objectives.latent_prediction import LatentPrediction
from vivit_jax.objectives.masked_pixels import MaskedPixels

OBJECTIVES = {
    "classify": Classify,
    "masked_pixels": MaskedPixels,
    "latent_prediction": LatentPrediction,
    "encode": Encode,
}
