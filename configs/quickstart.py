"""Learns eight motions from real video files within minutes on two CPU cores.

    python -m vivit_jax.main --config configs/quickstart.py --workdir runs/quickstart

The videos are encoded into the workdir on first use. Only the order of their frames tells the
class: --config.data.frame_order=shuffled or =repeated proves it.
"""

from vivit_jax.recipe import experiment


def get_config():
    """Returns the experiment."""
    return experiment(
        data=dict(
            dataset="motions",
            batch_size=64,
            frames=16,
            stride=1,
            image_size=48,
            crop="random_resized",
            crop_area=(0.6, 1.0),
            crop_aspect=(0.9, 1.1),
        ),
        augment=dict(flip=0.0),  # a mirror image turns left into right
        model=dict(
            name="video_transformer",
            attention="factorised_encoder",
            size="mu",
            width=96,
            depth=3,
            heads=4,
            mlp_dim=192,
            temporal_depth=2,
            tubelet=(4, 8, 8),
            pool="mean",
            positions="sincos_3d",
        ),
        objective=dict(name="classify"),
        optim=dict(
            learning_rate=1e-3,
            schedule="cosine",
            warmup=40,
            unit="steps",
            weight_decay=0.05,
            clip=1.0,
        ),
        train=dict(steps=200, log_every=10, checkpoint_every=100),
        eval=dict(clips=4, crops=1),
    )
