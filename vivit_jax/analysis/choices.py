"""What commands can be told by name; it imports nothing, so that --help is quick."""

METHODS = ("rollout", "gradient_attention", "integrated_gradients")  # attribution.py
REMOVED = ("blurred", "mean")  # deletion.py
TASKS = ("fill", "interpolate", "denoise")  # restoring.py
