"""Trains and evaluates what a config file describes.

    python -m vivit_jax.main --config configs/quickstart.py --workdir runs/quickstart
    python -m vivit_jax.main --workdir runs/quickstart --config.train.steps=0    # evaluates it

Any option is overridden by --config.SECTION.OPTION=VALUE. Without --config, the workdir's own is
used. Exit codes: 0 done, 1 a fault, 2 something that the user gave cannot be used.
"""

import argparse
import logging
import pathlib
import re
import sys

from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from vivit_jax import config
from vivit_jax.errors import InputError
from vivit_jax.processes import join

_CONFIG = config_flags.DEFINE_config_file("config", None, "Config file; see configs/.")
flags.DEFINE_string("workdir", None, "Folder of the run; one that was stopped goes on.")


def main(arguments: list[str]) -> None:
    """Runs the experiment of the flags."""
    if len(arguments) > 1:
        raise InputError(f"Unexpected: {' '.join(arguments[1:])}; an override is --config.x=VALUE.")
    absl_logging.set_verbosity(absl_logging.WARNING)
    experiment = config.parse(_CONFIG.value.to_dict())
    join()
    import jax

    from vivit_jax import train

    speak(jax.process_index() == 0)
    train.run(experiment, pathlib.Path(flags.FLAGS.workdir))


def speak(first_process: bool) -> None:
    """Lets our modules log to the terminal; from libraries and other processes only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    own = logging.getLogger("vivit_jax")
    own.addHandler(handler)
    own.setLevel(logging.INFO if first_process else logging.WARNING)
    own.propagate = False


def parse_flags(arguments: list[str]) -> list[str]:
    """Returns what is left of the command line after its flags.

    Raises:
      InputError: a flag or an option is missing, unknown or of the wrong type.
    """
    names = [argument.split("=")[0].lstrip("-") for argument in arguments[1:]]
    if not {"help", "helpshort", "helpfull"} & set(names):
        if "workdir" not in names:
            raise InputError("--workdir is missing: the folder that everything is written into.")
        if "config" not in names:
            arguments = [arguments[0], f"--config={own_config(arguments)}", *arguments[1:]]
    try:
        return flags.FLAGS(arguments)
    except InputError:
        raise
    except AttributeError as error:  # the config has no such option, or its file is wrong
        raise InputError(unknown_option(arguments) or f"--config: {error}") from error
    except (flags.Error, OSError, TypeError, ValueError) as error:
        raise InputError(str(error)) from error


def own_config(arguments: list[str]) -> str:
    """Returns the config file that gives back the config of the workdir's run."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workdir", "-workdir")
    workdir = parser.parse_known_args(arguments)[0].workdir
    if not (pathlib.Path(workdir) / "config.json").is_file():
        raise InputError(f"--config is missing, and {workdir} holds no run; give one of configs/.")
    return f"{pathlib.Path(__file__).with_name('recipe.py')}:{workdir}"


def unknown_option(arguments: list[str]) -> str | None:
    """Returns the message about the first override that the config has no option for."""
    for argument in arguments:
        if not (match := re.match(r"--?config\.([\w.]+)", argument)):
            continue
        *path, last = match[1].split(".")
        section = _CONFIG.value
        for depth, name in enumerate([*path, last]):
            if not hasattr(section, "keys") or name not in section:
                known = section.keys() if hasattr(section, "keys") else ()
                return config.unknown(".".join(["config", *path[:depth]]), name, known)
            section = section[name]
    return None


def run() -> None:
    """Runs the command."""
    try:
        app.run(main, flags_parser=parse_flags)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    run()
