"""Faults of what lies on the disk: 1, 2, 10, 22, 23, 24, 34 and 35."""

import contextlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tiny
from saved_steps import equal, save, state_of, target_of

from launch import many
from vivit_jax import config, digest, metrics, train
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.errors import InputError

pytestmark = pytest.mark.fault
ROOT = pathlib.Path(__file__).parents[2]
RNG = np.random.default_rng()


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for split, count in (("train", 16), ("val", 2)):
        for i in range(count):
            tiny.noise_video(root / split / "ab"[i % 2] / f"{i}.mp4", i + 100 * (split == "val"))
    return root


def given(videos, **sections):
    usual = {"root": str(videos), "train_list": write_list(videos), "holdout": 0.0}
    sections["data"] = {**usual, **sections.get("data", {})}
    sections["optim"] = {"learning_rate": 0.1, "schedule": "constant", **sections.get("optim", {})}
    usual = {"steps": 4, "checkpoint_every": 1, "keep": 2, "evaluate": False}
    sections["train"] = {**usual, **sections.get("train", {})}
    return tiny.experiment(**sections)


@pytest.fixture(scope="module")
def finished(videos, tmp_path_factory):
    """Returns the workdir of a run of four steps, of which 3 and 4 are kept."""
    workdir = tmp_path_factory.mktemp("finished")
    train.run(given(videos), workdir)
    return workdir


def write_list(videos, change=lambda lines: None):
    """Writes the list of the training videos after it was changed; returns its path."""
    lines = [f"train/{'ab'[i % 2]}/{i}.mp4 {'ab'[i % 2]}" for i in range(16)]
    change(lines)
    file = videos / f"{change.__name__.strip('<>')}.txt"
    file.write_text("".join(f"{line}\n" for line in lines))
    return str(file)


@pytest.fixture
def copy(finished, tmp_path):
    return pathlib.Path(shutil.copytree(finished, tmp_path / "copy"))


def command(workdir, experiment, **environment):
    """Returns the running command on an experiment, as a user starts it."""
    folder = workdir.with_name(f"{workdir.name}_config")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(config.to_json(experiment))
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "8", **environment}
    environment |= {"JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache/jax")}
    arguments = [f"--config={ROOT / 'vivit_jax/recipe.py'}:{folder}", f"--workdir={workdir}"]
    return subprocess.Popen(
        [sys.executable, "-m", "vivit_jax.main", *arguments],
        env=environment,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )


def flip(folder):
    """Flips a bit of a file of a folder: of any file, or of any byte of them all."""
    files = [one for one in folder.rglob("*") if one.is_file() and one.stat().st_size]
    sizes = np.array([one.stat().st_size for one in files], float)
    chances = sizes / sizes.sum() if RNG.random() < 0.5 else np.full(len(files), 1 / len(files))
    file = files[RNG.choice(len(files), p=chances)]
    content = bytearray(file.read_bytes())
    bit = int(RNG.integers(8 * len(content)))
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)
    return f"{file.relative_to(folder)}, bit {bit}"


@pytest.mark.parametrize("flips", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_a_flipped_bit_never_gives_another_state(trial, tmp_path, flips, monkeypatch):
    monkeypatch.setattr(digest, "_SMALL", 4096)  # arrays of both kinds
    whole, states = save(tmp_path / "whole", 1, 2), {step: state_of(step) for step in (1, 2)}
    harmless = 0
    for _ in range(flips):
        workdir = pathlib.Path(shutil.copytree(whole, tmp_path / "copy"))
        with trial(1, flip(workdir / "checkpoints/2")) as one:
            begun = time.monotonic()
            with Checkpoints(workdir, keep=10) as checkpoints:
                step, found = checkpoints.restore_newest(target_of(states[1]))
                one.seconds = time.monotonic() - begun
                one.silent = int(not equal(found, states[step]))
                assert not one.silent, one.about
                aside = [p.name for p in (workdir / "set_aside").glob("*")]
                assert aside == (["2-damaged"] if step == 1 else [])
                checkpoints.save(3, states[2])
            harmless += step == 2
        shutil.rmtree(workdir)
    print(f"{flips - harmless} of {flips} flips were found; the others changed nothing")


def truncate(step):
    file = step / "default/_METADATA"
    os.truncate(file, file.stat().st_size // 2)


def lose_a_file(step):
    (step / "default/manifest.ocdbt").unlink()


def leave_empty(step):
    (step.parent / "9").mkdir()


def flip_an_array(step):
    for file in (step / "default").rglob("d/*"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [truncate, lose_a_file, leave_empty, flip_an_array])
def test_a_run_goes_on_past_a_bad_newest_step(trial, repeat, copy, videos, harm):
    with trial(2 if harm is not flip_an_array else 1, harm.__name__) as one:
        lines = tiny.written(copy, metrics.METRICS)
        harm(copy / "checkpoints/4")
        begun = time.monotonic()
        process = command(copy, given(videos, train={"steps": 6}))
        said = process.communicate()[1]
        one.seconds = time.monotonic() - begun
        one.wrong_code = process.returncode != 0
        assert not one.wrong_code, said[-3000:]
        number = 9 if harm is leave_empty else 4
        assert f"Step {number} is set aside" in said
        after = tiny.written(copy, metrics.METRICS)
        assert after[: len(lines)] == lines
        assert [line["step"] for line in after] == [1, 2, 3, 4, 5, 6]
        with Checkpoints(copy, read_only=True) as checkpoints:
            assert checkpoints.latest() == 6


@pytest.mark.slow
def test_two_processes_go_on_past_a_bad_newest_step(trial, repeat, videos, tmp_path):
    flags = [many.write_config(tmp_path / "four", videos, train={"checkpoint_every": 2})]
    workdir = tmp_path / "run"
    many.finish(many.start(workdir, *flags, processes=2))
    flip_an_array(workdir / "checkpoints/4")
    with trial(1, "two processes") as one:
        begun = time.monotonic()
        said = many.finish(many.start(workdir, *flags, "--config.train.steps=6", processes=2))
        one.seconds = time.monotonic() - begun
        assert "Step 4 is set aside, damaged" in said
        assert "Goes on from step 2, which is whole." in said
        with Checkpoints(workdir, read_only=True) as checkpoints:
            assert checkpoints.steps() == [2, 4, 6]


SAVE_UNTIL_FULL = """
import os, resource, sys
sys.path.insert(0, "tests")
import jax
jax.config.update("jax_platforms", "cpu")
jax.config.update("jax_num_cpu_devices", 8)
from saved_steps import state_of
import pathlib
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.errors import NotSaved
with Checkpoints(pathlib.Path(sys.argv[1]), keep=2) as checkpoints:
    for step in range(1, 9):
        if len(sys.argv) > 2 and step == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), -1))
        try:
            checkpoints.save(step, state_of(step, 4096))
            checkpoints.wait()
        except NotSaved as error:
            print(step, checkpoints.latest(), checkpoints.steps(), error, flush=True)
            sys.exit(1)
"""


@contextlib.contextmanager
def small_disk(folder, size):
    """Yields a folder that holds no more, by a file system of its own."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=False
    )
    if mounted.returncode:
        pytest.skip("only root can mount a small disk")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.parametrize("disk", ["limit", "tmpfs"])
def test_a_full_disk_is_noticed_at_the_save_that_it_stops(trial, repeat, tmp_path, disk):
    with trial(10, disk) as one, contextlib.ExitStack() as stack:
        place, limit = tmp_path, ["200000"]
        if disk == "tmpfs":
            place, limit = stack.enter_context(small_disk(tmp_path / "disk", "8m")), []
        arguments = [sys.executable, "-c", SAVE_UNTIL_FULL, place / "run", *limit]
        done = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT, check=False)
        one.wrong_code = done.returncode != 1
        assert not one.wrong_code, done.stderr[-3000:]
        step = int(done.stdout.split()[0])
        assert done.stdout.startswith(f"{step} {step - 1} [{step - 2}, {step - 1}] Step {step} ")
        assert "3,145,924 bytes, and" in done.stdout
        assert f"are free in {place / 'run/checkpoints'}" in done.stdout
        with Checkpoints(place / "run", read_only=True) as checkpoints:
            found = checkpoints.restore(step - 1, target_of(state_of(0, 4096)))
        one.silent = int(not equal(found, state_of(step - 1, 4096)))
        assert not one.silent


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_with_what_it_saved_before(trial, repeat, videos, tmp_path):
    with trial(10, "a run") as one, small_disk(tmp_path / "disk", "30m") as disk:
        wide = {"width": 384, "mlp_dim": 1536}
        process = command(disk / "run", given(videos, model=wide, train={"steps": 20}))
        said = process.communicate()[1]
        one.wrong_code = process.returncode != 1
        assert not one.wrong_code, said[-3000:]
        assert "could not be saved: it wants up to" in said.splitlines()[-1]
        code = subprocess.run(
            [sys.executable, "-m", "vivit_jax.checkpoint", "verify", disk / "run"],
            cwd=ROOT,
            check=False,
        ).returncode
        assert code == 0


@pytest.mark.parametrize(
    ("change", "listed"),
    [
        ({"optim": {"optimizer": "sgd"}}, r"it has opt_state/\S+, which is "),
        ({"optim": {"average": 0.9}}, r"it has no average/encoder"),
        ({"model": {"width": 96}}, r"config\.model\.width was \S+ and is 96"),
        (
            {"data": {"frames": 8}},
            r"position has the shape \(1, 9, 32\), and should have \(1, 17, 32",
        ),
    ],
)
def test_another_model_is_refused_with_what_differs(trial, copy, videos, change, listed):
    with trial(22, str(change)):
        with pytest.raises(InputError, match=listed):
            train.run(given(videos, train={"steps": 6}, **change), copy)
        with Checkpoints(copy, read_only=True) as checkpoints:
            assert checkpoints.steps() == [3, 4]


def swap_two(lines):
    lines[3], lines[8] = lines[8], lines[3]


def lose_one(lines):
    del lines[5]


def rename_a_label(lines):
    lines[4] = lines[4][:-1] + "b"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 7}, r"config\.seed was 0 and is 7"),
        ({"data": {"batch_size": 16}}, r"config\.data\.batch_size was 8 and is 16"),
        (swap_two, r"the order of the rows of the list was \w+ and is \w+\."),
        (lose_one, r"number of training videos was 16 and is 15; the list of training videos"),
        (rename_a_label, r"the labels of the training videos was \w+ and is \w+\."),
    ],
    ids=lambda x: getattr(x, "__name__", None),
)
def test_changed_data_is_refused(trial, finished, videos, change, named):
    if callable(change):
        change = {"data": {"train_list": write_list(videos, change)}}
    with trial(23, named), pytest.raises(InputError, match=named):
        train.run(given(videos, train={"steps": 6}, **change), finished)


@pytest.mark.slow
def test_a_run_goes_on_with_changed_data_where_it_is_told_to(trial, copy, videos, caplog):
    with trial(23, "told to go on"):
        told = {"steps": 6, "changed_data": "go_on"}
        train.run(given(videos, train=told, seed=7), copy)
        assert "Goes on from step 4 with other data: config.seed was 0 and is 7." in caplog.text
        train.run(given(videos, train={"steps": 8}, seed=7), copy)
        with Checkpoints(copy, read_only=True) as checkpoints:
            assert checkpoints.latest() == 8


@pytest.mark.slow
def test_a_run_goes_on_from_an_older_step_that_was_gone_back_to(trial, repeat, copy, videos):
    with trial(24) as one:
        with Checkpoints(copy, keep=2) as checkpoints:
            checkpoints.roll_back(3)
        train.run(given(videos, train={"steps": 5}), copy)
        with Checkpoints(copy, read_only=True) as checkpoints:
            one.lost = 5 - checkpoints.latest()
            assert one.lost == 0
            assert checkpoints.steps() == [4, 5]
        assert [p.name for p in (copy / "set_aside").iterdir()] == ["4-rolled-back"]


@pytest.mark.parametrize("kind", ["below_a_file", "read_only"])
def test_a_workdir_that_cannot_be_written_ends_the_run_at_once(
    trial, videos, tmp_path, kind, repeat
):
    with trial(34, kind) as one, contextlib.ExitStack() as stack:
        workdir = tmp_path / "there/run"
        workdir.parent.mkdir()
        if kind == "below_a_file":
            workdir = tmp_path / "there/file/run"
            (tmp_path / "there/file").write_text("")
        elif os.geteuid():
            workdir.parent.chmod(0o500)
        else:
            place = stack.enter_context(small_disk(tmp_path / "disk", "1m"))
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            workdir = place / "run"
        settings = tmp_path / "settings"
        settings.mkdir()
        (settings / "config.json").write_text(config.to_json(given(videos)))
        flags = [f"--config={ROOT / 'vivit_jax/recipe.py'}:{settings}", f"--workdir={workdir}"]
        begun = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "vivit_jax.main", *flags],
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=False,
        )
        one.seconds = time.monotonic() - begun
        one.wrong_code = done.returncode != 2
        assert not one.wrong_code, done.stderr[-3000:]
        assert f"--workdir={workdir}" in done.stderr
        assert "Compiled" not in done.stderr


@pytest.mark.slow
def test_a_second_run_is_refused_and_the_lock_of_a_killed_one_taken_over(
    trial, repeat, videos, tmp_path
):
    long = given(videos, train={"steps": 100_000, "checkpoint_every": 5})
    workdir = tmp_path / "run"
    with trial(35) as one:
        first = command(workdir, long)
        while not (workdir / "checkpoints/5").exists():
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.2)
        second = command(workdir, long)
        said = second.communicate()[1]
        assert (second.returncode, first.poll()) == (2, None), said
        assert f"is held by another run: process {first.pid} on " in said
        first.send_signal(signal.SIGKILL)
        first.communicate()
        with Checkpoints(workdir, read_only=True) as checkpoints:
            step = checkpoints.latest()
        begun = time.monotonic()
        third = command(workdir, given(videos, train={"steps": step + 2, "checkpoint_every": 5}))
        said = third.communicate()[1]
        one.seconds = time.monotonic() - begun
        one.wrong_code = third.returncode != 0
        assert not one.wrong_code, said[-3000:]
        assert f"The lock of process {first.pid} on " in said
        assert not (workdir / "lock.json").exists()
