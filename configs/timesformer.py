r"""TimeSformer (Bertasius et al. 2021), by the numbers of the released configs.

    python -m vivit_jax.main --config configs/timesformer.py:k400 --workdir DIR \
        --config.init_from=augreg:FILE \
        --config.data.dataset=kinetics400 --config.data.root=DIR
    ... --config configs/timesformer.py:k400,smoke      # in a minute, on videos made here

The argument is a row of RECIPES. What is published starts from a ViT-B/16 trained on ImageNet-21k.
The release's weight decay is a part of the gradient, which the momentum gathers: here it is ten
times its number, of matrices only, and decoupled. Two more departures: one view of a video is its
middle window, where the release takes its first; and scales of Something-Something are drawn
evenly, where the release draws their inverses so.
"""

from typing import NamedTuple

from vivit_jax.recipe import choose_row, experiment, smoke


class Recipe(NamedTuple):
    """What differs."""

    frames: int
    stride: int  # 0: segments of the whole video
    image_size: int
    short_sides: tuple[int, int]


RECIPES = {  # configs/ of the release
    "k400": Recipe(8, 32, 224, (256, 320)),
    "k400_joint": Recipe(8, 32, 224, (256, 320)),
    "k400_space_only": Recipe(8, 32, 224, (256, 320)),
    "k400_hr": Recipe(16, 16, 448, (448, 512)),
    "k400_l": Recipe(96, 4, 224, (256, 320)),
    "ssv2": Recipe(8, 0, 224, (256, 320)),
    "ssv2_hr": Recipe(16, 0, 448, (448, 512)),
    "ssv2_l": Recipe(64, 0, 224, (256, 320)),
}
ATTENTION = {"k400_joint": "joint", "k400_space_only": "space_only"}
MOMENTUM = 0.9


def get_config(argument: str = "k400"):
    """Returns the experiment."""
    row, small = choose_row(argument, RECIPES)
    attention = ATTENTION.get(argument.split(",")[0], "divided")
    shortest, longest = row.short_sides
    # The release spreads its frames over frames * stride of a video at 30 a second, both ends
    # among them.
    spread = 30 * (row.frames - 1) / (row.frames * row.stride - 1) if row.stride else 0.0
    config = experiment(
        data=dict(
            dataset="videos" if row.stride else "something_something_v2",
            batch_size=64,
            frames=row.frames,
            fps=spread,
            sampling="random" if row.stride else "segments",
            short_videos="hold",
            image_size=row.image_size,
            crop="short_side_jitter",
            resize=shortest,
            scale_jitter=(1.0, longest / shortest),
        ),
        augment=dict(flip=0.5 if row.stride else 0.0),
        model=dict(
            name="video_transformer",
            size="B",
            attention=attention,
            tubelet=(1, 16, 16),
            pool="class_token",
            positions="learned" if attention == "space_only" else "separable",
            gelu="erf",
            drop_path=0.1,
            mean=(0.45, 0.45, 0.45),
            std=(0.225, 0.225, 0.225),
        ),
        objective=dict(name="classify"),
        optim=dict(
            optimizer="sgd",
            learning_rate=0.005,
            schedule="steps",
            decay_at=(11.0, 14.0),
            decay_factor=0.1,
            momentum=MOMENTUM,
            nesterov=True,
            weight_decay=1e-4 / (1 - MOMENTUM),
        ),
        train=dict(epochs=15.0),
        eval=dict(clips=1, crops=3, average="logits"),
    )
    return smoke(config) if small else config
