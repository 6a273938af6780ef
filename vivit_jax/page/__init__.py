"""What the command report is made of; see vivit_jax/report.py."""
