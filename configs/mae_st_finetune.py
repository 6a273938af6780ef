r"""MAE-ST (Feichtenhofer et al. 2022) fine-tuned on Kinetics-400, by the mae_st release's numbers.

    python -m vivit_jax.main --config configs/mae_st_finetune.py:L --workdir DIR \
        --config.init_from=PRETRAINED --config.data.train_list=train.csv \
        --config.data.eval_list=val.csv

The argument is a row of RECIPES; `,smoke` after it runs it in a minute on videos made here. The
release's command gives RandAugment no number of operations, whose default is two, and leaves the
number of machines open: the batch is 128 videos, and B and H take L's dropout. The learning rate is
scaled by all clips, as that code has it.
"""

from typing import NamedTuple

from vivit_jax.recipe import choose_row, experiment, smoke


class Recipe(NamedTuple):
    """What differs."""

    epochs: float
    layer_decay: float
    drop_path: float


RECIPES = {"B": Recipe(75.0, 0.65, 0.1), "L": Recipe(50.0, 0.75, 0.2), "H": Recipe(75.0, 0.8, 0.2)}


def get_config(argument: str = "L"):
    """Returns the experiment."""
    row, small = choose_row(argument, RECIPES)
    config = experiment(
        data=dict(
            batch_size=128,
            repeats=2,
            frames=16,
            stride=4,
            short_videos="hold",
            image_size=224,
            crop="random_resized",
            crop_area=(0.08, 1.0),
        ),
        augment=dict(
            flip=0.5,
            randaugment_layers=2,
            randaugment_magnitude=7.0,
            randaugment_std=0.5,
            randaugment_probability=0.5,
            erase=0.25,
        ),
        model=dict(
            name="video_transformer",
            size=argument.split(",")[0],
            tubelet=(2, 16, 16),
            pool="mean_beside_class_token",
            norm_summary=True,
            positions="separable",
            gelu="erf",
            drop_path=row.drop_path,
            dtype="bfloat16",
            mean=(0.45, 0.45, 0.45),
            std=(0.225, 0.225, 0.225),
        ),
        objective=dict(
            name="classify", label_smoothing=0.1, mixup=0.8, cutmix=1.0, head_dropout=0.3
        ),
        optim=dict(
            learning_rate=2 * 2.4e-3,  # the base rate is for 256 clips, which are 128 videos
            per_videos=256,
            end_learning_rate=1e-6,
            warmup=5.0,
            weight_decay=0.05,
            layer_decay=row.layer_decay,
            clip=5.0,
        ),
        train=dict(epochs=row.epochs),
        eval=dict(clips=7, crops=3),
    )
    return smoke(config) if small else config
