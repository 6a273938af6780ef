"""What trust costs: a step with and without its guards, a save and a restore with and without.

    python tests/benchmarks/guards.py [--rounds 15]

The step is a factorised ViViT's on 8 frames of 112 pixels: without a guard, with the one that every
run has (an update that is not finite changes nothing), and with the rule for spikes too. The state
that is saved is that model's, as training holds it, by Orbax alone and by Checkpoints with digest,
check for finite numbers, manifest and flush; until training can go on, until all is on the disk,
and back. What the machine does meanwhile meets all rows alike; run it where nothing else runs.
"""

import argparse
import itertools
import logging
import pathlib
import tempfile
import time
from unittest import mock

import jax
import orbax.checkpoint as ocp

from vivit_jax import train_step
from vivit_jax.benchmarks import machine, steps
from vivit_jax.benchmarks.rounds import Row, Table, done, in_words, take_turns
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.main import experiment_of

SMALLER = (
    *("--config.model.depth=4", "--config.model.temporal_depth=1"),
    *("--config.data.frames=8", "--config.data.image_size=112"),
)


def prepare(*options: str):
    """Returns the run of the model that is measured."""
    experiment = experiment_of("configs/vivit.py:k400_B", [*SMALLER, *options])
    return steps.prepare(experiment, (400,), 2)


def guards() -> Table:
    """Returns the steps."""
    with mock.patch.object(train_step, "either", lambda good, after, before: after):
        (bare,) = steps.rows(prepare(), parts=False)
    (finite,) = steps.rows(prepare(), parts=False)
    (spikes,) = steps.rows(prepare("--config.optim.spike=10"), parts=False)
    names = ("no guard", "finite numbers", "finite numbers and spikes")
    rows = [row._replace(name=n) for n, row in zip(names, (bare, finite, spikes), strict=True)]
    return Table("A step", rows, "clips", names[0])


def saves(folder: pathlib.Path) -> Table:
    """Returns saves and restores, of states in GB."""
    run = prepare()
    state = run.init()
    done(state)
    size = sum(x.nbytes for x in jax.tree.leaves(state)) / 1e9
    target = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )
    options = ocp.CheckpointManagerOptions(max_to_keep=1)
    bare = ocp.CheckpointManager(folder / "bare", options=options)
    ours = Checkpoints(folder / "ours")
    numbers = itertools.count(1)

    def bare_save() -> tuple[float, float]:
        begun = time.perf_counter()
        bare.save(next(numbers), args=ocp.args.PyTreeSave(state))
        blocked = time.perf_counter() - begun
        bare.wait_until_finished()
        return blocked, time.perf_counter() - begun

    def our_save() -> tuple[float, float]:
        begun = time.perf_counter()
        ours.save(next(numbers), state)
        blocked = time.perf_counter() - begun
        ours.wait()
        return blocked, time.perf_counter() - begun

    def bare_restore() -> None:
        args = ocp.args.PyTreeRestore(target, ocp.checkpoint_utils.construct_restore_args(target))
        done(bare.restore(bare.latest_step(), args=args))

    def our_restore() -> None:
        done(ours.restore_newest(target)[1])

    rows = [
        Row("Orbax, until training goes on", lambda: bare_save()[0], size),
        Row("ours, until training goes on", lambda: our_save()[0], size),
        Row("Orbax, until on the disk", lambda: bare_save()[1], size),
        Row("ours, until on the disk", lambda: our_save()[1], size),
        Row("Orbax, restored", bare_restore, size),
        Row("ours, restored", our_restore, size),
    ]
    return Table(f"A state of {size:.2f} GB", rows, "GB", rows[0].name)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    logging.getLogger("vivit_jax").setLevel(logging.WARNING)
    print(machine.in_words(machine.about()))
    table = guards()
    print(f"{table.title}\n{in_words(table, take_turns(table, rounds, warm_up=3))}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        table = saves(pathlib.Path(folder))
        print(f"{table.title}\n{in_words(table, take_turns(table, max(3, rounds // 3)))}")


if __name__ == "__main__":
    main()
