r"""VideoMAE (Tong et al. 2022): masked pretraining, by the numbers of the released scripts.

    python -m vivit_jax.main --config configs/videomae_pretrain.py:k400_B --workdir DIR \
        --config.data.train_list=train.csv --config.data.labels=none
    ... --config configs/videomae_pretrain.py:k400_B,smoke    # in a minute, on videos made here

The argument is a row of RECIPES. The scripts train one epoch more than the paper says, to get round
a fault of their scheduler; here it is the paper's number.
"""

from typing import NamedTuple

from vivit_jax.recipe import choose_row, experiment, smoke


class Recipe(NamedTuple):
    """What differs: the learning rate is for 256 clips a step."""

    size: str
    mask_ratio: float
    stride: int
    epochs: float
    batch_size: int
    learning_rate: float


RECIPES = {  # scripts/ of the release
    "k400_S": Recipe("S", 0.9, 4, 1600.0, 1024, 1.5e-4),
    "k400_B": Recipe("B", 0.9, 4, 1600.0, 2048, 1.5e-4),  # 800 epochs are published as well
    "k400_L": Recipe("L", 0.9, 4, 1600.0, 512, 1.5e-4),
    "k400_H": Recipe("H", 0.9, 4, 1600.0, 1024, 1.5e-4),
    "ssv2_S": Recipe("S", 0.9, 2, 2400.0, 2048, 1.5e-4),
    "ssv2_B": Recipe("B", 0.9, 2, 2400.0, 2048, 1.5e-4),
    "ucf101_B": Recipe("B", 0.75, 4, 3200.0, 192, 3e-4),
    "hmdb51_B": Recipe("B", 0.75, 2, 4800.0, 192, 3e-4),  # the paper's appendix; no script
}
DECODERS = {"S": (192, 3, 4), "B": (384, 6, 4), "L": (512, 8, 12), "H": (640, 8, 12)}


def get_config(argument: str = "k400_B"):
    """Returns the experiment."""
    row, small = choose_row(argument, RECIPES)
    width, heads, depth = DECODERS[row.size]
    config = experiment(
        data=dict(
            batch_size=row.batch_size,
            frames=16,
            stride=row.stride,
            short_videos="hold",
            image_size=224,
            crop="multi_scale_corners",
        ),
        augment=dict(flip=0.0),
        model=dict(
            name="video_transformer",
            size=row.size,
            tubelet=(2, 16, 16),
            pool="mean",
            positions="sincos_1d",
            gelu="erf",
            key_bias=False,
            dtype="bfloat16",
            remat="full" if row.size == "H" else "none",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        objective=dict(
            name="masked_pixels",
            mask="tube",
            mask_ratio=row.mask_ratio,
            decoder_width=width,
            decoder_heads=heads,
            decoder_depth=depth,
        ),
        optim=dict(
            learning_rate=row.learning_rate,
            per_videos=256,
            end_learning_rate=1e-5,
            warmup=40.0,
            b1=0.9,
            b2=0.95,
            weight_decay=0.05,
        ),
        train=dict(epochs=row.epochs),
    )
    return smoke(config) if small else config
