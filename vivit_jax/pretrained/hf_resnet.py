"""Hugging Face's ResNet: the same as torchvision's, under names of its own."""

from vivit_jax.errors import InputError
from vivit_jax.models.resnet import EXPANSION, SHAPES, layers_of
from vivit_jax.pretrained import resnet
from vivit_jax.pretrained.found import Found
from vivit_jax.pretrained.hf_folder import CONFIG, Folder
from vivit_jax.pretrained.originals import IMAGENET
from vivit_jax.pretrained.rules import Rule, dense

NAMES = (
    (r"^resnet\.", ""),  # where a classifier is beside
    (r"^classifier\.1\.", "classifier."),
)
PUBLISHED = {  # what none of those published differ in
    "num_channels": 3,
    "hidden_act": "relu",
    "downsample_in_first_stage": False,
    "downsample_in_bottleneck": False,
}


def find(folder: Folder) -> Found:
    """Returns what a folder holds.

    Raises:
      InputError: config.json lacks something, or is of a form that nobody published.
    """
    for name, value in PUBLISHED.items():
        folder.check(name, value)
    blocks, widths = folder.get("depths", list), folder.get("hidden_sizes", list)
    bottleneck, stem = folder.get("layer_type", str) == "bottleneck", folder.get("embedding_size")
    name = resnet.named(blocks, bottleneck, folder.where)
    expected = [stem * 2**stage * (EXPANSION if bottleneck else 1) for stage in range(4)]
    if widths != expected:
        raise InputError(
            f"{folder.where}/{CONFIG}: hidden_sizes = {widths}; expected {expected}, as of a "
            f"{name} whose embedding_size is {stem}."
        )
    colours = folder.colours(IMAGENET["mean"], IMAGENET["std"])
    labels = folder.labels() if "classifier.bias" in folder.arrays else ((),)
    model = {"frame": name, "width": stem, **colours}
    return resnet.found(folder.where, folder.arrays, model, rules(name), labels, data=resnet.CLIP)


def rules(name: str) -> list[Rule]:
    """Returns the table of names."""

    def layer(theirs: str, block: str, number: str = "") -> list[Rule]:
        return resnet.layer(f"{theirs}.convolution", f"{theirs}.normalization", block, number)

    table = layer("embedder.embedder", "stem")
    for ours, (stage, i) in resnet.places(name):
        at = f"encoder.stages.{stage}.layers.{i}"
        for j in range(len(layers_of(1, 1, SHAPES[name].bottleneck))):
            table += layer(f"{at}.layer.{j}", f"{ours}/", f"_{j}")
        table += layer(f"{at}.shortcut", f"{ours}/", "_beside")
    return [*table, *dense("classifier", "head")]
