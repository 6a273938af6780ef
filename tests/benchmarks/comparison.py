"""The models that came before beside ViViT, on the quickstart's videos: accuracy, size and speed.

    python tests/benchmarks/comparison.py --out DIR [--steps 300] [--seeds 0,1,2]
        [--models NAME,...] [--videos FOLDER] [--rounds 3] [--table]
        [--config.data.image_size=32 ...]

Every run is the one command with the one line changed, python -m vivit_jax.main --config ..., in a
folder of its own under --out; one that is there already is not run again, so the same command goes
on after a stop, and with more seeds. The table has those that are there. Runs differ in the model
and the seed alone. Speeds are of one batch that lies in memory, all models in turns, and a step is
that of training; the fastest of --rounds counts, and --rounds 0 leaves them out.

Each model sees frames as they are, and again, as NAME-differences, with three channels more: each
frame less the one before it. Of the first, two rows are controls: the mean over frames that are
seen one by one cannot know an order, and the order of frames is all that tells these classes apart,
so such a model stays near chance, 0.125.
"""

import argparse
import math
import os
import pathlib
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

import jax

from vivit_jax import config, main, metrics, recipe
from vivit_jax.benchmarks import steps
from vivit_jax.benchmarks.rounds import Row, Table, done, take_turns
from vivit_jax.data.synthetic import MOTIONS, encode_motions
from vivit_jax.trees import by_path

ROOT = pathlib.Path(__file__).parents[2]
TIMES = ("transformer", "gpt2", "lstm", "gru", "mean")  # the last is the control
CONFIGS = {
    "vivit": "configs/quickstart.py",
    **{
        f"{frame}-{time}": f"configs/frame_models.py:{frame},{time},quickstart"
        for time in TIMES
        for frame in ("vit", "resnet18")
    },
}
MODELS = {  # the config and the options by the name of the row
    name + end: (path, options)
    for end, options in (("", ()), ("-differences", ("--config.model.difference=appended",)))
    for name, path in CONFIGS.items()
}


def given_options(options: Sequence[str]) -> list[tuple[str, str, str]]:
    """Returns (section, name, value) of options as --config.data.image_size=32."""
    found = []
    for option in options:
        path, _, value = option.removeprefix("--config.").partition("=")
        section, _, name = path.partition(".")
        found.append((section, name, value))
    return found


def experiment_of(name: str, arguments: argparse.Namespace) -> config.Experiment:
    """Returns the experiment of a model, with the options that all of them are given."""
    path, options = MODELS[name]
    whole = main.load(str(ROOT / path)).to_dict()
    for section, option, value in given_options([*options, *arguments.options]):
        whole[section][option] = type(whole[section].get(option, value))(value)
    return config.parse(recipe.experiment(**whole).to_dict())


def train(name: str, seed: int, arguments: argparse.Namespace) -> None:
    """Trains and judges a model, if nobody has."""
    workdir = folder(name, seed, arguments)
    if result(workdir, arguments) is not None:
        return
    path, options = MODELS[name]
    command = [sys.executable, "-m", "vivit_jax.main", "--config", str(ROOT / path), *options]
    command += ["--workdir", str(workdir), f"--config.seed={seed}", *arguments.options]
    command += [f"--config.train.steps={arguments.steps}", "--config.data.dataset=videos"]
    command += [f"--config.data.root={arguments.videos}"]
    print(f"{name}, seed {seed}", file=sys.stderr)
    kept = {"JAX_COMPILATION_CACHE_DIR": str(pathlib.Path(arguments.out).resolve() / "compiled")}
    subprocess.run(command, check=True, cwd=ROOT, env={**kept, **os.environ})


def folder(name: str, seed: int, arguments: argparse.Namespace) -> pathlib.Path:
    """Returns the workdir of a run."""
    return pathlib.Path(arguments.out) / f"{name}_{seed}"


def result(workdir: pathlib.Path, arguments: argparse.Namespace) -> float | None:
    """Returns the held-out accuracy of a run that is done; None for others."""
    file = workdir / metrics.RESULTS
    if not file.is_file():
        return None
    found = [x["top1"] for x in metrics.read_lines(file) if x["step"] == arguments.steps]
    return found[-1] if found else None


def rows_of(name: str, arguments: argparse.Namespace) -> list[Row]:
    """Returns a model's step of training and its prediction, of a batch."""
    experiment = experiment_of(name, arguments)
    prepared: Any = steps.prepare(experiment, (len(MOTIONS),), arguments.clips)
    (step,) = steps.rows(prepared, parts=False)
    params, batch = prepared.init().params, steps.batch_of(prepared)

    def predict(params: Any, video: jax.Array) -> jax.Array:
        return prepared.objective.apply({"params": params}, {"video": video}, method="predict")

    compiled = jax.jit(predict).lower(params, batch["video"]).compile()
    clips = prepared.experiment.data.batch_size
    return [
        step._replace(name=name),
        Row(name, lambda: done(compiled(params, batch["video"])), clips),
    ]


def sizes(name: str, arguments: argparse.Namespace) -> tuple[int, float]:
    """Returns a model's parameters, and its G multiply-accumulates a clip; nothing is computed."""
    experiment, maps = experiment_of(name, arguments), [sorted(MOTIONS)]
    objective: Any = recipe.build_objective(experiment, maps)
    shapes = by_path(recipe.param_shapes(objective, experiment.data, maps)).values()
    macs = objective.costs(experiment.data.frames, experiment.data.image_size).forward
    return sum(math.prod(x.shape) for x in shapes), macs / 1e9


def table(names: Sequence[str], arguments: argparse.Namespace) -> str:
    """Returns what is known of the models, as Markdown."""
    speeds: dict[str, list[float]] = {name: [] for name in names}
    if arguments.rounds:
        rows = [row for name in names for row in rows_of(name, arguments)]
        turns = Table("models", rows, "clips", names[0])
        for measured in take_turns(turns, arguments.rounds):
            speeds[measured.row.name].append(measured.row.work / min(measured.seconds))
    head = ["model", "top-1", "seeds", "parameters", "GFLOPs a clip", "clips/s training"]
    lines = [[*head, "clips/s inference"], ["---"] * 7]
    for name in names:
        count, macs = sizes(name, arguments)
        found = [result(folder(name, seed, arguments), arguments) for seed in arguments.seeds]
        top1 = [x for x in found if x is not None]
        spread = f" ± {statistics.stdev(top1):.2f}" if len(top1) > 1 else ""
        line = [name, f"{statistics.mean(top1):.2f}{spread}" if top1 else "not run"]
        line += [str(len(top1)), f"{count:,}", f"{macs:.4f}"]
        lines.append(line + ([f"{x:.0f}" for x in speeds[name]] or ["", ""]))
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def run() -> None:
    """Trains what is not trained yet, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", required=True, help="a folder for the runs")
    parser.add_argument("--videos", help="the quickstart's videos; made under --out otherwise")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--rounds", type=int, default=3, help="of the speeds")
    parser.add_argument("--table", action="store_true", help="of what is there; train nothing")
    parser.add_argument("--clips", type=int, default=8, help="of the batch whose speed is measured")
    arguments, arguments.options = parser.parse_known_args()
    arguments.seeds = [int(seed) for seed in arguments.seeds.split(",")]
    names = arguments.models.split(",")
    arguments.videos = arguments.videos or encode_motions(pathlib.Path(arguments.out))
    for seed in arguments.seeds:
        for name in names:
            if not arguments.table:
                train(name, seed, arguments)
    print(
        f"{arguments.steps} steps; {' '.join(arguments.options) or 'no other options'}; jax ",
        end="",
    )
    print(
        f"{jax.__version__}, Python {platform.python_version()}, {jax.devices()[0].device_kind}\n"
    )
    print(table(names, arguments))


if __name__ == "__main__":
    run()
