"""Evaluators by name: an entry of `eval.evaluators` of a config is a key of EVALUATORS."""

from vivit_jax.evals.multi_view import MultiView

EVALUATORS = {"multi_view": MultiView}

USUAL = {"classify": ("multi_view",), "masked_pixels": (), "latent_prediction": ()}
