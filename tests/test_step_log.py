"""How fast a run is, against counts by hand."""

import types

import pytest
from tiny import experiment

from vivit_jax import recipe, sharding, step_log
from vivit_jax.hardware import CHIPS

WIDTH, DEPTH, MLP, CLASSES = 64, 2, 96, 5
TOKENS = 2 * 2 * 2  # of 4 frames of 16 x 16 in tubelets of (2, 8, 8)
BLOCK = TOKENS * (4 * WIDTH**2 + 2 * WIDTH * MLP) + 2 * TOKENS**2 * WIDTH
FORWARD = TOKENS * 2 * 8 * 8 * 3 * WIDTH + DEPTH * BLOCK + WIDTH * CLASSES


def a_run(dtype="float32", frozen=frozenset()):
    model = {"width": WIDTH, "depth": DEPTH, "mlp_dim": MLP, "heads": 2, "pool": "mean"}
    given = experiment(model={**model, "dtype": dtype}, data={"repeats": 3})
    objective = recipe.build_objective(given, [[str(i) for i in range(CLASSES)]])
    mesh = sharding.make_mesh(given.mesh)
    return types.SimpleNamespace(experiment=given, objective=objective, mesh=mesh, frozen=frozen)


def test_a_step_costs_three_forward_passes_of_two_operations_each():
    run = a_run()
    assert step_log.clip_flops(run.objective, run.experiment.data) == 6 * FORWARD


@pytest.mark.parametrize(("dtype", "peak"), [("bfloat16", 989e12), ("float32", 495e12)])
def test_utilisation_is_the_share_of_the_peak_of_a_device(dtype, peak, monkeypatch):
    monkeypatch.setattr(step_log, "chip_of", lambda device: CHIPS["h100"])
    run = a_run(dtype)
    at_peak = step_log.full_speed(run)
    assert at_peak == pytest.approx(peak / (6 * FORWARD))


def test_no_utilisation_is_told_where_the_peak_or_the_operations_are_unknown(monkeypatch):
    assert step_log.full_speed(a_run()) is None  # a CPU
    monkeypatch.setattr(step_log, "chip_of", lambda device: CHIPS["h100"])
    assert step_log.full_speed(a_run(frozen=frozenset({"head/bias"}))) is None


def test_a_device_has_its_share_of_the_clips_and_of_the_peak(monkeypatch):
    monkeypatch.setattr(step_log, "chip_of", lambda device: CHIPS["h100"])
    run = a_run("bfloat16")
    lines = step_log.StepLog(run, None, start=0, skipped=0, clock=step_log.Clock())
    rate = 1e7
    speed = lines._speed(rate)
    clips = rate * 8 * 3  # videos a step, clips of each
    assert speed["clips_per_second"] == clips
    assert speed["clips_per_second_per_device"] == clips / 8
    assert speed["mfu"] == pytest.approx(clips / 8 * 6 * FORWARD / 989e12, abs=1e-4)
    assert speed["mfu"] > 0.01
