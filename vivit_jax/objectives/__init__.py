"""Objectives by name: `objective.name` of a config is a key of OBJECTIVES."""

from vivit_jax.objectives.classify import Classify

OBJECTIVES = {"classify": Classify}
