"""What the shell launchers would do, from their --dry-run; and that no shell lets them down."""

import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SHELL = [
    *sorted((ROOT / "launch").glob("*.sh")),
    ROOT / "launch/slurm.sbatch",
    ROOT / "tests/launch/slurm_here.sh",
]
SLICE = {
    "TPU_NAME": "tpu",
    "PROJECT": "project",
    "ZONE": "us-west4-a",
    "ACCELERATOR_TYPE": "v5litepod-16",
    "RUNTIME_VERSION": "v2-alpha-tpuv5-lite",
    "SHARED": "10.0.0.2:/share",
}
ODD = ['--config.data.root=it\'s $HOME; a "b" \\ *', "--config.data.crop_area=0.1,1.0", "", "$(id)"]
FLAGS = ["--config", "configs/vivit.py:k400_B", "--workdir", "/mnt/shared/my run", *ODD]
CANARY = "canary-of-a-secret"


def launch(name, *arguments, **environment):
    """Returns how a launcher ended, in an environment with a secret in it."""
    return subprocess.run(
        [str(ROOT / "launch" / name), *arguments],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "HOME": "/", "HF_TOKEN": CANARY, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not installed")
@pytest.mark.parametrize("file", SHELL, ids=lambda file: file.name)
def test_shellcheck_finds_nothing(file):
    done = subprocess.run(["shellcheck", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_slurm_job_runs_the_one_command_with_the_flags_untouched():
    done = launch(
        "slurm.sbatch", "--dry-run", *FLAGS, PYTHON="/my env/python", SLURM_CPUS_PER_TASK="12"
    )
    assert done.returncode == 0, done.stderr
    step = next(line for line in done.stdout.splitlines() if line.startswith("srun"))
    words = subprocess.check_output(["bash", "-c", f"printf '%s\\0' {step}"], text=True).split("\0")
    assert words[:3] == ["srun", "--kill-on-bad-exit=1", "--cpus-per-task=12"]
    assert words[3:-1] == ["/my env/python", "-m", "vivit_jax.main", *FLAGS]
    assert "scontrol requeue" in done.stdout
    assert CANARY not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "message"),
    [
        (["--config=a"], {}, "--workdir DIR is missing"),
        (["--workdir=a"], {}, "no SLURM job; submit this file with sbatch"),
        (["--workdir", "a"], {"SLURM_SUBMIT_DIR": "/tmp"}, "/tmp is not the repository"),
        (["--workdir=a"], {"SLURM_JOB_ID": "1", "PYTHON": "/no"}, "/no is no program"),
        (
            ["--dry-run", "--workdir=a"],
            {"SLURM_NTASKS": "4", "SLURM_TASKS_PER_NODE": "2(x2)", "SLURM_GPUS_ON_NODE": "8"},
            "2(x2) tasks on a node of 8 GPUs; expected --ntasks-per-node=8",
        ),
    ],
)
def test_a_slurm_job_that_cannot_be_is_refused(arguments, environment, message):
    done = launch("slurm.sbatch", *arguments, **environment)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


@pytest.mark.parametrize(
    "verb", ["create", "install", "run", "status", "tail", "resume", "watch", "stop", "delete"]
)
def test_a_dry_run_prints_gcloud_commands_and_runs_none(verb, tmp_path):
    flags = FLAGS if verb in ("run", "resume", "watch") else []
    done = launch("tpu_vm.sh", "--dry-run", verb, *flags, **SLICE, SPOT="1")
    assert done.returncode == 0, done.stderr
    words = shlex.split(done.stdout, comments=True)
    starts = [i for i, word in enumerate(words) if word == "gcloud"]
    assert starts
    for start in starts:
        assert words[start + 1 : start + 3] == ["compute", "tpus"]
        assert {"--project=project", "--zone=us-west4-a"} < set(words[start : start + 9])
    assert CANARY not in done.stdout
    if flags:
        assert "exec .venv/bin/python -m vivit_jax.main --config" in words[-1]


def test_a_slice_is_asked_for_by_a_queued_resource():
    done = launch("tpu_vm.sh", "--dry-run", "create", **SLICE, SPOT="1", SERVICE_ACCOUNT="a@b")
    assert shlex.split(done.stdout.splitlines()[0]) == [
        *("gcloud", "compute", "tpus", "queued-resources", "create", "tpu"),
        *("--project=project", "--zone=us-west4-a", "--node-id=tpu"),
        *("--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"),
        *("--spot", "--service-account=a@b"),
    ]


@pytest.mark.parametrize(
    ("arguments", "without", "message"),
    [
        ([], [], "a verb is missing"),
        (["lunch"], [], "no verb lunch"),
        (["create"], ["TPU_NAME", "ZONE"], "set TPU_NAME ZONE"),
        (["create"], ["RUNTIME_VERSION"], "set RUNTIME_VERSION"),
        (["install"], ["SHARED"], "set SHARED"),
        (["run", "--config=a"], [], "--workdir DIR is missing"),
        (["watch", "--config=a"], [], "--workdir DIR is missing"),
        (["delete", "--all"], [], "delete takes no flags; found --all"),
    ],
)
def test_a_slice_that_cannot_be_is_refused(arguments, without, message):
    given = {name: value for name, value in SLICE.items() if name not in without}
    done = launch("tpu_vm.sh", "--dry-run", *arguments, **given)
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


def test_no_launcher_names_a_secret():
    for file in (ROOT / "launch").iterdir():
        assert not re.search(r"(?i)token|password|api_?key|secretKeyRef", file.read_text()), file
