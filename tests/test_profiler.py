"""Traces of chosen steps: which there are, what they hold, and which are refused."""

import gzip
import json

import pytest
from jax.profiler import ProfileData
from tiny import experiment, noise_video

from vivit_jax import loop, train
from vivit_jax.clock import TIME, add_up
from vivit_jax.errors import InputError
from vivit_jax.metrics import METRICS, read_lines
from vivit_jax.profiler import traced_steps


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for seed in range(12):
        noise_video(folder / f"class_{seed % 2}" / f"{seed}.mp4", seed)
    return folder


def given(videos, steps, profile):
    options = {"steps": steps, "evaluate": False, "checkpoint_every": 3, "profile": profile}
    return experiment(data={"root": str(videos)}, train=options)


def traced(workdir):
    """Returns the steps in the one trace of a workdir, the same in both of its forms."""
    (xplane,) = workdir.glob("profile/plugins/profile/*/*.xplane.pb")
    lines = [line for plane in ProfileData.from_file(str(xplane)).planes for line in plane.lines]
    events = [event for line in lines for event in line.events if event.name == "train"]
    steps = [dict(event.stats)["step_num"] for event in events]
    (perfetto,) = workdir.glob("profile/plugins/profile/*/*.trace.json.gz")
    events = json.loads(gzip.decompress(perfetto.read_bytes()))["traceEvents"]
    assert [int(e["args"]["step_num"]) for e in events if e.get("name") == "train"] == steps
    return steps


@pytest.mark.slow
def test_a_run_traces_the_chosen_steps_and_says_which_lines_they_slowed(videos, tmp_path):
    train.run(given(videos, 3, (2, 3)), tmp_path)
    assert traced(tmp_path) == [2, 3]
    lines = read_lines(tmp_path / METRICS)
    assert [line.get("traced", 0) for line in lines] == [0, 1, 1]
    assert add_up(read_lines(tmp_path / TIME))["profile"] > 0
    files = sorted(tmp_path.glob("profile/**/*"))
    train.run(given(videos, 5, (2, 3)), tmp_path)  # goes on after them
    assert sorted(tmp_path.glob("profile/**/*")) == files
    assert [line["step"] for line in read_lines(tmp_path / METRICS)] == [1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_run_that_is_interrupted_leaves_the_trace_that_it_has(videos, tmp_path, monkeypatch):
    add = loop.StepLog.add

    def interrupted(self, step, info):
        add(self, step, info)
        if step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop.StepLog, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.run(given(videos, 3, (2, 3)), tmp_path)
    assert traced(tmp_path) == [2]


@pytest.mark.parametrize("profile", [(3, 2), (0, 2), (2, 6), (-1, -1), (1, 0)])
def test_steps_that_a_run_does_not_take_are_refused(profile):
    with pytest.raises(InputError, match=r"config\.train\.profile = .* from 1 to 5"):
        traced_steps(profile, last_step=5)


def test_nothing_is_traced_where_nothing_is_asked_for_or_trained():
    assert list(traced_steps((0, 0), last_step=5)) == []
    assert list(traced_steps((2, 3), last_step=0)) == []
    assert list(traced_steps((2, 3), last_step=3)) == [2, 3]
