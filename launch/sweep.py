r"""Runs a grid over the fields of a config, on this machine or by any launcher; ends with a table.

    python launch/sweep.py --config configs/train_folder.py --workdir runs/sweep \
        --grid config.optim.learning_rate=1e-3,3e-4 --grid config.seed=0,1,2 \
        --config.data.root=DIR

Every other flag goes to every run. --zip takes fields that vary together, as many values each:

        --zip config.model.size=S,B config.optim.learning_rate=1e-3,5e-4

Values are split at commas, or at semicolons where there is one, for values that have commas. Every
combination is checked before the first starts. A run has a folder below --workdir named by its
settings, with its output in sweep.log; started again, the sweep skips what has finished and goes on
with the rest. --launcher takes the command that the flags are put after, in place of plain
processes; it has to last as long as the run:

        --launcher launch/local.sh
        --launcher "sbatch --wait launch/slurm.sbatch" --parallel 8
        --launcher "env TPU_NAME=sweep-{slot} launch/tpu_vm.sh watch" --parallel 2

{slot} in it is a number from 0 on, less than --parallel, that no two runs have at the same time.
Exit codes: 0 all done, 1 a run failed, 2 something given cannot be used.
"""

import argparse
import contextlib
import csv
import dataclasses
import itertools
import json
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from vivit_jax import main as command
from vivit_jax.errors import InputError
from vivit_jax.metrics import RESULTS, duration, read_lines
from vivit_jax.terminal import run as run_command

Settings = dict[str, str]  # config.optim.learning_rate: 1e-3
MARK, LOG, TABLE = "sweep_done.json", "sweep.log", "sweep.csv"
PLAIN = (sys.executable, "-m", "vivit_jax.main")
LONGEST_NAME = 200  # file systems take 255 bytes


@dataclasses.dataclass(frozen=True)
class Run:
    """One combination of the grid.

    Attributes:
      settings: its fields and values.
      folder: its workdir.
      flags: all that the one command is given.
    """

    settings: Settings
    folder: pathlib.Path
    flags: tuple[str, ...]

    def finished(self) -> bool:
        """Returns whether a sweep saw it end well, with these same flags."""
        mark = self.folder / MARK
        return mark.is_file() and json.loads(mark.read_text()) == list(self.flags)

    def mark_finished(self) -> None:
        """Writes down that it ended well."""
        (self.folder / MARK).write_text(json.dumps(self.flags) + "\n", encoding="utf-8")


def main() -> int:
    """Runs the command; returns its exit code."""
    options, shared = parse_options(sys.argv[1:])
    runs = make_runs(options, shared)
    launcher = shlex.split(options.launcher) or list(PLAIN)
    if not shutil.which(launcher[0]):
        raise InputError(f"--launcher: {launcher[0]} is no program that can be run.")
    if options.dry_run:
        for run in runs:
            print(shlex.join([*launcher, *run.flags]))
        return 0
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that runs under way are ended
    codes = run_all(runs, launcher, options.parallel)
    write_table(runs, codes, pathlib.Path(options.workdir))
    return 1 if any(codes) else 0


def parse_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the sweep's own options, and the flags that go to every run."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", required=True, help="see configs/")
    parser.add_argument("--workdir", metavar="DIR", required=True, help="folder of all runs")
    parser.add_argument("--grid", metavar="FIELD=VALUES", action="append", default=[])
    parser.add_argument("--zip", metavar="FIELD=VALUES", action="append", nargs="+", default=[])
    parser.add_argument("--launcher", metavar="COMMAND", default="", help="see above")
    parser.add_argument("--parallel", metavar="N", type=int, default=1, help="runs at a time")
    parser.add_argument("--dry-run", action="store_true", help="print every command, run none")
    options, shared = parser.parse_known_args(arguments)
    if options.parallel < 1:
        raise InputError(f"--parallel = {options.parallel}; expected 1 or more.")
    return options, shared


def make_runs(options: argparse.Namespace, shared: Sequence[str]) -> list[Run]:
    """Returns a run for each combination, of which the command accepts every field and value.

    Raises:
      InputError: it does not, a field is given twice, or two runs would share a folder.
    """
    axes = [read_axis([text]) for text in options.grid] + [
        read_axis(texts) for texts in options.zip
    ]
    if not axes:
        raise InputError("Nothing to sweep over; give --grid FIELD=VALUE,VALUE.")
    fields = [field for axis in axes for field in axis[0]]
    if twice := {field for field in fields if fields.count(field) > 1}:
        raise InputError(f"Given more than once: {', '.join(sorted(twice))}.")
    root = pathlib.Path(options.workdir).absolute()
    runs: dict[pathlib.Path, Run] = {}
    for parts in itertools.product(*axes):
        settings = {field: value for part in parts for field, value in part.items()}
        folder = root / folder_name(settings)
        overrides = [f"--{field}={value}" for field, value in settings.items()]
        given = [f"--config={options.config}", f"--workdir={folder}", *shared, *overrides]
        if folder in runs:
            raise InputError(f"{runs[folder].settings} and {settings} would share {folder}.")
        try:
            command.parse(given)
        except InputError as error:
            raise InputError(f"{folder.name}: {error}") from error
        runs[folder] = Run(settings, folder, tuple(given))
    return list(runs.values())


def read_axis(texts: Sequence[str]) -> list[Settings]:
    """Returns the settings that FIELD=VALUES texts go through together.

    Raises:
      InputError: a text is no such, or they have different numbers of values.
    """
    columns = {}
    for text in texts:
        field, given, values = text.removeprefix("--").partition("=")
        if not given or not values or not field.startswith("config."):
            raise InputError(f"{text!r}; expected config.SECTION.OPTION=VALUE,VALUE.")
        split = [value.strip() for value in values.split(";" if ";" in values else ",")]
        columns[field] = split[:-1] if split[-1] == "" else split
    lengths = {field: len(values) for field, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"--zip needs as many values of each field, and has {lengths}.")
    rows = zip(*columns.values(), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def folder_name(settings: Settings) -> str:
    """Returns a folder's name for the settings: learning_rate=1e-3,seed=0.

    A field is its last word, or all of it where another field ends alike.
    """
    short = {field: field.rpartition(".")[2] for field in settings}
    lasts = list(short.values())
    parts = [
        f"{field.removeprefix('config.') if lasts.count(last) > 1 else last}={settings[field]}"
        for field, last in short.items()
    ]
    name = re.sub(r"[^\w.,=+-]+", "_", ",".join(parts))
    if len(name.encode()) > LONGEST_NAME:
        raise InputError(f"The settings make too long a name for a folder: {name}.")
    return name


def run_all(runs: Sequence[Run], launcher: Sequence[str], parallel: int) -> list[int]:
    """Runs what has not finished yet, so many at a time; returns the exit code of each."""
    codes = {run.folder: 0 for run in runs if run.finished()}
    waiting = [run for run in runs if run.folder not in codes]
    print(f"{len(runs)} runs: {len(codes)} have finished before, {len(waiting)} to go.", flush=True)
    begun, total = time.monotonic(), len(waiting)
    busy: dict[int, tuple[Run, subprocess.Popen]] = {}
    with contextlib.ExitStack() as at_exit:
        at_exit.callback(end, busy)
        while waiting or busy:
            for slot in range(parallel):
                if slot not in busy and waiting:
                    run = waiting.pop(0)
                    busy[slot] = run, start(run, launcher, slot)
                    print(f"{clock()} started {run.folder.name}", flush=True)
            for run, code in reap(busy):
                codes[run.folder] = code
                done = total - len(waiting) - len(busy)
                left = (total - done) * (time.monotonic() - begun) / done
                how = "finished" if code == 0 else f"FAILED ({code}), see {run.folder / LOG}:"
                print(f"{clock()} {how} {run.folder.name}", flush=True)
                failed = sum(code != 0 for code in codes.values())
                print(
                    f"{clock()} {done}/{total} ended, {failed} failed, {len(busy)} running, "
                    f"ETA {duration(left)}",
                    flush=True,
                )
            time.sleep(0.2)
    return [codes[run.folder] for run in runs]


def start(run: Run, launcher: Sequence[str], slot: int) -> subprocess.Popen:
    """Returns the process of a run, which has begun."""
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / MARK).unlink(missing_ok=True)
    words = [word.replace("{slot}", str(slot)) for word in launcher]
    with (run.folder / LOG).open("ab") as log:
        return subprocess.Popen(
            [*words, *run.flags], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )


def reap(busy: dict[int, tuple[Run, subprocess.Popen]]) -> Iterator[tuple[Run, int]]:
    """Yields what has ended since, and its exit code; frees its slot."""
    for slot, (run, process) in list(busy.items()):
        code = process.poll()
        if code is not None:
            del busy[slot]
            if code == 0:
                run.mark_finished()
            yield run, code


def end(busy: dict[int, tuple[Run, subprocess.Popen]]) -> None:
    """Ends the runs that are under way, where the sweep itself ends early."""
    for _, process in busy.values():
        process.terminate()
    for _, process in busy.values():
        process.wait()


def write_table(runs: Sequence[Run], codes: Sequence[int], root: pathlib.Path) -> None:
    """Prints the settings and last results of every run, and writes them to sweep.csv."""
    rows = []
    for run, code in zip(runs, codes, strict=True):
        lines = read_lines(run.folder / RESULTS)
        last = lines[-1] if lines else {}
        results = {k: v for k, v in last.items() if isinstance(v, int | float)}
        rows.append({**run.settings, "exit code": code, **results})
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with (root / TABLE).open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, columns)
        writer.writeheader()
        writer.writerows(rows)
    titles = [column.removeprefix("config.") for column in columns]
    cells = [titles, *([shown(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))
    print(f"Also in {root / TABLE}.")


def shown(value: object) -> str:
    """Returns a cell of the table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def clock() -> str:
    """Returns the time of day."""
    return time.strftime("%H:%M:%S")


if __name__ == "__main__":
    sys.exit(run_command(main))
