"""Video transformers in JAX: training, evaluation and prediction from real video files."""

__version__ = "0.1.0"
