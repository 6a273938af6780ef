"""Every config file with every argument it takes, and what stands behind those of papers."""

import functools
import json
import pathlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from vivit_jax import config, main, recipe
from vivit_jax.data.published import DATA_SETS, DataSet
from vivit_jax.models.costs import Costs

ROOT = pathlib.Path(__file__).parents[1]
GOLDEN = ROOT / "tests/pretrained/golden"
ARGUMENTS = {
    "quickstart": [""],
    "train_folder": [""],
    "frame_models": [
        *("resnet18,mean", "resnet50,lstm", "resnet18,gpt2", "vit,gru", "vit,transformer"),
        *("resnet18,lstm,quickstart", "vit,mean,quickstart"),
    ],
    "vivit": [
        *("k400_B_joint", "k400_B", "k400_B_self_attention", "k400_B_dot_product"),
        *("k400_L_joint", "k400_L", "k600_L", "mit_L", "ssv2_L", "ek100_L"),
        *("ek100_B_crop_flip_jitter", "ek100_B_kinetics", "ek100_B_stochastic_depth"),
        *("ek100_B_randaugment", "ek100_B_label_smoothing", "ek100_B_mixup"),
    ],
    "timesformer": [
        *("k400", "k400_joint", "k400_space_only", "k400_hr", "k400_l"),
        *("ssv2", "ssv2_hr", "ssv2_l"),
    ],
    "vivit_frozen_space": ["few_frames", "frozen_space"],
    "finetune": [
        f"augreg:{GOLDEN}/augreg_vit_wide.npz",
        f"videomae:{GOLDEN}/videomae_pretrained.pth",
        f"mae_st:{GOLDEN}/mae_st_pretrained.pth",
    ],
    "quickstart_pretrain": ["joint", "factorised_encoder", "joint,finetune"],
    "videomae_pretrain": [
        *(f"k400_{size}" for size in "SBLH"),
        *("ssv2_S", "ssv2_B", "ucf101_B", "hmdb51_B"),
    ],
    "videomae_finetune": [
        *(f"k400_{size}" for size in "SBLH"),
        *("ssv2_S", "ssv2_B", "ucf101_B", "hmdb51_B"),
    ],
    "videomae_v2_pretrain": ["B", "g"],
    "mae_st_pretrain": ["B", "L", "H"],
    "mae_st_finetune": ["B", "L", "H"],
    "vjepa_pretrain": ["L", "H"],
    "vjepa2_pretrain": ["L"],
}
ALL = [(name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments]
OWN = (
    "quickstart",
    "train_folder",
    "frame_models",
    "quickstart_pretrain",
    "vivit_frozen_space",
    "finetune",
)  # no paper's
PUBLISHED = [":".join(row) for row in ALL if row[0] not in OWN]


DATA_SET_OF = {"mae_st_pretrain": "k400", "mae_st_finetune": "k400"}
DATA_SET_OF |= {"videomae_v2_pretrain": "hybrid"}
NO_SHAPE = {"drop_path": 0.0, "label_smoothing": 0.0, "mixup": 0.0, "head_dropout": 0.0}
STEPS = ("vjepa_pretrain", "vjepa2_pretrain")  # by steps, whatever the videos


@functools.cache
def load(name: str, argument: str = "") -> config.Experiment:
    """Returns the experiment of a config file."""
    file = str(ROOT / f"configs/{name}.py") + (f":{argument}" if argument else "")
    return config.parse(main.load(file).to_dict())


def data_set(name: str) -> DataSet:
    """Returns what a paper's recipe, as "vivit:k400_B", was trained on."""
    file, argument = name.split(":")
    return DATA_SETS[DATA_SET_OF.get(file, "hybrid" if file in STEPS else argument.split("_")[0])]


def shapes(experiment: config.Experiment):
    """Returns the parameters of an objective at full size and with one class, as shapes."""
    sections = {
        name: {**section, **{k: v for k, v in NO_SHAPE.items() if k in section}}
        for name, section in (("model", experiment.model), ("objective", experiment.objective))
    }
    return _shapes(json.dumps(sections), experiment.data.frames, experiment.data.image_size)


@functools.cache
def _shapes(sections: str, frames: int, size: int):
    section = recipe.experiment(**json.loads(sections)).to_dict()
    objective = recipe.build_objective(config.parse(section), names([1]))
    if hasattr(objective, "check_clip"):
        objective.check_clip(frames, size, size)
    clip = {
        "video": jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.dtype("uint8")),
        "label": jax.ShapeDtypeStruct((1,), jnp.dtype("int32")),
        "valid": jax.ShapeDtypeStruct((1,), jnp.dtype("bool")),
    }
    streams = {"params": jax.random.key(0), "mask": jax.random.key(0)}
    return jax.eval_shape(objective.init, streams, clip)["params"]


def names(classes: Sequence[int]) -> list[list[str]]:
    """Returns label maps of so many classes."""
    return [[str(i) for i in range(count)] for count in classes]


def costs(name: str) -> Costs:
    """Returns the multiply-accumulates of one clip's forward pass in training."""
    experiment = load(*name.split(":"))
    objective = recipe.build_objective(experiment, names(data_set(name).classes))
    return objective.costs(experiment.data.frames, experiment.data.image_size)  # type: ignore
