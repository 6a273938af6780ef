r"""Trains on your own videos, from random weights: a folder of class folders, or a list file.

    python -m vivit_jax.main --config configs/train_folder.py --workdir runs/mine \
        --config.data.root=DIR
    ... --config.data.train_list=train.csv --config.data.eval_list=val.csv

A fifth of the videos is held out by a hash of their paths, unless DIR has folders named train and
val, or there is an eval_list. See docs/data.md. For more than a few thousand videos take a larger
model: --config.model.size=S --config.model.depth=0.
"""

from vivit_jax.recipe import experiment


def get_config():
    """Returns the experiment."""
    return experiment(
        data=dict(batch_size=16, frames=16, stride=4, image_size=112, crop_area=(0.4, 1.0)),
        augment=dict(colour_jitter=0.8),
        model=dict(
            name="video_transformer",
            attention="factorised_encoder",
            size="Ti",
            depth=6,
            temporal_depth=2,
            tubelet=(2, 16, 16),
            positions="sincos_3d",
            pool="mean",
            drop_path=0.1,
        ),
        objective=dict(name="classify", label_smoothing=0.1),
        optim=dict(learning_rate=5e-4, warmup=2.0, weight_decay=0.05, clip=1.0),
        train=dict(epochs=40.0, log_every=20, checkpoint_every=200),
        eval=dict(clips=4, crops=1),
    )
