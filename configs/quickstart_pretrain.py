r"""Pretrains without labels on the quickstart's videos, then shows what the frozen features know.

    python -m vivit_jax.main --config configs/quickstart_pretrain.py --workdir runs/pretrained
    python -m vivit_jax.main --config configs/quickstart_pretrain.py:joint,finetune \
        --workdir runs/finetuned --config.init_from=runs/pretrained --config.data.train_share=0.1

The argument is the arrangement, joint or factorised_encoder; `,finetune` after it learns the labels
with the same encoder instead, from init_from or, without it, from random weights. A token's places
are hidden anew in every slot, so that most of what is hidden can be seen a moment earlier or
later, moved: to fill it in is to know the motion. Rotary positions make "a moment before, there"
one and the same for every token, which is what lets minutes suffice.
"""

from vivit_jax.recipe import choose_row, experiment

MASKS = {"joint": ("slots", 0.75), "factorised_encoder": ("slots", 0.75)}


def get_config(argument: str = "joint"):
    """Returns the experiment."""
    attention, *rest = argument.split(",")
    (mask, ratio), _ = choose_row(attention, MASKS)
    finetune = rest == ["finetune"]
    data = dict(
        dataset="motions",
        batch_size=32,
        frames=16,
        stride=1,
        image_size=48,
        crop="random_resized",
        crop_area=(0.6, 1.0),
        crop_aspect=(0.9, 1.1),
    )
    model = dict(
        name="video_transformer",
        attention=attention,
        size="mu",
        width=96,
        depth=2,
        heads=4,
        mlp_dim=192,
        temporal_depth=1,
        tubelet=(2, 8, 8),
        pool="mean",
        positions="rotary_3d",
        gelu="erf",
    )
    if finetune:
        return experiment(
            data=data,
            augment=dict(flip=0.0),
            model=model,
            objective=dict(name="classify"),
            optim=dict(learning_rate=1e-3, warmup=20.0, unit="steps", weight_decay=0.05, clip=1.0),
            train=dict(steps=200, log_every=20, checkpoint_every=200),
            eval=dict(clips=2, crops=1),
        )
    return experiment(
        data=data,
        augment=dict(flip=0.0),
        model=model,
        objective=dict(
            name="masked_pixels",
            mask=mask,
            mask_ratio=ratio,
            target_normalised="none",
            decoder_width=64,
            decoder_depth=2,
            decoder_heads=4,
            decoder_positions="rotary_3d",
        ),
        optim=dict(
            learning_rate=2e-3, warmup=40.0, unit="steps", weight_decay=0.05, b2=0.95, clip=1.0
        ),
        train=dict(steps=600, log_every=25, checkpoint_every=200),
        eval=dict(
            evaluators=("reconstruction", "linear_probe", "attentive_probe", "knn"),
            clips=2,
            crops=1,
        ),
    )
