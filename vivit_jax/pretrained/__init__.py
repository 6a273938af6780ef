"""Published weights as models of ours, and ours as theirs.

    objective, params = pretrained.load("hf:DIR")
    logits = objective.apply({"params": params}, {"video": video}, method="predict")  # [B K]

A source is FAMILY:PATH; FAMILIES says which there are. A uint8 video [B T H W 3] is normalised as
that model wants; a float32 one is taken as already so. The same text serves as config.init_from
and as --checkpoint. A family's module is imported when a source names it.
"""

import importlib
import logging
import pathlib
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from vivit_jax.errors import InputError

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    import flax.linen as nn

    from vivit_jax.pretrained.found import Pretrained

log = logging.getLogger(__name__)


class Family(NamedTuple):
    """A kind of published file.

    Attributes:
      module: of this package, whose read(path) returns what is Found.
      what: it is, in words.
    """

    module: str
    what: str


FAMILIES = {
    "hf": Family(
        "huggingface",
        "a folder of Hugging Face's: VideoMAE, ViViT, TimeSformer, V-JEPA 2, ResNet, GPT-2",
    ),
    "resnet": Family("resnet", "a ResNet of torchvision's or timm's (.pth, .safetensors)"),
    "scenic": Family("scenic", "a checkpoint of Scenic's: ViViT, AV-MAE of video"),
    "augreg": Family("augreg", "an .npz of an image ViT: AugReg, vision_transformer, big_vision"),
    "videomae": Family("videomae", "a file of VideoMAE's or VideoMAE v2's own (.pth)"),
    "mae_st": Family("mae_st", "a file of MAE-ST's, or of PySlowFast's MAE (.pth, .pyth)"),
    "timesformer": Family("timesformer", "a file of TimeSformer's own (.pyth)"),
    "vjepa": Family("vjepa", "a checkpoint of V-JEPA 1 or 2 (.pth.tar, .pt)"),
    "videoprism": Family("videoprism", "VideoPrism's .npz: the video encoder"),
    "safetensors": Family("plain", "a file of our own, as `export --to safetensors:` writes it"),
}


def names(source: str) -> bool:
    """Returns whether a text names a published file, and not a run."""
    return source.split(":", 1)[0] in FAMILIES and ":" in source


def apart(sources: str) -> list[str]:
    """Returns what a text names: one source, or several, with commas before all but the first."""
    return re.split(rf",(?=(?:{'|'.join(FAMILIES)}):)", sources)


def read(source: str) -> "Pretrained":
    """Returns the model that a source, FAMILY:PATH, holds.

    Raises:
      InputError: there is no such family or file, or the file is not what the family's are.
    """
    from vivit_jax.pretrained.found import translate

    name, _, path = source.partition(":")
    if name not in FAMILIES or not path:
        known = "\n".join(f"  {key}:PATH  {family.what}" for key, family in FAMILIES.items())
        raise InputError(f"{source!r} names no published file; expected one of\n{known}")
    file = pathlib.Path(path).expanduser()
    if not file.exists():
        raise InputError(f"{source}: {file} does not exist.")
    family = importlib.import_module(f"{__name__}.{FAMILIES[name].module}")
    return translate(family.read(file))._replace(where=source)


def load(source: str) -> tuple["nn.Module", dict[str, Any]]:
    """Returns the objective that a source, FAMILY:PATH, holds, and its parameters.

    Raises:
      InputError: as of `read`.
    """
    found = read(source)
    for line in found.account:
        log.warning("%s:%s", source, line)
    return found.build()
