"""Looks into published weights, and carries them in and out.

    python -m vivit_jax.pretrained inspect SOURCE                     # what is it?
    python -m vivit_jax.pretrained import  SOURCE --out DIR           # as a checkpoint of ours
    python -m vivit_jax.pretrained export  --checkpoint DIR --to hf:OUT | safetensors:FILE

SOURCE is FAMILY:PATH. Where --checkpoint or config.init_from is asked for, a SOURCE will do too, so
importing is for those who want a workdir: to evaluate it, and to keep. Nothing is downloaded.
Exit codes: 0 done, 2 something that was given cannot be used.
"""

import argparse
import pathlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.terminal import run, speak

if TYPE_CHECKING:  # JAX takes long to import, and --help needs none of it
    from vivit_jax.pretrained.found import Pretrained


def main() -> int:
    """Runs the command; returns its exit code."""
    families = [f"  {name}:PATH  {family.what}" for name, family in pretrained.FAMILIES.items()]
    parser = argparse.ArgumentParser(
        prog="python -m vivit_jax.pretrained",
        description="\n".join([__doc__ or "", "Families:", *families]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    inspect = commands.add_parser("inspect", help="tell what a file holds")
    inspect.add_argument("source", metavar="FAMILY:PATH")
    inspect.set_defaults(run=lambda given: show(given.source))
    bring = commands.add_parser("import", help="make a workdir of a file")
    bring.add_argument("source", metavar="FAMILY:PATH")
    bring.add_argument("--out", required=True, metavar="DIR", help="made here; may not exist")
    bring.set_defaults(run=lambda given: bring_in(given.source, pathlib.Path(given.out)))
    take = commands.add_parser("export", help="make a file of a checkpoint")
    take.add_argument("--checkpoint", required=True, help="a run's workdir, or a step's folder")
    take.add_argument("--to", required=True, metavar="FORMAT:PATH", help="hf:DIR, safetensors:FILE")
    take.set_defaults(run=lambda given: take_out(given.checkpoint, given.to))
    arguments = parser.parse_args()
    speak(first_process=True)
    return arguments.run(arguments)


def show(source: str) -> int:
    """Prints what a source holds; returns the exit code."""
    print(describe(pretrained.read(source)))
    return 0


def describe(found: "Pretrained") -> str:
    """Returns what was found, for people: the options that are not the defaults, and an account."""
    from vivit_jax import recipe

    experiment = found.experiment
    lines = [found.where]
    tables = {"model": recipe.MODELS, "objective": recipe.OBJECTIVES}
    for name, table in tables.items():
        section = getattr(experiment, name)
        usual = recipe.defaults(table[section["name"]])
        shown = {k: v for k, v in section.items() if k == "name" or v != usual[k]}
        lines += [f"  config.{name}.{key} = {value!r}" for key, value in shown.items()]
    data = experiment.data
    if found.part:
        lines.append(f"  part     {found.part}, to start from beside others: config.init_from")
    else:
        lines.append(f"  clips    {data.frames} x {data.image_size} x {data.image_size}")
    classes = ", ".join(str(len(names)) for names in found.label_maps if names)
    lines += [f"  classes  {classes}"] if classes else []
    count = sum(value.size for value in found.params.values())
    lines.append(f"  {len(found.params)} parameters, {count:,} values")
    return "\n".join([*lines, *found.account])


def bring_in(source: str, out: pathlib.Path) -> int:
    """Makes a workdir of a source; returns the exit code."""
    from vivit_jax import config
    from vivit_jax.checkpoint import Checkpoints
    from vivit_jax.data.labels import keep_label_maps
    from vivit_jax.trees import as_tree

    found = pretrained.read(source)
    print(describe(found))
    found.check_whole()
    with appearing(out) as new:
        new.mkdir()
        (new / "config.json").write_text(config.to_json(found.experiment), encoding="utf-8")
        keep_label_maps(new, found.label_maps)
        with Checkpoints(new) as checkpoints:
            checkpoints.save(0, {"params": as_tree(found.params)})
    print(f"{out} is a workdir with these weights as step 0.")
    return 0


def take_out(source: str, to: str) -> int:
    """Makes a file of a checkpoint; returns the exit code."""
    from vivit_jax import trained
    from vivit_jax.pretrained import huggingface, plain

    writers: dict[str, Callable] = {"hf": huggingface.write, "safetensors": plain.write}
    name, _, path = to.partition(":")
    if name not in writers or not path:
        raise InputError(f"--to={to}; expected hf:DIR or safetensors:FILE.")
    found = trained.to_publish(trained.find(source))
    with appearing(pathlib.Path(path)) as new:
        if name == "hf":
            new.mkdir()
        writers[name](found, new)
    print(f"{path} holds {found.where}.")
    return 0


@contextmanager
def appearing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a name beside a path, which becomes it when all went well, and is gone otherwise.

    Raises:
      InputError: the path exists.
    """
    if path.exists():
        raise InputError(f"{path} exists; give another name.")
    path = path.absolute()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}-unfinished")
    shutil.rmtree(new, ignore_errors=True)
    try:
        yield new
        new.rename(path)
    finally:
        if new.is_dir():
            shutil.rmtree(new)
        new.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(run(main))
