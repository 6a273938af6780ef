"""Starts runs of several processes on tiny videos, by launch/local.sh."""

import json
import os
import pathlib
import subprocess
import sys

import tiny

from vivit_jax import config

ROOT = pathlib.Path(__file__).parents[2]
SCRIPT = ROOT / "launch/local.sh"


def make_videos(root, train=10, held_out=5):
    """Returns a folder of videos of two classes, of noise each."""
    for split, count in (("train", train), ("val", held_out)):
        for i in range(count):
            tiny.noise_video(root / split / "ab"[i % 2] / f"{i}.mp4", i + 100 * (split == "val"))
    return root


def write_config(folder, root, **sections):
    """Returns the --config of a tiny experiment on these videos."""
    given = {
        "data": {"root": str(root), "labels": "single"},
        "optim": {"learning_rate": 0.01},
        "train": {"steps": 4, "log_every": 1, "checkpoint_every": 1000},
        "eval": {"clips": 1, "crops": 1, "batch_size": 4},
    }
    for name, section in sections.items():
        given[name] = {**given.get(name, {}), **section}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.to_json(tiny.experiment(**given)))
    return f"--config={ROOT / 'vivit_jax/recipe.py'}:{folder}"


def start(workdir, *options, processes=1, devices=1, **environment):
    """Returns the running launch/local.sh; the examples of its steps go to WORKDIR/ids."""
    record = workdir / "ids"
    record.mkdir(parents=True, exist_ok=True)
    python = workdir / "python"
    recorder = f'exec {sys.executable} {ROOT}/tests/launch/record.py "$@"'
    python.write_text(
        f'#!/bin/sh\n[ "$1" = -m ] || exec {sys.executable} "$@"\nshift 2\n{recorder}\n'
    )
    python.chmod(0o755)
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache/jax"),
        "PYTHON": str(python),
        "RECORD": str(record),
        **environment,
    }
    command = [str(SCRIPT), "-n", str(processes), "--devices", str(devices), "--"]
    command += [*options, f"--workdir={workdir}"]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def finish(process, code=0):
    """Returns what a run said, when it ended by this code."""
    said = process.communicate()[1]
    assert process.returncode == code, said[-4000:]
    return said


def ids(workdir, process=0):
    """Returns the examples of every step, as a process saw them."""
    lines = (workdir / "ids" / f"{process}.jsonl").read_text().splitlines()
    return dict(json.loads(line) for line in lines)
