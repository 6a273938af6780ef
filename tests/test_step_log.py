"""How fast a run is, against counts by hand; and what is told of updates left out."""

import types

import numpy as np
import pytest
from tiny import experiment

from vivit_jax import recipe, sharding, step_log
from vivit_jax.data.pool import Reading
from vivit_jax.hardware import CHIPS
from vivit_jax.metrics import SKIPPED
from vivit_jax.sanity import NO_VIDEO, NOT_FINITE, SPIKE, LeftOut
from vivit_jax.train_step import StepInfo

WIDTH, DEPTH, MLP, CLASSES = 64, 2, 96, 5
TOKENS = 2 * 2 * 2  # of 4 frames of 16 x 16 in tubelets of (2, 8, 8)
BLOCK = TOKENS * (4 * WIDTH**2 + 2 * WIDTH * MLP) + 2 * TOKENS**2 * WIDTH
TUBELETS = TOKENS * 2 * 8 * 8 * 3 * WIDTH
FORWARD = TUBELETS + DEPTH * BLOCK + WIDTH * CLASSES
STEP = 2 * (3 * FORWARD - TUBELETS)  # operations; pixels need no gradient


def a_run(dtype="float32", frozen=frozenset()):
    model = {"width": WIDTH, "depth": DEPTH, "mlp_dim": MLP, "heads": 2, "pool": "mean"}
    given = experiment(model={**model, "dtype": dtype}, data={"repeats": 3})
    maps = [[str(i) for i in range(CLASSES)]]
    objective = recipe.build_objective(given, maps)
    params = recipe.param_shapes(objective, given.data, maps)
    return types.SimpleNamespace(
        experiment=given,
        objective=objective,
        mesh=sharding.make_mesh(given.mesh),
        frozen=frozen,
        state=types.SimpleNamespace(params=params),
    )


@pytest.mark.parametrize(
    ("dtype", "peak"), [("bfloat16", 989e12), ("float32", CHIPS["h100"].float32)]
)
def test_utilisation_is_the_share_of_the_peak_of_a_device(dtype, peak, monkeypatch):
    monkeypatch.setattr(step_log, "chip_of", lambda device: CHIPS["h100"])
    run = a_run(dtype)
    at_peak = step_log.full_speed(run)
    assert at_peak == pytest.approx(peak / STEP)


def test_no_utilisation_is_told_where_the_peak_is_unknown():
    assert step_log.full_speed(a_run()) is None  # a CPU


def test_what_is_frozen_needs_no_product_for_its_gradient(monkeypatch):
    monkeypatch.setattr(step_log, "chip_of", lambda device: CHIPS["h100"])
    at_peak = step_log.full_speed(a_run(frozen=frozenset({"head/kernel"})))
    assert at_peak == pytest.approx(CHIPS["h100"].float32 / (STEP - 2 * WIDTH * CLASSES))


def test_a_device_has_its_share_of_the_clips_and_of_the_peak(monkeypatch):
    monkeypatch.setattr(step_log, "chip_of", lambda device: CHIPS["h100"])
    run = a_run("bfloat16")
    nothing = Reading(0, 0.0, 1)
    lines = step_log.StepLog(run, None, 0, 0, step_log.Clock(), lambda: nothing, None)
    rate = 1e7
    speed = lines._speed(rate)
    clips = rate * 8 * 3  # videos a step, clips of each
    assert speed["clips_per_second"] == clips
    assert speed["clips_per_second_per_device"] == clips / 8
    assert speed["mfu"] == pytest.approx(clips / 8 * STEP / 989e12, abs=1e-4)
    assert speed["mfu"] > 0.01


class Lines:
    """Stands for the writer of a run."""

    def __init__(self):
        self.written = []

    def write(self, name, record):
        self.written.append((name, record))


def an_info(losses, norm=1.0, skipped=True, spike=False):
    losses = np.asarray(losses, np.float32)
    return StepInfo(
        metrics={"loss": np.float32(losses.sum()), "grad_norm": np.float32(norm)},
        skipped=np.bool_(skipped),
        spike=np.bool_(spike),
        index=np.arange(len(losses)),
        losses=losses,
        finite=np.isfinite(losses),
    )


@pytest.mark.parametrize(
    ("info", "why", "examples"),
    [
        (an_info([1, np.nan, 2, np.inf]), NOT_FINITE, ["1", "3"]),
        (an_info([1, 3, 0, 2], norm=np.nan), NOT_FINITE, ["1", "3", "0"]),  # 2 is not valid
        (an_info([1, 900, 2, 3], spike=True), SPIKE, ["1", "3", "2", "0"]),
        (an_info([0, 0, 0, 0], norm=0.0), NO_VIDEO, []),
    ],
)
def test_what_was_left_out_is_told_with_the_examples_that_may_be_guilty(info, why, examples):
    source = types.SimpleNamespace(example=lambda i: types.SimpleNamespace(id=str(i)))
    run, writer = a_run(), Lines()
    run.sources = types.SimpleNamespace(train=source)
    nothing, left_out = Reading(0, 0.0, 1), LeftOut(0)
    lines = step_log.StepLog(run, writer, 0, 0, step_log.Clock(), lambda: nothing, left_out)
    lines._infos = [an_info([1, 2, 3, 4], skipped=False), info]
    lines.look(7)
    assert writer.written == [(SKIPPED, {"step": 7, "why": why, "examples": examples})]
    assert (left_out.taken, left_out.row) == (6, why != NO_VIDEO)
    lines.look(7)
    assert len(writer.written) == 1
