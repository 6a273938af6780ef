"""Tells what a run will need and take, before any accelerator is booked; none is needed.

    python -m vivit_jax.plan --config FILE --devices 64 --kind v5e [--config.SECTION.OPTION=VALUE]

The training step is compiled for devices that are not here: memory, what is split, what is sent,
seconds a step and hours to the end. Where it does not fit, settings are tried until it does. How
each figure comes about is told in docs/scale.md. --json prints one object. Exit codes: 0 it fits,
or a change that makes it fit was found; 2 nothing does, or what was given cannot be used.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from vivit_jax import config
from vivit_jax.data.published import DATA_SETS
from vivit_jax.errors import InputError
from vivit_jax.hardware import CHIPS
from vivit_jax.main import experiment_of
from vivit_jax.terminal import run, speak


def main() -> int:
    """Runs the command; returns its exit code."""
    given, experiment = parse(sys.argv[1:])
    from vivit_jax.planning import devices

    fleet = devices.find(given.kind, given.devices, max(1, experiment.mesh.dcn))
    from vivit_jax.planning import advice, estimate, tell, videos

    speak(not given.json)
    logging.getLogger("vivit_jax.run").setLevel(logging.WARNING)  # it lists every parameter
    like = given.like or likely(given.config)
    experiment, sources, whose = videos.find(experiment, like, given.videos, given.classes)

    def planned(changed: config.Experiment) -> estimate.Plan:
        return estimate.plan(estimate.prepare(changed, sources, fleet), fleet, given.mfu)

    plan = planned(experiment)
    found = None
    if not given.json:
        print(tell.in_words(plan, f"{len(sources.train):,} ({whose})"), flush=True)
    if not plan.fits and given.advise:
        found = advice.first_that_fits(experiment, plan, planned)
    if given.json:
        change = found and {"options": found[0].options, "plan": tell.as_object(found[1])}
        print(json.dumps({**tell.as_object(plan), "change": change}))
    elif found:
        print("\n" + tell.in_words_of_a_change(*found))
    elif not plan.fits and given.advise:
        print("\nNothing that was tried makes it fit: take more devices, or a smaller batch.")
    return 0 if plan.fits or found else 2


def parse(arguments: Sequence[str]) -> tuple[argparse.Namespace, config.Experiment]:
    """Returns the flags and the experiment of a command line, without the command's name.

    Raises:
      InputError: a config file, a flag or an option is missing, unknown or of the wrong type.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vivit_jax.plan",
        usage="%(prog)s --config FILE [--config.SECTION.OPTION=VALUE ...] [--devices N] "
        "[--kind KIND] [--mfu SHARE] [--like DATA_SET] [--videos N] [--classes N,...] [--json]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="see configs/; FILE:TEXT gives it a text")
    parser.add_argument("--devices", type=int, default=8, help="in all; 8 unless told")
    parser.add_argument("--kind", default="h100", help=f"one of {', '.join(CHIPS)}")
    parser.add_argument("--mfu", type=float, default=0.4, help="share of the peak that is assumed")
    parser.add_argument("--like", default="", help=f"a data set: one of {', '.join(DATA_SETS)}")
    parser.add_argument("--videos", type=int, default=0, help="training videos")
    parser.add_argument("--classes", default="", help="of each head, with commas")
    parser.add_argument("--json", action="store_true", help="one object, for programs")
    parser.add_argument(
        "--no-advice", dest="advise", action="store_false", help="try nothing where it does not fit"
    )
    given, overrides = parser.parse_known_args(arguments)
    if not given.config:
        raise InputError("--config is missing; give one of configs/.")
    if not 0 < given.mfu <= 1:
        raise InputError(f"--mfu={given.mfu}; expected a share of the peak, such as 0.4.")
    try:
        given.classes = tuple(int(n) for n in given.classes.split(",") if n)
    except ValueError as error:
        raise InputError(f"--classes={given.classes}; expected numbers with commas.") from error
    return given, experiment_of(given.config, overrides)


def likely(file: str) -> str:
    """Returns the data set that a recipe, as "configs/vivit.py:k400_B", is for; or nothing."""
    name = file.partition(":")[2].split("_")[0]
    return name if name in DATA_SETS else ""


if __name__ == "__main__":
    sys.exit(run(main))
