"""What `python -m vivit_jax.benchmark` measures: a file for each of its words."""
