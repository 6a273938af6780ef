r"""The models that came before: a network on each frame, and another over time.

    python -m vivit_jax.main --config configs/frame_models.py:resnet50,lstm --workdir runs/mine \
        --config.data.root=DIR [--config.init_from=resnet:FILE --config.model.frame_norm=batch]
    python -m vivit_jax.main --config configs/frame_models.py:resnet18,gpt2 --workdir runs/gpt \
        --config.data.root=DIR --config.init_from=resnet:FILE,hf:GPT2 \
        --config.model.frame_norm=batch --config.optim.freeze=frames
    python -m vivit_jax.main --config configs/frame_models.py:resnet18,lstm,quickstart \
        --workdir runs/quick

The argument is FRAME,TIME: resnet18, 34, 50, 101 or 152, or vit (B/16: init_from=augreg:FILE); and
mean, lstm, gru, transformer or gpt2. Published ResNets want frame_norm=batch, as above; from random
weights the default, group norm, is the one that learns. `,quickstart` takes the videos and all
numbers of configs/quickstart.py, with models about as small as its ViViT, so that one line compares
them (docs/comparison.md). The numbers of the optimiser are ours: a start, and no paper's.
"""

import pathlib

from vivit_jax import main
from vivit_jax.errors import InputError
from vivit_jax.models.frame_models import CHOICES, VIT
from vivit_jax.options import choose
from vivit_jax.recipe import experiment

OURS = dict(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))  # AugReg's ViTs too
IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
SMALL_VIT = dict(
    size="mu",
    width=96,
    depth=3,
    heads=4,
    mlp_dim=192,
    patch=8,
    pool="mean",
    positions="sincos_3d",
)


def get_config(argument: str = "resnet18,lstm"):
    """Returns the experiment."""
    frame, time, small = parts(argument)
    if small:
        return quickstart(frame, time)
    gpt2 = dict(time_width=768) if time == "gpt2" else {}
    return experiment(
        data=dict(batch_size=16, frames=16, stride=4, image_size=224, crop_area=(0.4, 1.0)),
        augment=dict(colour_jitter=0.8),
        model=dict(
            name="frame_model",
            frame=frame,
            time=time,
            **gpt2,
            **(OURS if frame == VIT else IMAGENET),
        ),
        objective=dict(name="classify", label_smoothing=0.1),
        optim=dict(
            learning_rate=2e-4,
            warmup=2.0,
            weight_decay=0.05,
            layer_decay=0.75 if frame == VIT else 1.0,
            clip=1.0,
        ),
        train=dict(epochs=30.0, log_every=20, checkpoint_every=200),
        eval=dict(clips=4, crops=1, resize=256),
    )


def parts(argument: str) -> tuple[str, str, bool]:
    """Returns the frame's network, that over time, and whether to learn the quickstart's videos.

    Raises:
      InputError: names what is wrong.
    """
    frame, _, rest = argument.partition(",")
    time, _, rest = rest.partition(",")
    choose("The config's argument, FRAME,TIME: FRAME", frame, CHOICES["frame"])
    choose("The config's argument, FRAME,TIME: TIME", time, CHOICES["time"])
    if rest not in ("", "quickstart"):
        raise InputError(
            f"The config's argument = {argument!r}; expected {frame},{time} or "
            f"{frame},{time},quickstart."
        )
    return frame, time, bool(rest)


def quickstart(frame: str, time: str):
    """Returns configs/quickstart.py with another model, of a quarter to half a million values."""
    whole = main.load(str(pathlib.Path(__file__).with_name("quickstart.py"))).to_dict()
    stem = dict(width=12 if frame in ("resnet18", "resnet34") else 6)
    depth = dict(time_depth=1, time_width=96)
    own = SMALL_VIT if frame == VIT else stem
    whole["model"] = dict(name="frame_model", frame=frame, time=time, **own, **depth)
    return experiment(**whole)
