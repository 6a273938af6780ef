"""What a run will need and take, told without any accelerator."""
