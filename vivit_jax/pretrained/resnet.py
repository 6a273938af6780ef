"""ResNets of torchvision and timm, whose files name parts alike: .pth, or timm's .safetensors.

A picture is a clip of one frame, which is a frame model without anything over time. Which ResNet it
is, the shapes tell. They do not tell the stride's place in a bottleneck: it is taken to be in the
3 x 3 convolution, as all of torchvision's and timm's own have it.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

from vivit_jax.errors import InputError
from vivit_jax.models.resnet import SHAPES, Shape, blocks_of, layers_of
from vivit_jax.pretrained.files import read_safetensors
from vivit_jax.pretrained.found import Found, depth, numbered, shape
from vivit_jax.pretrained.originals import IMAGENET, weights
from vivit_jax.pretrained.rules import Arrays, Left, Rule, dense
from vivit_jax.pretrained.torch_file import read_torch

CLIP = {"frames": 1, "image_size": 224}
STATISTICS = ("running_mean", "running_var")
LEFT = [
    Left(r"(.+\.)?num_batches_tracked", "how often the statistics changed, which nothing reads")
]
KERNEL = "o i r c -> r c i o"


def read(path: pathlib.Path) -> Found:
    """Returns what a file holds.

    Raises:
      InputError: it is no ResNet of SHAPES.
    """
    where = str(path)
    if path.suffix == ".safetensors":
        arrays = read_safetensors(path)
    else:
        arrays = weights(read_torch(path), ("state_dict", "model"), where)
    stem = shape(arrays, "conv1.weight", 4, where)[0]
    blocks = [depth(arrays, f"layer{stage}.") for stage in range(1, 5)]
    name = named(blocks, "layer1.0.conv3.weight" in arrays, where)
    return found(
        where,
        arrays,
        {"frame": name, "width": stem, **IMAGENET},
        rules(name),
        (numbered(len(arrays["fc.bias"])) if "fc.bias" in arrays else (),),
        data=CLIP,
    )


def found(
    where: str,
    arrays: Arrays,
    model: Mapping[str, Any],
    table: list[Rule],
    label_maps: tuple[tuple[str, ...], ...],
    data: Mapping[str, Any],
) -> Found:
    """Returns a ResNet as a frame model.

    Args:
      where: it is from.
      arrays: by its names.
      model: options that the file tells.
      table: of names.
      label_maps: of its head; of no class where it has none.
      data: of a picture.
    """
    return Found(
        where=where,
        model={"name": "frame_model", "frame_norm": "batch", "time": "mean", **model},
        objective={"name": "classify" if label_maps[0] else "encode"},
        data=data,
        eval={"resize": round(data["image_size"] / 0.875)},
        arrays=arrays,
        rules=table,
        sizes={},
        label_maps=label_maps,
        left=LEFT,
        notes=["strides are taken to be in 3 x 3 convolutions: the file does not tell."],
    )


def named(blocks: list[int], bottleneck: bool, where: str) -> str:
    """Returns which row of SHAPES has these blocks in its stages.

    Raises:
      InputError: none has.
    """
    for name, row in SHAPES.items():
        if row == Shape(tuple(blocks), bottleneck):
            return name
    kind = "bottlenecks" if bottleneck else "blocks of two convolutions"
    raise InputError(
        f"{where} has {' + '.join(map(str, blocks))} {kind}; expected one of "
        + ", ".join(f"{name} ({' + '.join(map(str, row.blocks))})" for name, row in SHAPES.items())
        + "."
    )


def rules(name: str) -> list[Rule]:
    """Returns the table of torchvision's names."""
    table = layer("conv1", "bn1", "stem", "")
    for ours, theirs in places(name):
        at = f"layer{theirs[0] + 1}.{theirs[1]}"
        for i in range(len(layers_of(1, 1, SHAPES[name].bottleneck))):
            table += layer(f"{at}.conv{i + 1}", f"{at}.bn{i + 1}", f"{ours}/", f"_{i}")
        table += layer(f"{at}.downsample.0", f"{at}.downsample.1", f"{ours}/", "_beside")
    return [*table, *dense("fc", "head")]


def places(name: str) -> list[tuple[str, tuple[int, int]]]:
    """Returns our name of each block, and its (stage, number), from 0."""
    ours = [block for block, *_ in blocks_of(name, 1)]
    theirs = [(stage, i) for stage, n in enumerate(SHAPES[name].blocks) for i in range(n)]
    return list(zip(ours, theirs, strict=True))


def layer(convolution: str, norm: str, block: str, number: str) -> list[Rule]:
    """Returns the rules of a convolution and its batch norm.

    Args:
      convolution: its name.
      norm: likewise.
      block: what our paths of both begin with: "stem", or a block and a slash.
      number: what they end with.
    """
    conv, ours = (f"encoder/frames/{block}{part}{number}" for part in ("conv", "norm"))
    if block == "stem":
        conv, ours = "encoder/frames/stem_conv", "encoder/frames/stem_norm"
    return [
        Rule(f"{convolution}.weight", f"{conv}/kernel", KERNEL),
        Rule(f"{norm}.weight", f"{ours}/scale"),
        Rule(f"{norm}.bias", f"{ours}/bias"),
        *(Rule(f"{norm}.{name}", f"{ours}/{name}") for name in STATISTICS),
    ]
