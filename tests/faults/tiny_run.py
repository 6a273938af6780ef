"""A config of seconds, for runs that faults are injected into: the videos are data.root's."""

from vivit_jax.recipe import experiment


def get_config():
    """Returns the experiment."""
    return experiment(
        data=dict(batch_size=8, frames=4, stride=1, image_size=16, workers=1),
        model=dict(name="video_transformer", size="mu", tubelet=(2, 8, 8)),
        objective=dict(name="classify"),
        optim=dict(learning_rate=0.01, warmup=2.0, unit="steps"),
        train=dict(steps=20, log_every=1, checkpoint_every=5),
        eval=dict(clips=1, crops=1),
    )
