r"""V-JEPA 2 (Assran et al. 2025), first phase, by the numbers of the released configs.

    python -m vivit_jax.main --config configs/vjepa2_pretrain.py:L --workdir DIR \
        --config.data.train_list=train.csv --config.data.labels=none

`:L,smoke` runs it in a minute on videos made here. The released file for L says 10 epochs with a
warmup of 40, which cannot be; here are the steps of the file for g, 800 epochs of 300. Rotary
angles are laid out as they should be; for weights of the release, set model.positions and
objective.predictor_positions to "rotary_3d_tiled". The second phase (64 frames) is not here.
"""

from vivit_jax.recipe import choose_row, experiment, smoke


def get_config(argument: str = "L"):
    """Returns the experiment."""
    size, small = choose_row(argument, {"L": "L"})
    config = experiment(
        data=dict(
            batch_size=3072,
            frames=16,
            fps=4.0,
            image_size=256,
            crop="random_resized",
            crop_area=(0.3, 1.0),
            crop_aspect=(0.75, 1.35),
        ),
        augment=dict(flip=0.5),
        model=dict(
            name="video_transformer",
            size=size,
            tubelet=(2, 16, 16),
            tubelet_init="normal",
            kernel_init="normal",
            pool="mean",
            positions="rotary_3d",
            gelu="erf",
            dtype="bfloat16",
            remat="full",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        objective=dict(
            name="latent_prediction",
            blocks=(8, 2),
            block_scales=(0.15, 0.7),
            predictor_width=384,
            predictor_depth=12,
            predictor_heads=12,
            predictor_positions="rotary_3d",
            shared_mask_token=True,
        ),
        optim=dict(
            learning_rate=5.25e-4,
            warmup_from=1e-4,
            warmup=12000.0,
            unit="steps",
            schedule="constant",
            weight_decay=0.04,
            average=0.99925,
        ),
        train=dict(steps=240_000),
    )
    return smoke(config) if small else config
