"""A step is used when it is what was saved; real Orbax, on disk."""

import json
import os
import resource
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from saved_steps import equal, save, state_of, target_of

from vivit_jax import digest, manifest
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.errors import Damaged, InputError, NotFinite, NotSaved

TARGET = target_of(state_of(0))


@pytest.fixture(autouse=True)
def some_on_devices(monkeypatch):
    monkeypatch.setattr(digest, "_SMALL", 4096)


def newest(workdir):
    with Checkpoints(workdir, keep=10) as checkpoints:
        return checkpoints.restore_newest(TARGET)


def set_aside(workdir):
    folder = workdir / "set_aside"
    return sorted(one.name for one in folder.iterdir()) if folder.exists() else []


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


def truncate(step):
    file = step / "default" / "_METADATA"
    os.truncate(file, file.stat().st_size // 2)


def lose_an_array(step):
    for file in (step / "default").rglob("d/*"):
        file.unlink()


def swap_arrays(step):
    shutil.rmtree(step / "default")
    shutil.copytree(step.parent / "1" / "default", step / "default")


def lose_the_manifest(step):
    (step / manifest.FILE).unlink()


def empty_the_manifest(step):
    told = json.loads((step / manifest.FILE).read_text())
    (step / manifest.FILE).write_text(json.dumps({**told, "custom_metadata": {}}))


def forge_the_manifest(step):
    text = (step / manifest.FILE).read_text()
    assert '"shape": [96]' in text
    (step / manifest.FILE).write_text(text.replace('"shape": [96]', '"shape": [97]'))


HARM = (empty, truncate, lose_an_array, swap_arrays)
HARM += (lose_the_manifest, empty_the_manifest, forge_the_manifest)


def test_a_state_comes_back_bit_for_bit_with_its_manifest(tmp_path):
    about = {"data": {"seed": 3}}
    with Checkpoints(tmp_path, about=lambda step: about) as checkpoints:
        state = state_of(5)
        checkpoints.save(5, state, {"top1": 0.5})
        assert checkpoints.latest() in (None, 5)  # never sooner than it is on disk
        checkpoints.wait()
        assert checkpoints.latest() == 5
        step, found = checkpoints.restore_newest(TARGET)
        assert (step, equal(found, state)) == (5, True)
        told = checkpoints.manifest(5)
    assert (told["step"], told["results"], told["data"]) == (5, {"top1": 0.5}, {"seed": 3})
    assert told["arrays"]["params/bias"]["dtype"] == "bfloat16"
    assert told["arrays"]["params/kernel"]["shape"] == [16, 96]


def test_numbers_that_are_no_arrays_come_back(tmp_path):
    state = {"a": np.int32(-3), "b": 7, "c": True, "d": np.float64(0.1), "e": np.arange(3)}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state)
        checkpoints.wait()
        read = checkpoints.read(1, checkpoints.shapes(1))
        assert equal(read, jax.tree.map(np.asarray, state))
        found = checkpoints.restore(1, {"a": jax.ShapeDtypeStruct((), jnp.int32)})
    assert (found["a"].item(), found["a"].dtype) == (-3, np.int32)


@pytest.mark.parametrize("harm", HARM, ids=lambda harm: harm.__name__)
def test_a_bad_newest_step_is_set_aside_and_its_step_saved_again(tmp_path, caplog, harm):
    save(tmp_path, 1, 2, 3)
    harm(tmp_path / "checkpoints/3")
    with Checkpoints(tmp_path, keep=10) as checkpoints:
        step, found = checkpoints.restore_newest(TARGET)
        assert (step, equal(found, state_of(2))) == (2, True)
        assert checkpoints.latest() == 2
        assert "checkpoints/3 is damaged: " in caplog.text
        assert "Step 3 is set aside" in caplog.text
        checkpoints.save(3, state_of(3))
    assert set_aside(tmp_path) == ["3-damaged"]
    step, found = newest(tmp_path)
    assert (step, equal(found, state_of(3))) == (3, True)


def test_arrays_that_are_not_what_was_saved_are_named_with_the_step(tmp_path):
    save(tmp_path, 1, 2)
    swap_arrays(tmp_path / "checkpoints/2")
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        for read in (checkpoints.restore, checkpoints.read):
            with pytest.raises(
                Damaged, match=r"checkpoints/2 is damaged: params/bias, params/kern"
            ):
                read(2, {"params": TARGET["params"]})
            assert equal(read(1, {"step": TARGET["step"]}), {"step": state_of(1)["step"]})
    assert set_aside(tmp_path) == []


def test_an_empty_folder_is_never_the_newest_step(tmp_path):
    save(tmp_path, 1)
    (tmp_path / "checkpoints/9").mkdir()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == checkpoints.find(None) == 1
        assert checkpoints.restore_newest(TARGET)[0] == 1
        checkpoints.save(9, state_of(9))
        checkpoints.wait()
        assert checkpoints.latest() == 9


def test_where_no_step_is_whole_all_stay_where_they_are(tmp_path):
    save(tmp_path, 1, 2)
    for step in (2, 1):
        truncate(tmp_path / f"checkpoints/{step}")
    with pytest.raises(Damaged, match=r"No checkpoint in .* is whole(.|\n)*/2 is dam(.|\n)*/1 is"):
        newest(tmp_path)
    assert sorted(one.name for one in (tmp_path / "checkpoints").iterdir()) == ["1", "2"]


def test_steps_of_before_manifests_are_used_with_a_warning(tmp_path, caplog):
    folder = tmp_path / "checkpoints"
    with ocp.CheckpointManager(folder, item_handlers=ocp.PyTreeCheckpointHandler()) as manager:
        for step in (1, 2):
            manager.save(step, args=ocp.args.PyTreeSave(state_of(step)))
    step, found = newest(tmp_path)
    assert (step, equal(found, state_of(2))) == (2, True)
    assert "checkpoints/2 was saved without a manifest" in caplog.text
    truncate(folder / "2")
    assert newest(tmp_path)[0] == 1
    save(tmp_path, 3)
    swap_arrays(folder / "3")
    assert newest(tmp_path)[0] == 1


def test_only_finite_states_are_saved(tmp_path):
    state = state_of(2)
    bias = np.array(state["params"]["bias"])
    bias[7] = np.nan
    state["params"]["bias"] = jnp.asarray(bias)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(1, state_of(1))
        with pytest.raises(NotFinite, match="step 2 is not saved:\n  params/bias is not finite$"):
            checkpoints.save(2, state)
        checkpoints.save(3, state_of(3))
    assert newest(tmp_path)[0] == 3


def test_after_going_back_saving_goes_on(tmp_path):
    save(tmp_path, 1, 3)
    with Checkpoints(tmp_path, keep=10) as checkpoints:
        with pytest.raises(NotSaved, match="Step 2 .*there are later steps"):
            checkpoints.save(2, state_of(2))
        with pytest.raises(InputError, match="holds no such checkpoint"):
            checkpoints.roll_back(7)
        checkpoints.roll_back(1)
        assert (checkpoints.steps(), checkpoints.latest()) == ([1], 1)
        checkpoints.save(2, state_of(12))
        checkpoints.wait()
        checkpoints.roll_back(1)
        checkpoints.save(2, state_of(22))
    assert set_aside(tmp_path) == ["2-rolled-back", "3-rolled-back"]
    assert equal(newest(tmp_path)[1], state_of(22))


@pytest.mark.parametrize("manifests", [True, False])
def test_every_difference_of_shape_and_type_is_listed(tmp_path, manifests):
    save(tmp_path, 1)
    if not manifests:
        empty_the_manifest(tmp_path / "checkpoints/1")
    one = TARGET["step"].sharding
    other = {
        "step": jax.ShapeDtypeStruct((), jnp.float32, sharding=one),
        "params": {
            "kernel": jax.ShapeDtypeStruct((16, 128), jnp.float16, sharding=one),
            **{f"new_{i:02}": TARGET["params"]["bias"] for i in range(20)},
        },
    }
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        with pytest.raises(InputError) as refused:
            checkpoints.restore_newest(other)
        assert not isinstance(refused.value, Damaged)
        lines = str(refused.value).splitlines()[1:]
        assert lines[:3] == [
            "  it has opt_state/0, which is not wanted",
            "  it has params/bias, which is not wanted",
            "  params/kernel has the shape (16, 96), and should have (16, 128)",
        ]
        assert lines[3] == "  params/kernel is float32, and should be float16"
        assert lines[4] == "  it has no params/new_00"
        assert lines[-1] == "  and 5 more"
        with pytest.raises(InputError, match="step is int32, and should be float32"):
            checkpoints.restore(1, {"step": other["step"]})
        partial = {"params": {"kernel": TARGET["params"]["kernel"]}, "step": TARGET["step"]}
        assert checkpoints.restore_newest(partial, spared=("params/bias", "opt_state/0"))[0] == 1


def test_a_step_is_on_the_disk_with_all_its_text_before_the_one_before_it_is_deleted(
    tmp_path, monkeypatch
):
    flushed, flush = set(), os.fsync

    def watched(place):
        flush(place)
        if (tmp_path / "checkpoints/1").exists():
            flushed.add(os.readlink(f"/proc/self/fd/{place}"))

    monkeypatch.setattr(os, "fsync", watched)
    save(tmp_path, 1, 2, keep=1)
    kept = tmp_path / "checkpoints/2"
    assert not (tmp_path / "checkpoints/1").exists()
    assert {str(path) for path in [kept.parent, kept, *kept.rglob("*")]} <= flushed


def test_the_best_step_is_known_when_a_run_goes_on(tmp_path):
    for step, score in enumerate((0.9, 0.1, 0.3, 0.2), 1):
        with Checkpoints(tmp_path, keep=1, best="top1") as checkpoints:
            checkpoints.save(step, state_of(step), {"top1": score})
    assert Checkpoints(tmp_path, read_only=True).steps() == [1, 4]


def test_a_save_that_did_not_get_onto_the_disk_is_told_and_older_ones_stay(tmp_path):
    save(tmp_path, 1, 2)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path, keep=1) as checkpoints:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
        try:
            with pytest.raises(
                NotSaved, match=r"Step 3 .* 98,500 bytes, and [\d,]+ are free in .*File too"
            ):
                save_until_told(checkpoints)
            assert (checkpoints.steps(), checkpoints.latest()) == ([1, 2], 2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        checkpoints.save(3, state_of(3, rows=128))
        checkpoints.wait()
        assert checkpoints.latest() == 3
    checkpoints = Checkpoints(tmp_path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        checkpoints.save(4, state_of(4, rows=128))
        with pytest.raises(NotSaved, match="Step 4"):
            checkpoints.__exit__(None, None, None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def save_until_told(checkpoints):
    """Saves a step that is too large, and goes on as a run does until it is told of it."""
    checkpoints.save(3, state_of(3, rows=128))
    while True:
        assert checkpoints.latest() == 2
        checkpoints.poll()


def test_the_command_tells_which_steps_are_whole(tmp_path):
    def verify(path):
        command = [sys.executable, "-m", "vivit_jax.checkpoint", "verify", path]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    save(tmp_path, 1, 2)
    swap_arrays(tmp_path / "checkpoints/2")
    code, said = verify(tmp_path)
    assert (code, "1  20" in said, "/2 is damaged: " in said) == (1, True, True)
    assert verify(tmp_path / "checkpoints/1")[0] == 0
    code, said = verify(tmp_path / "set_aside")
    assert (code, "is no checkpoint; expected a workdir" in said) == (2, True)
