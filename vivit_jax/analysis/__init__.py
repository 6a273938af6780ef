"""What the commands on videos are made of, above a model that looks at clips."""
