"""Trains and evaluates what a config file describes.

    python -m vivit_jax.main --config configs/quickstart.py --workdir runs/quickstart
    python -m vivit_jax.main --workdir runs/quickstart --config.train.steps=0    # evaluates it

Any option is overridden by --config.SECTION.OPTION=VALUE; vivit_jax/config.py lists them. Without
--config, the workdir's own is used. Exit codes, each but 0 with a last
line that tells why, and where it is no matter of what was given, which step is on disk:

    0          done
    1          a fault: a bug, a full disk, a process that is missing or stuck, not enough memory
    2          something that the user gave cannot be used; the same command would end so again
    130, 143   stopped by Ctrl-C or SIGTERM, at a step that is saved; the same command goes on
    134        by JAX's runtime: another process of the run has died

A second signal ends the process at once, by that signal.
"""

# ruff: noqa: E402
from vivit_jax import stopping

if __name__ == "__main__":  # before what takes long to import
    stopping.block()

import argparse
import ast
import dataclasses
import os
import pathlib
import re
import shlex
import stat
import sys
import traceback
import types
from collections.abc import Sequence
from typing import Any

from vivit_jax import config, huge_pages
from vivit_jax.agreement import agree_on_command
from vivit_jax.errors import InputError
from vivit_jax.options import describe, unknown
from vivit_jax.processes import join
from vivit_jax.stopping import STOP
from vivit_jax.terminal import run, speak


def main() -> int:
    """Runs the command; returns its exit code."""
    experiment, workdir = parse(sys.argv[1:])
    STOP.workdir = workdir
    try:
        work(experiment, workdir)
    except InputError:
        raise
    except Exception as error:
        error.add_note(STOP.standing())
        raise
    return 0


def work(experiment: config.Experiment, workdir: pathlib.Path) -> None:
    """Trains or evaluates, together with the other processes."""
    STOP.check()
    join()
    STOP.joined()
    agree_on_command({"config": dataclasses.asdict(experiment)})
    import jax

    from vivit_jax import clock, compile_cache, train

    compile_cache.keep_in(workdir)
    speak(jax.process_index() == 0)
    STOP.check()
    train.run(experiment, workdir, clock.Clock(clock.since_process_start()))


def parse(arguments: Sequence[str]) -> tuple[config.Experiment, pathlib.Path]:
    """Returns the experiment and the workdir of a command line, without the command's name.

    Raises:
      InputError: a config file, a flag or an option is missing, unknown or of the wrong type.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vivit_jax.main",
        usage="%(prog)s --workdir DIR [--config FILE] [--config.SECTION.OPTION=VALUE ...]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--workdir", metavar="DIR", help="of the run; one that was stopped goes on")
    parser.add_argument("--config", metavar="FILE", help="see configs/; FILE:TEXT gives it a text")
    given, overrides = parser.parse_known_args(arguments)
    if not given.workdir:
        raise InputError("--workdir is missing: the folder that everything is written into.")
    workdir = pathlib.Path(given.workdir).absolute()
    folder = next(folder for folder in (workdir, *workdir.parents) if folder.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        raise InputError(f"--workdir={workdir}: {folder} is no folder that can be written into.")
    if given.config:
        section = load(given.config)
    elif (workdir / "config.json").is_file():
        from vivit_jax import recipe

        section = recipe.get_config(str(workdir))
    else:
        raise InputError(f"--config is missing, and {workdir} holds no run; give one of configs/.")
    override(section, overrides)
    return config.parse(section.to_dict()), workdir


def experiment_of(file: str, overrides: Sequence[str]) -> config.Experiment:
    """Returns the experiment of a config file with --config.SECTION.OPTION=VALUE applied.

    Raises:
      InputError: see `load` and `override`.
    """
    section = load(file)
    override(section, list(overrides))
    return config.parse(section.to_dict())


def load(path: str) -> Any:
    """Returns the ConfigDict that a config file gives.

    Args:
      path: of the file; what follows a colon is get_config's argument.

    Raises:
      InputError: it gives none; names the line that is wrong.
    """
    from ml_collections import config_dict

    file, *argument = path.split(":", 1)
    if not os.path.isfile(file):
        raise InputError(f"--config: {file} is not a file; see configs/ for some.")
    refuse_writable(pathlib.Path(file))
    module: Any = types.ModuleType("config_file")
    module.__file__ = file
    try:
        # As it stands: what Python keeps compiled beside it may be somebody else's.
        exec(compile(pathlib.Path(file).read_bytes(), file, "exec"), module.__dict__)
        section = module.get_config(*argument)
    except SyntaxError as error:
        raise InputError(f"{error.filename}, line {error.lineno}: {error.msg}.") from error
    except Exception as error:  # whatever a file of the user's own code can do
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
        where = f"{file}, line {lines[-1]}" if lines else file
        kind = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        raise InputError(f"{where}: {kind}{error}") from error
    if not isinstance(section, config_dict.ConfigDict):
        raise InputError(
            f"{file}: get_config returned {section!r:.60}; expected what recipe.experiment returns."
        )
    return section


def refuse_writable(file: pathlib.Path) -> None:
    """Returns if not just anybody can write what would be executed.

    Raises:
      InputError: names the file or its folder, and the command that mends it.
    """
    real = file.resolve()
    for path in (real, real.parent):
        mode = path.stat().st_mode
        if mode & stat.S_IWOTH and not (path.is_dir() and mode & stat.S_ISVTX):
            raise InputError(
                f"--config: every user of this machine can write to {path}, and a config file is "
                f"executed. Run `chmod o-w {shlex.quote(str(path))}`, or copy the file to a folder "
                "of your own."
            )


def override(section: Any, arguments: list[str]) -> None:
    """Sets the options of a ConfigDict that --config.SECTION.OPTION=VALUE names.

    Raises:
      InputError: there is no such option, its value has the wrong type, or it is no override.
    """
    from absl import flags
    from ml_collections import config_flags

    for i, argument in enumerate(arguments):
        if match := re.match(r"--?(?:no)?config\.([\w.]+)", argument):
            arguments[i] = quoted(argument, option(section, match[1]))
        elif argument.startswith("-"):
            raise InputError(
                f"Unknown flag {argument}; expected --workdir, --config or "
                "--config.SECTION.OPTION=VALUE."
            )
    values = flags.FlagValues()
    try:
        config_flags.DEFINE_config_dict("config", section, flag_values=values, sys_argv=arguments)
        stray = values(["", *arguments])[1:]
    except flags.IllegalFlagValueError as error:
        name, found = re.findall(r"--config\.([\w.]+)=(.*?): ", str(error), re.DOTALL)[0]
        expected = describe(type(option(section, name)))
        raise InputError(f"config.{name} = {found!r}; expected {expected}.") from error
    except flags.Error as error:
        raise InputError(f"{error}.") from error
    if stray:
        raise InputError(
            f"Unexpected: {' '.join(stray)}; an override is --config.SECTION.OPTION=VALUE."
        )


def quoted(argument: str, before: Any) -> str:
    """Returns an override of a tuple with its words in quotes, where they are no Python values."""
    name, given, text = argument.partition("=")
    if not given or not isinstance(before, tuple):
        return argument
    try:
        ast.literal_eval(text)
        return argument
    except (SyntaxError, ValueError):
        return f"{name}={tuple(text.split(',')) if text else ()!r}"


def option(section: Any, path: str) -> Any:
    """Returns the value of an option, such as data.frames.

    Raises:
      InputError: there is none; names the closest.
    """
    where = "config"
    for name in path.split("."):
        if not hasattr(section, "keys"):
            raise InputError(f"{where} has no options of its own; its value is {section!r}.")
        if name not in section:
            raise InputError(unknown(where, name, section.keys()))
        section, where = section[name], f"{where}.{name}"
    if hasattr(section, "keys"):
        raise InputError(f"{where} is a section of options, such as {where}.{min(section)}.")
    return section


if __name__ == "__main__":
    huge_pages.ask()
    STOP.listen()
    sys.exit(run(main))
