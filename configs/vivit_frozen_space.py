r"""ViViT's factorised encoder with its stack over space frozen (Gowda et al. 2023, 2306.04822).

    python -m vivit_jax.main --config configs/vivit_frozen_space.py:few_frames \
        --workdir runs/few --config.data.root=DIR [--config.init_from=IMAGE_MODEL]
    python -m vivit_jax.main --config configs/vivit_frozen_space.py:frozen_space \
        --workdir runs/all --config.data.root=DIR --config.init_from=runs/few

The paper's: all is learnt first from few frames, 8, on the weights of an image model; then, with
both stacks so initialised, space is frozen, a compact adapter connects it to time, and these two
learn from more frames (up to 128: --config.data.frames=128 --config.data.stride=1). Ours, where the
paper's text was not at hand: the adapter's form (a residual bottleneck that starts as the identity)
and width, the strides, and all numbers of the optimiser, which are those of vivit.py. `,smoke`
after the row runs it in a minute on videos made here.
"""

from typing import NamedTuple

from vivit_jax.recipe import choose_row, experiment, smoke


class Stage(NamedTuple):
    """What differs: both see a window of 64 source frames."""

    frames: int
    stride: int
    freeze: tuple[str, ...] = ()
    adapter: int = 0


STAGES = {
    "few_frames": Stage(8, 8),
    "frozen_space": Stage(32, 2, ("space",), 192),
}


def get_config(argument: str = "frozen_space"):
    """Returns the experiment."""
    row, small = choose_row(argument, STAGES)
    config = experiment(
        data=dict(
            batch_size=64,
            frames=row.frames,
            stride=row.stride,
            image_size=224,
            crop="scale_jitter",
            resize=256,
            scale_jitter=(0.9, 1.33),
        ),
        augment=dict(flip=0.5, colour_jitter=0.8, grey=0.1),
        model=dict(
            name="video_transformer",
            size="B",
            attention="factorised_encoder",
            temporal_depth=4,
            tubelet=(2, 16, 16),
            tubelet_init="central_frame",
            adapter=row.adapter,
        ),
        objective=dict(name="classify"),
        optim=dict(
            optimizer="sgd",
            learning_rate=0.05,
            momentum=0.9,
            warmup=2.5,
            clip=1.0,
            freeze=row.freeze,
        ),
        train=dict(epochs=30.0),
        eval=dict(clips=4, crops=3, resize=256, average="logits"),
    )
    return smoke(config) if small else config
