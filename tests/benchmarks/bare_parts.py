"""What the parts below us make of faults by themselves: Orbax, tf.data and PyAV as they come.

    python tests/benchmarks/bare_parts.py [--flips 100]

Prints a table: the fault, what happened, and how often it happened in silence. It is the baseline
of docs/reliability.md; ours are injected by tests/faults.
"""

import argparse
import pathlib
import random
import shutil
import sys
import tempfile

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp

SHAPE = (96, 96)


def state_of(seed: int) -> dict:
    """Returns a small state: what a bit in it does not change is not there."""
    keys = jax.random.split(jax.random.key(seed), 3)
    return {name: jax.random.normal(key, SHAPE) for name, key in zip("abc", keys, strict=True)}


def manager(folder: pathlib.Path) -> ocp.CheckpointManager:
    """Returns Orbax's manager with its defaults."""
    return ocp.CheckpointManager(folder)


def saved(folder: pathlib.Path, steps: int = 3) -> pathlib.Path:
    """Returns a folder of checkpoints 1 to `steps`."""
    with manager(folder) as checkpoints:
        for step in range(1, steps + 1):
            checkpoints.save(step, args=ocp.args.StandardSave(state_of(step)))
    return folder


def restored(folder: pathlib.Path, step: int | None = None, target=None):
    """Returns a step of a folder, the newest by default."""
    with manager(folder) as checkpoints:
        step = checkpoints.latest_step() if step is None else step
        target = state_of(0) if target is None else target
        return checkpoints.restore(step, args=ocp.args.StandardRestore(target))


def same(left, right) -> bool:
    """Returns whether two states are equal, bit for bit."""
    return all(jax.tree.leaves(jax.tree.map(lambda a, b: bool(jnp.array_equal(a, b)), left, right)))


def flipped_bits(folder: pathlib.Path, flips: int) -> tuple[str, int]:
    """Returns what became of single bits that flipped in the newest step, and how many silently."""
    rng, wrong, raised = random.Random(0), 0, 0
    whole = saved(folder / "whole", 1)
    for number in range(flips):
        copy = folder / f"copy_{number}"
        shutil.copytree(whole, copy)
        files = [file for file in sorted(copy.rglob("*")) if file.is_file() and file.stat().st_size]
        file = rng.choices(files, [file.stat().st_size for file in files])[0]
        data = bytearray(file.read_bytes())
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        file.write_bytes(data)
        try:
            wrong += not same(restored(copy, 1), state_of(1))
        except Exception:
            raised += 1
        shutil.rmtree(copy)
    return f"{wrong} of {flips} restored wrong weights, {raised} raised", wrong


def empty_step(folder: pathlib.Path, _: int) -> tuple[str, int]:
    """Returns what an empty directory named "9" is taken for."""
    (saved(folder / "run") / "9").mkdir()
    with manager(folder / "run") as checkpoints:
        latest = checkpoints.latest_step()
    try:
        restored(folder / "run")
        return f"latest is {latest}, and it is restored", 1
    except Exception as error:
        return f"latest is {latest}; restoring raises {type(error).__name__}, at every start", 0


def other_type(folder: pathlib.Path, _: int) -> tuple[str, int]:
    """Returns what happens where the target has another type of number; another shape raises."""
    target = {name: jnp.zeros(SHAPE, jnp.float16) for name in "abc"}
    try:
        found = restored(saved(folder / "run"), 3, target)["a"]
        return f"another shape raises; another type is accepted: {found.dtype}", 1
    except Exception as error:
        return f"raises {type(error).__name__}", 0


def gone_back(folder: pathlib.Path, _: int) -> tuple[str, int]:
    """Returns whether steps are saved again after an older one was restored."""
    with manager(saved(folder / "run")) as checkpoints:
        checkpoints.restore(1, args=ocp.args.StandardRestore(state_of(0)))
        written = checkpoints.save(2, args=ocp.args.StandardSave(state_of(20)))
    return ("saved" if written else "step 2 is not saved, and nothing says so"), int(not written)


def other_order(folder: pathlib.Path, _: int) -> tuple[str, int]:
    """Returns what tf.data makes of a saved place in a shuffled list whose seed has changed."""
    import tensorflow as tf

    def dataset(seed: int):
        return tf.data.Dataset.range(20).shuffle(20, seed=seed, reshuffle_each_iteration=False)

    iterator = iter(dataset(0))
    for _ in range(5):
        next(iterator)
    path = tf.train.Checkpoint(iterator=iterator).save(str(folder / "place"))
    old, now = [int(x) for x in iterator], iter(dataset(1))
    try:
        tf.train.Checkpoint(iterator=now).restore(path)
        found = [int(x) for x in now]
    except Exception as error:
        return f"raises {type(error).__name__}", 0
    return f"accepted; the old order goes on: {found == old}", 1


def bad_files(folder: pathlib.Path, _: int) -> tuple[str, int]:
    """Returns what tf.data's ignore_errors makes of files of which none can be read."""
    import tensorflow as tf

    def read(_):
        raise ValueError("no video")

    dataset = tf.data.Dataset.range(30)
    dataset = dataset.map(lambda i: tf.numpy_function(read, [i], tf.int64)).ignore_errors()
    return f"{len([*dataset])} of 30 elements, and a normal end", 1


FAULTS = {
    "1  a bit of a checkpoint flips": flipped_bits,
    '2  an empty directory named "9"': empty_step,
    "22 the model changes": other_type,
    "24 an older step is gone back to": gone_back,
    "23 the seed changes": other_order,
    "13 all videos are bad": bad_files,
}


def main() -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flips", type=int, default=100, help="bits, each in a copy")
    flips = parser.parse_args().flips
    print("| fault | Orbax and tf.data alone | silently wrong |\n|---|---|---|")
    for name, inject in FAULTS.items():
        with tempfile.TemporaryDirectory() as folder:
            what, silent = inject(pathlib.Path(folder), flips)
        print(f"| {name} | {what} | {silent} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
