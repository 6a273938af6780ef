"""Faults of numbers, injected into real runs: what is not finite, spikes, and what must not matter.

spoilt.py says which losses are spoilt; checkpoints are spoilt on disk, by Orbax itself.
"""

import concurrent.futures
import itertools
import pathlib
import shutil
import time

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny
from faults import runs

from vivit_jax import metrics
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.data.order import epoch_order, order_within

pytestmark = pytest.mark.fault
SPOILT = pathlib.Path(__file__).with_name("spoilt.py")
VIDEOS, BATCH = 24, 4


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for i in range(VIDEOS):
        tiny.noise_video(folder / "ab"[i % 2] / f"{i:02d}.mp4", i)
    return folder


def names(videos):
    """Returns the ids of the videos by their numbers."""
    return [str(path.relative_to(videos)) for path in sorted(videos.rglob("*.mp4"))]


def start(videos, workdir, options, **kwargs):
    given = [f"--config.{name}={value}" for name, value in options.items()]
    return runs.start(workdir, videos, f"--config={SPOILT}", *given, **kwargs)


def run(videos, workdir, options, **kwargs):
    """Returns the exit code of a run, and what it said."""
    process = start(videos, workdir, options, **kwargs)
    _, said = process.communicate(timeout=runs.PATIENCE)
    return process.returncode, said


def together(*calls):
    """Returns what calls return, two at a time."""
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        return list(threads.map(lambda call: call(), calls))


def steps(workdir):
    found = (path.name for path in (workdir / "checkpoints").iterdir())
    return sorted(int(name) for name in found if name.isdigit())


def count_bad(workdir):
    """Returns how many checkpoints are not finite."""
    with Checkpoints(workdir, read_only=True) as saved:
        states = [jax.tree.leaves(saved.read(s, saved.shapes(s))) for s in steps(workdir)]
    return sum(not all(np.isfinite(leaf).all() for leaf in state) for state in states)


def check(told, said, wrong_code, silent=0):
    """Tells how a run ended, and fails where that was not as it must be."""
    told.wrong_code, told.silent = wrong_code, silent
    assert not wrong_code, said[-3000:]
    assert not silent
    assert "Traceback" not in said


def recorded(folder):
    """Returns how a run is started that writes down what it sees."""
    folder.mkdir()
    return {"program": (str(runs.RECORD),), "environment": {"RECORD": str(folder)}}


def assert_equal(one, other):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.slow
def test_one_batch_that_is_nan_is_left_out_and_its_video_named(trial, repeat, videos, tmp_path):
    with trial(6, "one video's loss, at step 3") as told:
        position = 2 * BATCH + 1
        options = {"objective.first": position, "objective.last": position}
        code, said = run(videos, tmp_path, options)
        lines = runs.curve(tmp_path)
        assert [line["skipped"] for line in lines] == [0, 0] + [1] * 10
        assert [line["step"] for line in lines if line["loss"] is None] == [3]
        name = names(videos)[epoch_order(0, 0, VIDEOS)[position]]
        (skipped,) = metrics.read_lines(tmp_path / metrics.SKIPPED)
        assert skipped == {"step": 3, "why": "not finite", "examples": [name]}
        assert f"Step 3 changed nothing: their loss is not finite. {name}" in said
        check(told, said, code != 0, count_bad(tmp_path))


@pytest.mark.slow
def test_data_that_stay_nan_end_the_run_after_two_rollbacks(trial, repeat, videos, tmp_path):
    with trial(7, "every loss from step 5 on") as told:
        options = {"objective.first": 4 * BATCH, "objective.last": 10**6, "train.max_skipped": 3}
        code, said = run(videos, tmp_path, options)
        assert "error: At step 7 the numbers of the run had gone bad: 3 updates in a row" in said
        lines = metrics.read_lines(tmp_path / "rollbacks.jsonl")
        assert [(x["step"], x["to"], x["order"]) for x in lines] == [(7, 4, 1), (7, 2, 2)]
        assert [x["step"] for x in lines[0]["skipped"]] == [5, 6, 7]
        check(told, said, code != 1, count_bad(tmp_path))
        assert steps(tmp_path) == [2, 4]
        assert any((tmp_path / "set_aside").iterdir())  # nothing is deleted


def put_nan(workdir, step):
    """Writes a NaN into a weight of a checkpoint, as whoever saved it might have."""
    folder, state = workdir / "checkpoints" / str(step) / "default", runs.saved(workdir, step)
    state["params"]["head"]["kernel"] = np.full_like(state["params"]["head"]["kernel"], np.nan)
    shutil.rmtree(folder)
    with ocp.PyTreeCheckpointer() as checkpointer:
        checkpointer.save(folder, state)


@pytest.mark.slow
def test_a_checkpoint_that_is_nan_is_set_aside_and_an_older_one_used(
    trial, repeat, videos, tmp_path
):
    assert run(videos, tmp_path, {"train.steps": 8})[0] == 0
    put_nan(tmp_path, 8)
    with trial(7, "a weight of the newest checkpoint") as told:
        code, said = run(videos, tmp_path, {"train.steps": 12})
        check(told, said, code != 0, count_bad(tmp_path))
        assert steps(tmp_path) == [8, 10, 12]
        assert any(path.name.startswith("8") for path in (tmp_path / "set_aside").iterdir())
        assert [line["step"] for line in runs.curve(tmp_path)] == list(range(1, 13))
        assert all(line["loss"] is not None for line in runs.curve(tmp_path))


@pytest.mark.slow
def test_every_checkpoint_that_is_nan_ends_the_run(trial, repeat, videos, tmp_path):
    assert run(videos, tmp_path, {"train.steps": 4})[0] == 0
    for step in (2, 4):
        put_nan(tmp_path, step)
    with trial(7, "a weight of every checkpoint") as told:
        code, said = run(videos, tmp_path, {"train.steps": 8})
        check(told, said, code not in (1, 2))
        assert [line["step"] for line in runs.curve(tmp_path)] == [1, 2, 3, 4]


@pytest.mark.slow
def test_another_order_heals_and_a_killed_run_goes_on_in_it(trial, repeat, videos, tmp_path):
    changed = order_within(0, 0, VIDEOS, ((2 * BATCH, 1),))
    batches, again = (  # steps 3 to 5, before and after
        order[2 * BATCH : 5 * BATCH].reshape(3, BATCH)
        for order in (epoch_order(0, 0, VIDEOS), changed)
    )
    bad = next(  # one video of each of the three
        chosen
        for chosen in itertools.product(*batches.tolist())
        if not np.isin(again, chosen).any(axis=1).all()
    )
    options = {
        "objective.first": 2 * BATCH,
        "objective.last": 5 * BATCH - 1,
        "objective.videos": ",".join(map(str, bad)),
        "train.max_skipped": 3,
        "train.steps": 60,
    }
    with trial(7, "three batches in a row, then another order, then kill -9") as told:
        straight, killed = tmp_path / "straight", tmp_path / "killed"
        ids = {
            folder: recorded(folder.with_name(f"{folder.name}_ids"))
            for folder in (straight, killed)
        }
        code, said = run(videos, straight, options, **ids[straight])
        check(told, said, code != 0, count_bad(straight))
        (line,) = metrics.read_lines(straight / "rollbacks.jsonl")
        assert (line["step"], line["to"], line["order"]) == (5, 2, 1)
        process = start(videos, killed, options, **ids[killed])
        runs.until((killed / "rollbacks.jsonl").exists, process)
        time.sleep(0.3 + 0.2 * repeat)
        runs.kill(process)
        assert runs.steps_done(killed) < options["train.steps"]
        code, said = run(videos, killed, options, **ids[killed])
        check(told, said, code != 0, count_bad(killed))
        first, second = (folder / "rollbacks.jsonl" for folder in (straight, killed))
        assert first.read_bytes() == second.read_bytes()
        first, second = (runs.seen(folder.with_name(f"{folder.name}_ids")) for folder in ids)
        assert first == second
        assert runs.curve(killed) == runs.curve(straight)
        assert_equal(runs.saved(killed, 60), runs.saved(straight, 60))


@pytest.mark.slow
def test_processes_go_back_together(trial, repeat, videos, tmp_path):
    options = {"objective.first": 4 * BATCH, "objective.last": 10**6, "train.max_skipped": 3}
    given = [f"--config.{name}={value}" for name, value in options.items()]
    with trial(7, "every loss from step 5 on, of two processes") as told:
        pair = runs.together(tmp_path, videos, 2, f"--config={SPOILT}", *given)
        said = [process.communicate(timeout=runs.PATIENCE)[1] for process in pair]
        codes = [process.returncode for process in pair]
        check(told, "\n".join(said), codes != [1, 1], count_bad(tmp_path))
        lines = metrics.read_lines(tmp_path / "rollbacks.jsonl")
        assert [(x["step"], x["to"], x["order"]) for x in lines] == [(7, 4, 1), (7, 2, 2)]
        assert all("went back 2 times before" in text for text in said)


SPIKE = {"objective.first": 100, "objective.last": 103, "objective.factor": 1e4}


@pytest.mark.slow
@pytest.mark.parametrize("guard", [{"optim.spike": 10.0}, {"optim.clip": 1.0}], ids=str)
def test_a_gradient_that_is_10000_times_too_large_is_survived(
    guard, trial, repeat, videos, tmp_path
):
    options = {"train.steps": 50, "seed": repeat, **guard}
    with trial(15, str(guard)) as told:
        (code, said), (other, also) = together(
            lambda: run(videos, tmp_path / "clean", options),
            lambda: run(videos, tmp_path / "spike", {**options, **SPIKE}),
        )
        check(told, said + also, (code, other) != (0, 0))
        clean, spike = (
            [line["loss"] for line in runs.curve(tmp_path / name)] for name in ("clean", "spike")
        )
        assert spike[25] > 1000 * clean[25]  # step 26
        assert clean[:25] == spike[:25]
        print("clean", np.round(clean, 3), "spike", np.round(spike, 3))
        assert abs(np.mean(spike[40:]) - np.mean(clean[40:])) < 0.1
        skipped = metrics.read_lines(tmp_path / "spike" / metrics.SKIPPED)
        if "optim.spike" in guard:
            assert [(line["step"], line["why"]) for line in skipped] == [(26, "spike")]
            known = names(videos)
            order = epoch_order(repeat, 4, VIDEOS)[4:8]
            assert sorted(skipped[0]["examples"]) == sorted(known[i] for i in order)
        else:
            assert skipped == []


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_whatever_the_workers(trial, repeat, videos, tmp_path):
    options = {
        **{"data.sampling": "random", "data.crop": "random_resized", "augment.flip": 0.5},
        **{"augment.colour_jitter": 0.8, "model.dropout": 0.1, "objective.mixup": 0.8},
        **{"optim.average": 0.9, "optim.spike": 10.0},
    }
    given = {"one": (1, "0"), "again": (1, "0"), "four": (4, "0"), "hashed": (1, "77")}
    with trial(25, "twice, 4 workers, another PYTHONHASHSEED") as told:
        done = together(
            *(
                lambda name=name, workers=workers, hashes=hashes: run(
                    videos,
                    tmp_path / name,
                    {**options, "data.workers": workers},
                    environment={"PYTHONHASHSEED": hashes},
                )
                for name, (workers, hashes) in given.items()
            )
        )
        check(told, "".join(said for _, said in done), any(code for code, _ in done))
        expected = runs.curve(tmp_path / "one")
        assert len(expected) == 12
        for name in given:
            assert runs.curve(tmp_path / name) == expected
            assert_equal(runs.saved(tmp_path / name, 12), runs.saved(tmp_path / "one", 12))
