r"""VideoMAE v2 (Wang et al. 2023): dual masking, by the numbers of the released scripts.

    python -m vivit_jax.main --config configs/videomae_v2_pretrain.py:B --workdir DIR \
        --config.data.train_list=train.csv --config.data.labels=none

The argument is B or g, on the paper's hybrid of unlabelled videos; `,smoke` after it runs it in a
minute on videos made here. An epoch here is one of the release: each video is decoded once and
gives four clips, so the paper's 800 and 1200 epochs are 200 and 300 here.
"""

from typing import NamedTuple

from vivit_jax.recipe import choose_row, experiment, smoke


class Recipe(NamedTuple):
    """What differs: the learning rate is for 256 videos a step, their clips not counted."""

    size: str
    patch: int
    batch_size: int
    learning_rate: float
    epochs: float
    warmup: float
    clip: float
    decoder: tuple[int, int]  # width, heads


RECIPES = {  # scripts/pretrain of the release
    "B": Recipe("B", 16, 1024, 1e-3, 200.0, 20.0, 0.0, (384, 6)),
    "g": Recipe("g", 14, 2048, 6e-4, 300.0, 30.0, 0.02, (512, 8)),
}


def get_config(argument: str = "B"):
    """Returns the experiment."""
    row, small = choose_row(argument, RECIPES)
    config = experiment(
        data=dict(
            batch_size=row.batch_size,
            repeats=4,
            frames=16,
            stride=4,
            short_videos="hold",
            image_size=224,
            crop="multi_scale_corners",
        ),
        augment=dict(flip=0.0),
        model=dict(
            name="video_transformer",
            size=row.size,
            tubelet=(2, row.patch, row.patch),
            pool="mean",
            positions="sincos_1d",
            gelu="erf",
            key_bias=False,
            dtype="bfloat16",
            remat="full" if row.size == "g" else "none",
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
        ),
        objective=dict(
            name="masked_pixels",
            mask="tube",
            mask_ratio=0.9,
            decoder_mask_ratio=0.5,
            decoder_width=row.decoder[0],
            decoder_heads=row.decoder[1],
            decoder_depth=4,
        ),
        optim=dict(
            learning_rate=row.learning_rate,
            per_videos=256,
            end_learning_rate=1e-5,
            warmup=row.warmup,
            b1=0.9,
            b2=0.95,
            weight_decay=0.05,
            clip=row.clip,
        ),
        train=dict(epochs=row.epochs),
    )
    return smoke(config) if small else config
