r"""V-JEPA (Bardes et al. 2024): prediction of features, by the numbers of the released configs.

    python -m vivit_jax.main --config configs/vjepa_pretrain.py:L --workdir DIR \
        --config.data.train_list=train.csv --config.data.labels=none

The argument is L or H; `,smoke` after it runs it in a minute on videos made here. The release runs
90,000 of a schedule of 112,500 steps. Two departures: it clips the gradients of the encoder and of
the predictor apart, and only after the warmup; here the norm of both is clipped all along. And its
masks are cut to the smallest of a batch; see objectives/masking.py.
"""

from vivit_jax.recipe import choose_row, experiment, smoke

SIZES = {"L": "L", "H": "H"}


def get_config(argument: str = "L"):
    """Returns the experiment."""
    size, small = choose_row(argument, SIZES)
    config = experiment(
        data=dict(
            batch_size=3072,
            frames=16,
            stride=4,
            image_size=224,
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
            positions="sincos_3d",
            gelu="erf",
            dtype="bfloat16",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        objective=dict(
            name="latent_prediction",
            blocks=(8, 2),
            block_scales=(0.15, 0.7),
            predictor_width=384,
            predictor_depth=12,
            predictor_heads=16,  # the release gives no number, and its code takes the encoder's
        ),
        optim=dict(
            learning_rate=6.25e-4,
            warmup_from=2e-4,
            end_learning_rate=1e-6,
            warmup=12000.0,
            unit="steps",
            horizon=1.25,
            weight_decay=0.04,
            weight_decay_end=0.4,
            clip=10.0,
            average=0.998,
            average_end=1.0,
        ),
        train=dict(steps=90_000),
    )
    return smoke(config) if small else config
