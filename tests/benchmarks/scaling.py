"""Strong scaling on paper: python tests/benchmarks/scaling.py [CHIPS ...]

One global batch on ever more chips: seconds of a step's products and of what its layouts must send,
and bytes of state, from the models' own counts, shapes and sharding rules; nothing is compiled or
run. What a layout must send, where n devices share the batch, t the heads, s the tokens:

    data      gradients once, an all-reduce over n
    fsdp      parameters twice (forward, backward), all-gathered; gradients once, reduce-scattered
    tensor    each block's tokens four times (after attention and MLP, forward and backward), an
              all-reduce over t; and gradients of a t-th, an all-reduce over n
    sequence  keys and values of blocks that look across slots: gathered forward and backward, their
              gradients scattered, over s; parameters and gradients as fsdp, over s; and gradients
              of an s-th, an all-reduce over n

all in bfloat16, as XLA for TPUs sends them.
"""

import pathlib
import sys
from typing import Any, NamedTuple

import jax
import numpy as np

MFU = 0.4
WIDTH = 2  # bytes of a bfloat16
SPLIT = 4  # t or s; more where a clip would else be for fewer
RECIPES = {  # config, argument, options
    "ViViT-L factorised encoder, 32 frames": ("vivit", "k400_L", {}),
    "VideoMAE-B pretraining, 16 frames, 90 % masked": ("videomae_pretrain", "k400_B", {}),
    "ViViT-B joint, 64 frames": ("vivit", "k400_B_joint", {"data": {"frames": 64}}),
    "ViViT-B joint, 128 frames": ("vivit", "k400_B_joint", {"data": {"frames": 128}}),
}
LAYOUTS = ("data", "fsdp", "tensor", "sequence")


class Model(NamedTuple):
    """What follows from a recipe whatever the devices.

    Attributes:
      experiment: the recipe.
      macs: of a step of one clip.
      values: parameters.
      tokens: sum over blocks of tokens times their width, of one clip.
      crossing: of those, in blocks that look across slots.
      heads: that tensor splits.
    """

    experiment: Any
    macs: int
    values: int
    tokens: int
    crossing: int
    heads: int


def read(config_name: str, argument: str, options: dict[str, Any]) -> Model:
    """Returns what a recipe says."""
    from vivit_jax import config, main, recipe
    from vivit_jax.data.published import DATA_SETS
    from vivit_jax.models.costs import Count
    from vivit_jax.objectives.masked_pixels import MaskedPixels
    from vivit_jax.planning import videos

    section = main.load(f"configs/{config_name}.py:{argument}")
    for name, changed in {**options, "model": {"dtype": "bfloat16"}}.items():
        section[name].update(changed)
    experiment = config.parse(section.to_dict())
    sources = videos.counted(1, DATA_SETS["k400"].classes)
    objective: Any = recipe.build_objective(experiment, sources.label_maps)

    class Blocks(Count):
        """Also sums up what blocks hand on."""

        tokens = crossing = 0

        def block(self, path, sizes, arrangement, classes, t, s, flows, repeats=1):
            size = repeats * (classes + t * s) * sizes.width
            self.tokens += size
            self.crossing += size if repeats == 1 else 0
            return super().block(path, sizes, arrangement, classes, t, s, flows, repeats)

    count, data = Blocks(), experiment.data
    encoder, seen = objective.encoder, None
    if isinstance(objective, MaskedPixels):
        seen, masked = objective.counts(encoder.grid(data.frames, *2 * [data.image_size]))
    flows = count.encoder(encoder, data.frames, data.image_size, seen)
    if isinstance(objective, MaskedPixels):
        width = encoder.dims.width
        count.predictor(objective.make_decoder(), width, seen, masked, flows, "decoder")
    clip = {
        "video": jax.ShapeDtypeStruct(
            (1, data.frames, data.image_size, data.image_size, 3), np.uint8
        ),
        "label": jax.ShapeDtypeStruct((1,), np.int32),
        "valid": jax.ShapeDtypeStruct((1,), bool),
    }
    streams = {name: jax.random.key(0) for name in ("params", "mask")}
    params = jax.eval_shape(objective.init, streams, clip)["params"]
    values = sum(leaf.size for leaf in jax.tree.leaves(params))
    macs = objective.costs(data.frames, data.image_size).step
    return Model(experiment, macs, values, count.tokens, count.crossing, encoder.dims.heads)


class Row(NamedTuple):
    """One layout on some chips: seconds, and bytes of a device's state with gradients."""

    products: float
    sent: float
    state: float


def layout(model: Model, name: str, chips: int, chip: Any) -> Row | None:
    """Returns what a layout takes; None where the batch cannot be split so."""
    from vivit_jax.planning.collectives import Collective

    data = model.experiment.data
    clips = data.batch_size * data.repeats
    within = max(SPLIT, chips // clips) if name in ("tensor", "sequence") else 1
    parts = chips // within
    if clips % parts or (name == "tensor" and model.heads % within):
        return None
    grid = np.arange(chips).reshape(parts, within)
    over_parts, over_within = grid.T, grid
    here = clips // parts  # clips that a group of `within` devices works on
    gradient = WIDTH * model.values
    sends = {
        "data": [("all-reduce", gradient, over_parts)],
        "fsdp": 2 * [("all-gather", gradient, over_parts)]
        + [("reduce-scatter", gradient, over_parts)],
        "tensor": [("all-reduce", gradient // within, over_parts)]
        + 4 * [("all-reduce", WIDTH * here * model.tokens, over_within)],
        "sequence": 2 * [("all-gather", gradient, over_within)]
        + [("reduce-scatter", gradient, over_within)]
        + [("all-reduce", gradient // within, over_parts)]
        + 4 * [("all-gather", WIDTH * here * model.crossing, over_within)]
        + 2 * [("reduce-scatter", WIDTH * here * model.crossing, over_within)],
    }[name]
    seconds = 0.0
    for kind, size, groups in sends:
        if groups.shape[1] > 1:
            links, network = Collective(kind, size, groups, 1, "").sent(chip.together)
            seconds += links / chip.link + network / chip.network
    share = {"fsdp": chips, "tensor": within, "sequence": within}.get(name, 1)
    products = 2 * model.macs * clips / chips / (MFU * chip.bfloat16)
    return Row(products, seconds, state(model) / share)


def state(model: Model) -> float:
    """Returns the bytes of parameters, optimiser and gradients, all of them."""
    copies = 4 if model.experiment.optim.optimizer == "adamw" else 3
    return 4.0 * copies * model.values


def main() -> None:
    """Prints a table for every recipe and kind of chip."""
    jax.config.update("jax_platforms", "cpu")
    from vivit_jax.hardware import CHIPS

    chips = [int(n) for n in sys.argv[1:]] or [8, 16, 32, 64, 128, 256, 512]
    assert pathlib.Path("configs").is_dir(), "run it from the repository's root"
    head = f"products | {' | '.join(LAYOUTS)} | state | state, fsdp | pays |"
    for title, recipe in RECIPES.items():
        model = read(*recipe)
        data = model.experiment.data
        clips = data.batch_size * data.repeats
        size, work = model.values / 1e6, 2 * model.macs / 1e12
        print(f"\n### {title}\n")
        print(f"{clips} clips a step, {size:.1f} M parameters, {work:.2f} TFLOP a clip and step.")
        for kind in ("v5e", "h100"):
            print(f"\n| {kind} | {head}\n|{'---|' * (5 + len(LAYOUTS))}")
            for n in chips:
                print(line(model, n, CHIPS[kind]))


def line(model: Model, chips: int, chip: Any) -> str:
    """Returns the table's row for so many chips; what pays sends the least, if its state fits."""
    rows = {name: layout(model, name, chips, chip) for name in LAYOUTS}
    cells = [f"{1e3 * row.sent:.2f}" if row else "" for row in rows.values()]
    fits = {name: row for name, row in rows.items() if row and row.state < 0.8 * chip.memory}
    if not fits:
        return f"| {chips} | | {' | '.join(cells)} | | | nothing |"
    best = min(fits, key=lambda name: fits[name].sent)
    products, sent, held = fits[best]
    sizes = [f"{held / 1e9:.2f} GB", f"{state(model) / chips / 1e9:.2f} GB"]
    cells = [f"{1e3 * products:.2f}", *cells, *sizes, f"{best}, {sent / products:.0%}"]
    return f"| {chips} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
