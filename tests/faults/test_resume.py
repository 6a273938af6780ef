"""Runs that are killed, stopped, or go on elsewhere: what they are in the end does not change."""

import collections
import os
import random
import time

import jax
import numpy as np
import pytest
from faults import runs

from vivit_jax import config, sharding
from vivit_jax.checkpoint import Checkpoints

pytestmark = [pytest.mark.fault, pytest.mark.slow]
STEPS, EVERY = 20, 5  # of tiny_run.py
BATCH, VIDEOS = 8, 12


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return runs.videos(tmp_path_factory.mktemp("videos"), VIDEOS)


def recorded(folder):
    """Returns how a run is started that writes down what it sees."""
    folder.mkdir(exist_ok=True)
    return {"program": (str(runs.RECORD),), "environment": {"RECORD": str(folder)}}


@pytest.fixture(scope="module")
def straight(tmp_path_factory, videos):
    """Returns the workdir of a run without a fault, what its steps saw, and its seconds."""
    workdir, ids = tmp_path_factory.mktemp("straight"), tmp_path_factory.mktemp("ids")
    begun = time.monotonic()
    runs.finish(runs.start(workdir, videos, **recorded(ids)))
    return workdir, runs.seen(ids), time.monotonic() - begun


def assert_equal(workdir, other):
    assert runs.curve(workdir) == runs.curve(other)
    states = [runs.saved(folder, STEPS) for folder in (workdir, other)]
    jax.tree.map(np.testing.assert_array_equal, *states)


def test_a_run_killed_at_any_time_ends_as_if_it_had_not_been(
    tmp_path, videos, straight, trial, repeat
):
    other, _, seconds = straight
    for number in range(10):
        workdir, after = tmp_path / str(number), random.uniform(0, seconds)
        with trial(3, f"after {after:.1f} of {seconds:.1f} s") as one:
            process = runs.start(workdir, videos)
            time.sleep(after)
            runs.kill(process)
            reached = runs.steps_done(workdir)
            begun = time.monotonic()
            process = runs.start(workdir, videos)
            while process.poll() is None and runs.steps_done(workdir) <= min(reached, STEPS - 1):
                time.sleep(0.05)
            one.seconds = time.monotonic() - begun
            said = runs.finish(process)
            went_on_from = max(0, reached // EVERY * EVERY - EVERY)  # the newest may be unfinished
            one.lost = max(0, went_on_from - started(said))
            assert_equal(workdir, other)


def started(said: str) -> int:
    """Returns the step that a run said to go on from; its last, where it was at its end."""
    lines = [line for line in said.splitlines() if "Training from step" in line]
    return int(lines[0].split("from step ")[1].split(" ")[0]) if lines else STEPS


def test_a_run_stopped_at_any_step_sees_every_video_once_an_epoch(
    tmp_path, videos, straight, trial, repeat
):
    for stop in random.sample(range(1, STEPS), 3):
        with trial(4, f"stopped at step {stop}"):
            ids, workdir = tmp_path / f"ids_{stop}", tmp_path / str(stop)
            process = runs.start(workdir, videos, **recorded(ids))
            runs.until(lambda at=stop, where=workdir: runs.steps_done(where) >= at, process)
            runs.kill(process)
            runs.finish(runs.start(workdir, videos, **recorded(ids)))
            found = runs.seen(ids)
            assert found == straight[1]
            order = [identity for step in sorted(found) for identity in found[step]]
            for epoch in range(len(order) // VIDEOS):
                counts = collections.Counter(order[epoch * VIDEOS : (epoch + 1) * VIDEOS])
                assert set(counts.values()) == {1}
                assert len(counts) == VIDEOS


def assert_same_bits(workdir, step, mesh, devices):
    """Fails where a state that is restored onto these devices has another bit than on disk."""
    placed = sharding.make_mesh(config.Mesh(**mesh), jax.devices()[:devices])
    with Checkpoints(workdir, read_only=True) as checkpoints:
        shapes = checkpoints.shapes(step)
        target = jax.tree.map(
            lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
            *(shapes, sharding.shardings(shapes, placed)),
        )
        restored = jax.device_get(checkpoints.restore(step, target))
    on_disk = runs.saved(workdir, step)
    for left, right in zip(jax.tree.leaves(on_disk), jax.tree.leaves(restored), strict=True):
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("mesh", [{"data": 2}, {"fsdp": 4}, {"data": 2, "fsdp": 2, "tensor": 2}])
def test_a_run_goes_on_on_another_mesh_from_the_same_bits(
    tmp_path, videos, straight, trial, repeat, mesh
):
    devices = int(np.prod(list(mesh.values())))
    with trial(20, str(mesh)):
        ids, workdir = tmp_path / "ids", tmp_path / "run"
        short = f"--config.train.steps={STEPS // 2}", "--config.optim.schedule=constant"
        long = f"--config.train.steps={STEPS}", "--config.optim.schedule=constant"
        runs.finish(runs.start(workdir, videos, *short, **recorded(ids)))
        assert_same_bits(workdir, STEPS // 2, mesh, devices)
        given = recorded(ids)
        given["environment"] |= {"JAX_NUM_CPU_DEVICES": str(devices)}
        options = [f"--config.mesh.{axis}={n}" for axis, n in mesh.items()]
        runs.finish(runs.start(workdir, videos, *long, *options, **given))
        assert runs.seen(ids) == straight[1]
        one_device = tmp_path / "one"
        runs.finish(runs.start(one_device, videos, *long))
        losses = [
            [line["loss"] for line in runs.curve(folder) if "loss" in line]
            for folder in (workdir, one_device)
        ]
        np.testing.assert_allclose(*losses, rtol=1e-3)


def test_any_number_of_processes_sees_the_same_videos(tmp_path, videos, straight, trial, repeat):
    with trial(21, "2, then 1, then 4 processes"):
        ids, workdir = tmp_path / "ids", tmp_path / "run"
        for count, steps in ((2, 5), (1, 10), (4, STEPS)):
            given = recorded(ids)
            options = (f"--config.train.steps={steps}", "--config.optim.schedule=constant")
            if count == 1:
                runs.finish(runs.start(workdir, videos, *options, **given))
            else:
                runs.finish(*runs.together(workdir, videos, count, *options, **given))
        assert runs.seen(ids) == straight[1]
        assert sorted(os.listdir(workdir / "checkpoints"))
