r"""ViViT (Arnab et al. 2021) on five data sets, by the numbers of the released configs.

    python -m vivit_jax.main --config configs/vivit.py:k400_B --workdir DIR \
        --config.init_from=augreg:FILE \
        --config.data.dataset=kinetics400 --config.data.root=DIR
    ... --config configs/vivit.py:k400_B,smoke      # in a minute, on videos made here

The argument is a row of RECIPES. What is published starts from a ViT trained on ImageNet-21k
(augreg:FILE), and on Something-Something, EPIC-Kitchens and in the ablation from "+ Kinetics" on,
from a ViViT trained on Kinetics (scenic:FILE, or the workdir of such a run); without init_from
expect far less. EPIC-Kitchens has two heads, the nouns first, as data.dataset=epic_kitchens_100 has
them; lists of your own need --config.data.label_map=nouns.txt,verbs.txt. docs/datasets.md tells how
each data set is read; without data.dataset, any folder or lists will do.

Where the paper and its release disagree this is the release, and a comment has the paper's number;
docs/reproduction.md tells all of them with the options that switch. Departures: RandAugment is
VideoMAE's of fifteen operations, and its strength ends at 10, where the release has eleven and goes
on to 15 and 20; mixing draws one share a batch, where the release draws one a device.
"""

from typing import NamedTuple

from vivit_jax.recipe import choose_row, experiment, smoke

FE = "factorised_encoder"


class Recipe(NamedTuple):
    """What differs."""

    size: str
    attention: str
    epochs: float
    learning_rate: float
    temporal_depth: int = 4
    stride: int = 2
    colours: bool = True  # jitter and grey
    randaugment: bool = False
    drop_path: float = 0.0
    label_smoothing: float = 0.0
    mixup: float = 0.0
    sides: tuple[int, int] = (256, 224)  # the short side, and the crop
    crops: int = 3


# EPIC-Kitchens-100; the paper's table 4, each row on top of those above it. The paper gives B no
# numbers of its own: these are of L's config.
CROP_FLIP_JITTER = Recipe("B", FE, 50.0, 0.5, stride=1, crops=1)
STOCHASTIC_DEPTH = CROP_FLIP_JITTER._replace(drop_path=0.2)
RANDAUGMENT = STOCHASTIC_DEPTH._replace(randaugment=True, colours=False)  # one or the other
LABEL_SMOOTHING = RANDAUGMENT._replace(label_smoothing=0.2)
MIXUP = LABEL_SMOOTHING._replace(mixup=0.1)

RECIPES = {  # scenic/projects/vivit/configs
    "k400_B_joint": Recipe("B", "joint", 30.0, 0.1),
    # The paper's learning rate is 0.1. Its temporal depth is 4 too, but the released weights have
    # 12 layers.
    "k400_B": Recipe("B", FE, 30.0, 0.05),
    # No config; the paper's learning rate, and the rest as above.
    "k400_B_self_attention": Recipe("B", "factorised_self_attention", 30.0, 0.1),
    "k400_B_dot_product": Recipe("B", "factorised_dot_product", 30.0, 0.1),
    "k400_L_joint": Recipe("L", "joint", 30.0, 0.1),
    "k400_L": Recipe("L", FE, 30.0, 0.1, temporal_depth=24),  # the paper: 4
    # The paper: a learning rate of 0.1, and 4.
    "k600_L": Recipe("L", FE, 30.0, 0.05, temporal_depth=24),
    # No config: the paper's epochs and learning rate, and the rest of Kinetics'.
    "mit_L": Recipe("L", FE, 10.0, 0.25),
    "ssv2_L": Recipe(  # the paper: a learning rate of 0.5
        *("L", FE, 35.0, 0.4),
        stride=1,
        colours=False,
        randaugment=True,
        drop_path=0.3,
        label_smoothing=0.3,
        mixup=0.3,
        sides=(288, 256),
    ),
    "ek100_L": MIXUP._replace(size="L"),  # the config has three crops, the published number one
    "ek100_B_crop_flip_jitter": CROP_FLIP_JITTER,
    "ek100_B_kinetics": CROP_FLIP_JITTER,  # differs in what it starts from
    "ek100_B_stochastic_depth": STOCHASTIC_DEPTH,
    "ek100_B_randaugment": RANDAUGMENT,
    "ek100_B_label_smoothing": LABEL_SMOOTHING,
    "ek100_B_mixup": MIXUP,
}


def get_config(argument: str = "k400_B"):
    """Returns the experiment."""
    row, small = choose_row(argument, RECIPES)
    dataset = argument.split(",")[0].split("_")[0]
    short_side, crop = row.sides
    config = experiment(
        data=dict(
            dataset="something_something_v2" if dataset == "ssv2" else "videos",
            labels="heads" if dataset == "ek100" else "single",
            batch_size=64,
            frames=32,
            stride=row.stride,
            image_size=crop,
            crop="scale_jitter",
            resize=short_side,
            scale_jitter=(0.9, 1.33),
        ),
        augment=dict(
            flip=0.5,
            colour_jitter=0.8 if row.colours else 0.0,
            grey=0.1 if row.colours else 0.0,
            randaugment_layers=2 if row.randaugment else 0,
            randaugment_magnitude=10.0,
            randaugment_std=0.0,
            randaugment_probability=11 / 12,  # of twelve equal chances one does nothing
        ),
        model=dict(
            name="video_transformer",
            size=row.size,
            attention=row.attention,
            temporal_depth=row.temporal_depth,
            tubelet=(2, 16, 16),
            tubelet_init="central_frame",
            pool="class_token" if row.attention in ("joint", FE) else "mean",
            drop_path=row.drop_path,
            drop_path_rescaled=False,
        ),
        objective=dict(name="classify", label_smoothing=row.label_smoothing, mixup=row.mixup),
        optim=dict(
            optimizer="sgd",
            learning_rate=row.learning_rate,
            momentum=0.9,
            warmup=2.5,
            clip=1.0,
        ),
        train=dict(epochs=row.epochs),
        eval=dict(clips=4, crops=row.crops, resize=short_side, average="logits"),
    )
    return smoke(config) if small else config
