"""Runs as a user starts them: real processes, and killed ones."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

from vivit_jax import metrics
from vivit_jax.data.synthetic import encode_motions

ROOT = pathlib.Path(__file__).parents[1]


def start(workdir, *options, environment=None, config="quickstart.py", **kwargs):
    command = [sys.executable, "-m", "vivit_jax.main", f"--workdir={workdir}"]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", **(environment or {})}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache/jax")}
    command += [f"--config={ROOT / 'configs' / config}", *options]
    return subprocess.Popen(command, env=environment, cwd=ROOT, stderr=subprocess.PIPE, **kwargs)


def finish(process):
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    return errors.decode()


def curve(workdir):
    return tiny.written(workdir, metrics.METRICS, metrics.RESULTS)


def saved(workdir, step):
    with ocp.PyTreeCheckpointer() as checkpointer:
        state = checkpointer.restore(workdir / "checkpoints" / str(step) / "default")
    return jax.device_get(state["params"])


@pytest.fixture(scope="module")
def motions(tmp_path_factory):
    return encode_motions(tmp_path_factory.mktemp("motions"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("frame_order", "least", "most"),
    [
        ("forward", 0.95, 1.0),
        ("shuffled", 0.0, 0.6),  # the motion or its opposite: 0.50 +- 0.04 of 128 videos
        ("repeated", 0.0, 0.22),  # chance: 0.125 +- 0.03
    ],
)
def test_the_quickstart_learns_time_and_nothing_else(motions, tmp_path, frame_order, least, most):
    finish(
        start(tmp_path, f"--config.data.root={motions}", f"--config.data.frame_order={frame_order}")
    )
    result = metrics.read_lines(tmp_path / metrics.RESULTS)[-1]
    assert result["videos"] == 128
    assert least <= result["top1"] <= most


@pytest.mark.slow
def test_five_runs_killed_at_random_times_end_as_if_they_had_not_been(motions, tmp_path):
    options = [
        f"--config.data.root={motions}",
        "--config.train.steps=40",
        "--config.train.log_every=1",
        "--config.train.checkpoint_every=5",
    ]
    begun = time.monotonic()
    finish(start(tmp_path / "straight", *options))
    seconds = time.monotonic() - begun
    rng = random.Random()
    for number in range(5):
        workdir, after = tmp_path / f"killed_{number}", rng.uniform(0, seconds)
        process = start(workdir, *options, start_new_session=True)
        time.sleep(after)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        lines = len(metrics.read_lines(workdir / metrics.METRICS))
        print(f"killed after {after:.1f} of {seconds:.1f} s, {lines} steps logged")
        finish(start(workdir, *options))
        assert curve(workdir) == curve(tmp_path / "straight")
        jax.tree.map(
            np.testing.assert_array_equal, saved(workdir, 40), saved(tmp_path / "straight", 40)
        )


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["joint", "factorised_encoder"])
def test_pretraining_without_labels_knows_motions_that_random_weights_do_not(
    motions, tmp_path, attention
):
    runs = {
        "pretrained": [],
        "random": ["--config.train.steps=1", "--config.optim.learning_rate=0"],
    }
    found = {}
    for name, options in runs.items():
        options = [f"--config.data.root={motions}", *options]
        config = f"quickstart_pretrain.py:{attention}"
        finish(start(tmp_path / name, *options, config=config))
        found[name] = metrics.read_lines(tmp_path / name / metrics.RESULTS)[-1]
    for probe in ("linear_probe", "attentive_probe", "knn"):
        known, guessed = (found[name][f"{probe}_top1"] for name in runs)
        assert known > guessed + 0.1, probe
