"""Published weights as models of ours, and ours as theirs.

    objective, params = pretrained.load("hf:DIR")
    logits = objective.apply({"params": params}, {"video": video}, method="predict")  # [B K]

A source is FAMILY:PATH; FAMILIES says which there are. A uint8 video [B T H W 3] is normalised as
that model wants; a float32 one is taken as already so. The same text serves as config.init_from
and as --checkpoint.
"""

import logging
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import flax.linen as nn

from vivit_jax.errors import InputError
from vivit_jax.pretrained import (
    augreg,
    huggingface,
    mae_st,
    plain,
    scenic,
    timesformer,
    videomae,
    videoprism,
    vjepa,
)
from vivit_jax.pretrained.found import Found, Pretrained, translate

log = logging.getLogger(__name__)


class Family(NamedTuple):
    """A kind of published file.

    Attributes:
      read: returns what a path holds.
      what: it is, in words.
    """

    read: Callable[[pathlib.Path], Found]
    what: str


FAMILIES = {
    "hf": Family(
        huggingface.read, "a folder of Hugging Face's: VideoMAE, ViViT, TimeSformer, V-JEPA 2"
    ),
    "scenic": Family(scenic.read, "a checkpoint of Scenic's: ViViT, AV-MAE of video"),
    "augreg": Family(
        augreg.read, "an .npz of an image ViT: AugReg, vision_transformer, big_vision"
    ),
    "videomae": Family(videomae.read, "a file of VideoMAE's or VideoMAE v2's own (.pth)"),
    "mae_st": Family(mae_st.read, "a file of MAE-ST's, or of PySlowFast's MAE (.pth, .pyth)"),
    "timesformer": Family(timesformer.read, "a file of TimeSformer's own (.pyth)"),
    "vjepa": Family(vjepa.read, "a checkpoint of V-JEPA 1 or 2 (.pth.tar, .pt)"),
    "videoprism": Family(videoprism.read, "VideoPrism's .npz: the video encoder"),
    "safetensors": Family(plain.read, "a file of our own, as `export --to safetensors:` writes it"),
}


def names(source: str) -> bool:
    """Returns whether a text names a published file, and not a run."""
    return source.split(":", 1)[0] in FAMILIES and ":" in source


def read(source: str) -> Pretrained:
    """Returns the model that a source, FAMILY:PATH, holds.

    Raises:
      InputError: there is no such family or file, or the file is not what the family's are.
    """
    name, _, path = source.partition(":")
    if name not in FAMILIES or not path:
        known = "\n".join(f"  {key}:PATH  {family.what}" for key, family in FAMILIES.items())
        raise InputError(f"{source!r} names no published file; expected one of\n{known}")
    file = pathlib.Path(path).expanduser()
    if not file.exists():
        raise InputError(f"{source}: {file} does not exist.")
    return translate(FAMILIES[name].read(file))._replace(where=source)


def load(source: str) -> tuple[nn.Module, dict[str, Any]]:
    """Returns the objective that a source, FAMILY:PATH, holds, and its parameters.

    Raises:
      InputError: as of `read`.
    """
    found = read(source)
    for line in found.account:
        log.warning("%s:%s", source, line)
    return found.build()
