r"""ViViT on Kinetics-400 (Arnab et al. 2021), by the numbers of the released configs.

    python -m vivit_jax.main --config configs/vivit_k400.py:factorised_encoder --workdir DIR \
        --config.data.train_list=train.csv --config.data.eval_list=val.csv

The argument is the arrangement: joint, factorised_encoder, factorised_self_attention or
factorised_dot_product. The published accuracies start from an ImageNet-21k ViT; from random
weights, as here, expect less.
"""

from vivit_jax.recipe import experiment

LEARNING_RATES = {"joint": 0.1, "factorised_encoder": 0.05}  # the released configs


def get_config(attention: str = "factorised_encoder"):
    """Returns the experiment."""
    return experiment(
        data=dict(
            batch_size=64,
            frames=32,
            stride=2,
            image_size=224,
            crop="scale_jitter",
            resize=256,
            scale_jitter=(0.9, 1.33),
        ),
        augment=dict(flip=0.5, colour_jitter=0.8, grey=0.1),
        model=dict(
            name="video_transformer",
            size="B",
            attention=attention,
            temporal_depth=4,
            tubelet=(2, 16, 16),
            pool="class_token" if attention in LEARNING_RATES else "mean",
            tubelet_init="central_frame",
        ),
        objective=dict(name="classify"),
        optim=dict(
            optimizer="sgd",
            learning_rate=LEARNING_RATES.get(attention, 0.1),
            momentum=0.9,
            warmup=2.5,
            clip=1.0,
        ),
        train=dict(epochs=30.0),
        eval=dict(clips=4, crops=3, resize=256, average="logits"),
    )
