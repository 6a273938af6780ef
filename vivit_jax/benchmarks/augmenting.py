"""What each step of augmentation costs, beside the training step that it is part of."""

import dataclasses

import jax

from vivit_jax.benchmarks.rounds import Row, done
from vivit_jax.benchmarks.steps import PLAIN, batch_of
from vivit_jax.benchmarks.steps import rows as step_rows
from vivit_jax.data.augment import make_augment
from vivit_jax.run import Run

ALONE = {  # what is measured alone, by the options that turn it on where the config does not
    "flip": {"flip": 0.5},
    "RandAugment": {"randaugment_layers": 2},
    "colour jitter": {"colour_jitter": 1.0},
    "grey": {"grey": 0.5},
    "erasing": {"erase": 1.0},
}


def rows(prepared: Run) -> list[Row]:
    """Returns normalisation, what the config does, each step alone, and the training step."""
    data, given = prepared.experiment.data, prepared.experiment.augment
    encoder = prepared.objective.encoder  # type: ignore[attr-defined]
    video = batch_of(prepared)["video"]
    keys = jax.random.split(jax.random.key(0), data.batch_size)
    plain = dataclasses.replace(given, **PLAIN)
    options = {
        "normalisation alone": plain,
        "as config.augment has it": given,
        **{f"with {name} alone": dataclasses.replace(plain, **on) for name, on in ALONE.items()},
    }

    def row(name: str, augment) -> Row:
        function = jax.jit(make_augment(augment, encoder.mean, encoder.std))
        return Row(name, lambda: done(function(video, keys)), data.batch_size)

    return [row(*item) for item in options.items()] + step_rows(prepared, parts=False)
