"""Evaluators by name: an entry of `eval.evaluators` of a config is a key of EVALUATORS."""

from vivit_jax.evals.attentive_probe import AttentiveProbe
from vivit_jax.evals.by_summary import JUDGES, BySummary
from vivit_jax.evals.feature_pca import FeaturePCA
from vivit_jax.evals.multi_view import MultiView
from vivit_jax.evals.reconstruction import Reconstruction

EVALUATORS = {
    "multi_view": MultiView,
    "reconstruction": Reconstruction,
    "feature_pca": FeaturePCA,
    "attentive_probe": AttentiveProbe,
    **dict.fromkeys(JUDGES, BySummary),  # linear_probe, knn, retrieval
}

USUAL = {
    "classify": ("multi_view",),
    "masked_pixels": ("reconstruction",),
    "latent_prediction": ("feature_pca",),
    "encode": ("feature_pca",),
}
