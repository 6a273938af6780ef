"""Measures what a config costs here, beside what the machine could do and other programs.

    python -m vivit_jax.benchmark step --config FILE [--peer huggingface]
    python -m vivit_jax.benchmark augment --config FILE
    python -m vivit_jax.benchmark attention --config FILE [--peer jax,torch]
    python -m vivit_jax.benchmark startup --config FILE
    python -m vivit_jax.benchmark input [--videos DIR] [--peer pyav,decord,opencv,tf.data,grain]

Any option of a config is overridden by --config.SECTION.OPTION=VALUE. Rows take turns within every
round, and a table of medians is printed; --out writes every call to a JSON file. What each word
measures is told in vivit_jax/benchmarks. Exit codes: 0 done, 1 a fault, 2 something that the user
gave cannot be used.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence

from vivit_jax import huge_pages
from vivit_jax.benchmarks import machine, rounds
from vivit_jax.benchmarks.rounds import Table
from vivit_jax.errors import InputError
from vivit_jax.main import experiment_of
from vivit_jax.terminal import run, speak

Tables = Iterator[Table]


def main() -> int:
    """Runs the command; returns its exit code."""
    given = parse(sys.argv[1:])
    speak(True)
    about = {"command": sys.argv[1:], **machine.about()}
    print(machine.in_words(about), flush=True)
    measured = []
    for table in WHAT[given.what](given):
        measured.append((table, rounds.take_turns(table, given.rounds)))
        print(f"\n{table.title}\n\n{rounds.in_words(*measured[-1])}", flush=True)
        if given.out:
            rounds.write(pathlib.Path(given.out), measured, about)
    return 0


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Returns the flags of a command line, without the command's name, and its `experiment`.

    Raises:
      InputError: a flag or an option is not what it should be.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vivit_jax.benchmark",
        usage=f"%(prog)s {'|'.join(WHAT)} [--config FILE] [--config.SECTION.OPTION=VALUE ...] "
        "[--peer NAMES] [--rounds N] [--out FILE]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("what", choices=tuple(WHAT))
    parser.add_argument(
        "--config", metavar="FILE", default="", help="quickstart.py, or for input VideoMAE's"
    )
    parser.add_argument("--peer", metavar="NAMES", default="", help="with commas")
    parser.add_argument("--rounds", type=int, default=5, help="that count")
    parser.add_argument("--out", metavar="FILE", default="", help="for every call, as JSON")
    parser.add_argument("--batch", type=int, default=0, help="clips; the config's if 0")
    parser.add_argument("--classes", default="400", help="of each head, with commas")
    parser.add_argument("--videos", metavar="DIR", default="", help="input: your own files")
    parser.add_argument("--clips", type=int, default=48, help="input: that a call reads")
    parser.add_argument("--workers", default="1,2", help="input: numbers of them, with commas")
    given, given.overrides = parser.parse_known_args(arguments)
    for name in ("classes", "workers"):
        text = getattr(given, name)
        try:
            setattr(given, name, tuple(int(number) for number in text.split(",")))
        except ValueError as error:
            raise InputError(f"--{name}={text}; expected numbers with commas.") from error
        if min(getattr(given, name)) < 1:
            raise InputError(f"--{name}={text}; expected at least 1.")
    usual = (
        "configs/videomae_finetune.py:k400_B" if given.what == "input" else "configs/quickstart.py"
    )
    given.config = given.config or usual
    for name, least in {"rounds": 1, "batch": 0, "clips": 8}.items():
        if getattr(given, name) < least:
            raise InputError(f"--{name}={getattr(given, name)}; expected at least {least}.")
    given.peer = [name for name in given.peer.split(",") if name]
    given.experiment = experiment_of(given.config, given.overrides)
    return given


def step(given: argparse.Namespace) -> Tables:
    """Yields the training step, its parts, and peers' steps."""
    from vivit_jax.benchmarks import peers, steps

    prepared = steps.prepare(given.experiment, given.classes, given.batch)
    dtype = prepared.experiment.model.get("dtype", "float32")
    products = machine.Products(dtype, prepared.mesh.size)
    # Before ours, which takes long to compile: a peer that has no such model is refused at once.
    theirs = [row for name in given.peer for row in peers.rows(name, prepared)]
    rows = [products.row(), *steps.rows(prepared), *theirs]
    title, rate = steps.title(prepared), products.rate
    yield Table(title, rows, "clips", steps.STEP, products.OF, rate, again=True)


def augment(given: argparse.Namespace) -> Tables:
    """Yields the augmentation on the device, and the training step."""
    from vivit_jax.benchmarks import augmenting, steps

    prepared = steps.prepare(given.experiment, given.classes, given.batch)
    yield Table(steps.title(prepared), augmenting.rows(prepared), "clips", steps.STEP, again=True)


def attention(given: argparse.Namespace) -> Tables:
    """Yields the core of attention at each of the encoder's shapes."""
    from vivit_jax.benchmarks import attending, steps

    prepared = steps.prepare(given.experiment, given.classes, given.batch)
    dtype = prepared.experiment.model.get("dtype", "float32")
    for what, shape in attending.shapes(prepared).items():
        products = machine.Products(dtype)
        rows = [products.row(), *attending.rows(shape, dtype, given.peer)]
        title = (
            f"Attention over {what}: {shape[0]} rows, {shape[1]} heads, {shape[2]} tokens, {dtype}"
        )
        yield Table(title, rows, "rows", attending.AUTO, products.OF, products.rate)


def startup(given: argparse.Namespace) -> Tables:
    """Yields processes from their command to their first step."""
    from vivit_jax.benchmarks import startups, steps

    prepared = steps.prepare(given.experiment, given.classes, 0)
    arguments = [f"--config={given.config}", *given.overrides]
    with tempfile.TemporaryDirectory() as folder:
        rows = startups.rows(prepared, arguments, pathlib.Path(folder))
        yield Table(f"{given.config}, to the first step", rows, "starts", startups.ALONE)


def input_path(given: argparse.Namespace) -> Tables:
    """Yields what reads clips from files."""
    from vivit_jax.benchmarks import inputs

    inputs.refuse_others(given.peer)
    data, than = given.experiment.data, inputs.ours(given.workers[0])
    with tempfile.TemporaryDirectory() as made, tempfile.TemporaryDirectory() as records:
        sets = inputs.below(given.videos) if given.videos else inputs.make(pathlib.Path(made))
        for i, (title, paths) in enumerate(sets.items()):
            own = pathlib.Path(records) / str(i)
            own.mkdir()
            rows = inputs.rows(paths, data, given.clips, given.workers, given.peer, own)
            yield Table(title, rows, "clips", than, inputs.FLOOR, inputs.rate)


WHAT: dict[str, Callable[[argparse.Namespace], Tables]] = {
    "step": step,
    "augment": augment,
    "attention": attention,
    "startup": startup,
    "input": input_path,
}


if __name__ == "__main__":
    huge_pages.ask()
    sys.exit(run(main))
