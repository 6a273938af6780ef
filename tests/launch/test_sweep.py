"""The sweep as a command; a stand-in is its launcher where training is beside the point."""

import csv
import importlib.util
import json
import os
import pathlib
import shlex
import subprocess
import sys
import time

import pytest

from vivit_jax.errors import InputError

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = "--config=configs/videomae_finetune.py:k400_B,smoke"
GRID = ["--grid", "config.optim.learning_rate=1e-3,3e-4", "--grid", "config.seed=0,1"]
# Ends like a run: results in its workdir; fails where the seed is 1 and FAIL is set.
LAUNCHER = """
import json, os, pathlib, sys, time
flags = dict(f.removeprefix("--").split("=", 1) for f in sys.argv[2:])
workdir = pathlib.Path(flags["workdir"])
with open(sys.argv[1], "a") as log:
    print("start", file=log, flush=True)
    time.sleep(float(os.environ.get("SECONDS", "0.5")))
    print("end", file=log)
if os.environ.get("FAIL") and flags["config.seed"] == "1":
    sys.exit(3)
with open(workdir / "results.jsonl", "a") as out:
    for step in (1, 2):
        print(json.dumps({"step": step, "split": "eval", "top1": step / 4}), file=out)
"""


def sweep(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(ROOT / "launch/sweep.py"), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def module():
    """Returns launch/sweep.py, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("sweep", ROOT / "launch/sweep.py")
    sys.modules["sweep"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def launcher(tmp_path):
    (tmp_path / "launcher.py").write_text(LAUNCHER)
    return f"{sys.executable} {tmp_path}/launcher.py {tmp_path}/log"


def log(tmp_path):
    return (tmp_path / "log").read_text().split()


def test_a_dry_run_prints_every_command_and_starts_none(tmp_path):
    flag = '--config.data.root=it\'s $HOME "b"'
    done = sweep(CONFIG, f"--workdir={tmp_path}/a b", *GRID, flag, "--dry-run")
    assert done.returncode == 0, done.stderr
    lines = [shlex.split(line) for line in done.stdout.splitlines()]
    assert [line[1:4] for line in lines] == [["-m", "vivit_jax.main", CONFIG]] * 4
    rates = ["1e-3", "1e-3", "3e-4", "3e-4"]
    for line, rate, seed in zip(lines, rates, "0101", strict=True):
        assert line[4] == f"--workdir={tmp_path}/a b/learning_rate={rate},seed={seed}"
        assert line[5:] == [flag, f"--config.optim.learning_rate={rate}", f"--config.seed={seed}"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--grid", "config.optim.lerning_rate=1,2"], "Did you mean config.optim.learning_rate?"),
        (["--grid", "config.seed=1,two"], "seed=two: config.seed = 'two'; expected a whole number"),
        (["--grid", "config.seed=1,-1"], "seed=-1: config.seed = -1 is below 0."),
        (["--grid", "seed=1,2"], "'seed=1,2'; expected config.SECTION.OPTION=VALUE,VALUE."),
        (["--grid", "config.seed=1", "--grid", "config.seed=2"], "more than once: config.seed"),
        (["--grid", "config.seed=1,1"], "would share"),
        (["--zip", "config.seed=1,2", "config.data.frames=16"], "--zip needs as many values"),
        ([], "Nothing to sweep over"),
        (["--grid", "config.seed=1", "--parallel=0"], "--parallel = 0"),
        (
            ["--grid", "config.seed=1", "--launcher=no-such-program"],
            "no-such-program is no program",
        ),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_starts(
    module, monkeypatch, tmp_path, arguments, message
):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["sweep", CONFIG, f"--workdir={tmp_path}/sweep", *arguments])
    monkeypatch.setattr(module, "run_all", lambda *_: pytest.fail("starts"))
    with pytest.raises(InputError) as refused:
        module.main()
    assert message in str(refused.value)
    assert not (tmp_path / "sweep").exists()


def test_what_cannot_be_swept_ends_with_code_2(tmp_path):
    done = sweep(CONFIG, f"--workdir={tmp_path}")
    assert (done.returncode, "error: Nothing to sweep over" in done.stderr) == (2, True)


def test_fields_that_vary_together_are_no_grid(module):
    axis = module.read_axis(["config.seed=0,1", "config.data.crop_area=0.1,1.0;0.2,1.0"])
    assert axis == [
        {"config.seed": "0", "config.data.crop_area": "0.1,1.0"},
        {"config.seed": "1", "config.data.crop_area": "0.2,1.0"},
    ]


def test_a_folder_is_named_by_what_tells_runs_apart(module):
    name = module.folder_name({"config.data.root": "/a b", "config.model.size": "B"})
    assert name == "root=_a_b,size=B"
    name = module.folder_name({"config.data.batch_size": "8", "config.eval.batch_size": "4"})
    assert name == "data.batch_size=8,eval.batch_size=4"
    with pytest.raises(InputError, match="too long a name"):
        module.folder_name({"config.data.root": "x" * 300})


@pytest.mark.slow
def test_a_failed_run_is_told_and_only_it_runs_again(tmp_path, launcher):
    given = [CONFIG, f"--workdir={tmp_path}/sweep", *GRID, f"--launcher={launcher}", "--parallel=2"]
    done = sweep(*given, FAIL="yes")
    assert done.returncode == 1, done.stderr
    assert "4/4 ended, 2 failed, 0 running" in done.stdout
    assert "FAILED (3), see" in done.stdout
    assert "ETA" in done.stdout
    running = [log(tmp_path)[:n].count("start") - log(tmp_path)[:n].count("end") for n in range(9)]
    assert max(running) <= 2
    done = sweep(*given)
    assert done.returncode == 0, done.stderr
    assert "2 have finished before, 2 to go" in done.stdout
    assert log(tmp_path).count("start") == 6
    with (tmp_path / "sweep/sweep.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["config.optim.learning_rate"] for row in rows] == ["1e-3", "1e-3", "3e-4", "3e-4"]
    assert {(row["exit code"], row["step"], row["top1"]) for row in rows} == {("0", "2", "0.5")}
    assert "optim.learning_rate" in done.stdout


def test_other_flags_are_other_runs(module, tmp_path):
    run = module.Run({"config.seed": "1"}, tmp_path, ("--config.seed=1",))
    run.mark_finished()
    assert run.finished()
    assert not module.Run(run.settings, tmp_path, (*run.flags, "--config.train.steps=9")).finished()


def test_a_sweep_that_is_ended_ends_its_runs(tmp_path, launcher):
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "launch/sweep.py"), CONFIG, f"--workdir={tmp_path}/sweep"]
        + [*GRID, f"--launcher={launcher}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "SECONDS": "60"},
    )
    for _ in range(300):
        if (tmp_path / "log").exists() and log(tmp_path):
            break
        time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=20) == 143
    assert log(tmp_path) == ["start"]


@pytest.mark.slow
def test_runs_of_a_sweep_are_trained_and_judged(tmp_path):
    done = sweep(CONFIG, f"--workdir={tmp_path}", *GRID, "--parallel=2", JAX_PLATFORMS="cpu")
    assert done.returncode == 0, done.stdout
    for folder in tmp_path.glob("learning_rate=*"):
        record = json.loads((folder / "config.json").read_text())
        assert f"seed={record['seed']}" in folder.name
        assert (folder / "results.jsonl").is_file()
