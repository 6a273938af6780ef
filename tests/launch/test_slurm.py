"""launch/slurm.sbatch under a real SLURM of this machine, made by slurm_here.sh."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PATH = f"{os.environ['PATH']}:/usr/sbin"
# Two tasks of one CPU each; after a checkpoint the job is requeued, for which SLURM holds it back
# two minutes, unless told that it may begin.
SESSION = """
set -eu
job=$(sbatch --parsable --ntasks=2 --cpus-per-task=1 --time=30 --output="$OUT/job.log" \\
  launch/slurm.sbatch --config configs/videomae_finetune.py:k400_B,smoke --workdir "$OUT/my run" \\
  --config.train.steps=8 --config.train.checkpoint_every=2 --config.train.evaluate=False)
until [ -d "$OUT/my run/checkpoints/2" ]; do sleep 0.2; done
scontrol requeue "$job"
until [ "$(squeue -h -j "$job" -o %T)" = PENDING ]; do sleep 0.5; done
scontrol update jobid="$job" StartTime=now
state=
until [ "$state" = COMPLETED ] || [ "$state" = FAILED ]; do
  sleep 1
  state=$(squeue -h -t all -j "$job" -o %T)
done
scontrol show job "$job"
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("slurmctld", path=PATH), reason="SLURM is not installed")
def test_a_requeued_job_goes_on_from_its_checkpoint(tmp_path):
    environment = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "OUT": str(tmp_path)}
    environment["JAX_COMPILATION_CACHE_DIR"] = str(tmp_path / "cache")
    done = subprocess.run(
        [str(ROOT / "tests/launch/slurm_here.sh"), str(tmp_path / "slurm"), "bash", "-c", SESSION],
        cwd=ROOT,
        env={**os.environ, **environment, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    log = (tmp_path / "job.log").read_text()
    assert "JobState=COMPLETED" in done.stdout, done.stderr + log
    assert "Restarts=1" in done.stdout
    assert "slurm.sbatch: start 0" in log
    assert "from the beginning." in log
    assert "slurm.sbatch: start 1" in log
    assert "from checkpoint " in log
    lines = (tmp_path / "my run/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 9))
