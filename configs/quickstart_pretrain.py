r"""Pretrains without labels on the quickstart's videos, and tells what the frozen features know.

    python -m vivit_jax.main --config configs/quickstart_pretrain.py --workdir runs/pretrained
    python -m vivit_jax.main --config configs/quickstart_pretrain.py:joint,finetune \
        --workdir runs/finetuned --config.init_from=runs/pretrained --config.data.train_share=0.1

The argument is the arrangement, joint or factorised_encoder; `,finetune` after it learns the labels
with the same encoder instead, from init_from or, without it, from random weights.

Half of the places are hidden, others in every slot, so most of what is hidden can be seen a moment
earlier or later, moved: to fill it in well is to know the motion. Rotary positions in the decoder
make "a moment before, there" the same for every token, and small batches give many steps; both are
what lets minutes suffice.
"""

from vivit_jax.errors import InputError
from vivit_jax.recipe import experiment


def get_config(argument: str = "joint"):
    """Returns the experiment."""
    attention, *rest = argument.split(",")
    if rest not in ([], ["finetune"]):
        raise InputError(f"The config's argument = {argument!r}; expected {attention},finetune.")
    data = dict(
        dataset="motions",
        batch_size=16,
        frames=16,
        stride=1,
        image_size=32,
        crop="random_resized",
        crop_area=(0.6, 1.0),
        crop_aspect=(0.9, 1.1),
    )
    model = dict(
        name="video_transformer",
        attention=attention,
        size="mu",
        width=96,
        depth=3,
        heads=4,
        mlp_dim=192,
        temporal_depth=2,
        tubelet=(2, 8, 8),
        pool="mean",
        positions="sincos_3d",
        gelu="erf",
    )
    optim = dict(warmup=40.0, unit="steps", weight_decay=0.05, clip=1.0)
    if rest:
        return experiment(
            data=data,
            augment=dict(flip=0.0),
            model=model,
            objective=dict(name="classify"),
            optim=dict(learning_rate=1e-3, **optim),
            train=dict(steps=300, log_every=50, checkpoint_every=300),
            eval=dict(clips=4, crops=1),
        )
    return experiment(
        data=data,
        augment=dict(flip=0.0),
        model=model,
        objective=dict(
            name="masked_pixels",
            mask="slots",
            mask_ratio=0.5,
            target_normalised="none",
            decoder_width=96,
            decoder_depth=2,
            decoder_heads=4,
            decoder_positions="rotary_3d",
        ),
        optim=dict(learning_rate=1.5e-3, b2=0.95, **optim),
        train=dict(steps=3000, log_every=100, checkpoint_every=1000),
        eval=dict(
            evaluators=("reconstruction", "linear_probe", "attentive_probe", "knn"),
            clips=4,
            crops=1,
        ),
        probe=dict(clips=2, whiten=True),  # light and colours are most of what predicts pixels
    )
