"""What a video can do to the process that reads it, and many bad ones to a run."""

import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time
from collections import Counter

import pytest
from faults import runs
from faults.good import good_videos

from vivit_jax import config
from vivit_jax.data.examples import Example, Listed
from vivit_jax.data.pipeline import train_batches
from vivit_jax.errors import InputError

pytestmark = pytest.mark.fault
HOSTILE = """
import builtins, os, signal, time
real = builtins.open
def opened(file, *rest, **named):
    name = os.path.basename(file) if isinstance(file, str) else ""
    if name.startswith("abort"): os.abort()
    if name.startswith("segfault"): os.kill(os.getpid(), signal.SIGSEGV)
    if name.startswith("exit"): os._exit(0)
    if name.startswith("stop"): os.kill(os.getpid(), signal.SIGSTOP)
    if name.startswith("hang"): time.sleep(1000)
    if name.startswith("spin"):
        while True: pass
    if name.startswith("memory"): bytearray(10**11)
    if name.startswith("write"):
        path = os.path.join(os.path.dirname(file), "canary")
        os.write(os.open(path, os.O_CREAT | os.O_WRONLY), b"x")
    return real(file, *rest, **named)
builtins.open = opened
"""  # a decoding process imports it as sitecustomize; what a file makes a decoder do, by its name
CAUSES = {
    **dict.fromkeys(("abort", "segfault", "exit"), "crashed"),
    **dict.fromkeys(("stop", "hang", "spin"), "timeout"),
    **{"memory": "memory", "write": "unreadable"},
}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> dict[str, pathlib.Path]:
    """Returns a video of each codec."""
    return good_videos(tmp_path_factory.mktemp("good"))


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> pathlib.Path:
    """Returns a folder; decoding processes do what the names of files that they open say."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site/sitecustomize.py").write_text(HOSTILE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))
    return tmp_path


def source_of(folder: pathlib.Path, names: list[str]) -> Listed:
    return Listed([Example(name, str(folder / name), 0) for name in names])


def options(**given) -> config.Data:
    small = {"batch_size": 4, "frames": 4, "stride": 1, "image_size": 16, "workers": 2}
    return config.Data(**{**small, "labels": "none", "max_bad": 1.0, **given})


QUICK = ("abort", "stop", "memory")  # the others take as long again


@pytest.mark.parametrize(
    "name",
    [pytest.param(x, marks=[] if x in QUICK else pytest.mark.slow) for x in CAUSES],
)
def test_what_a_video_does_to_its_process_costs_that_video_alone(name, hostile, good, trial):
    shutil.copy(good["h264"], hostile / f"{name}.mp4")
    for i in range(7):
        shutil.copy(good["h264"], hostile / f"{i}.mp4")
    source = source_of(hostile, [f"{name}.mp4", *(f"{i}.mp4" for i in range(7))])
    fault = 17 if CAUSES[name] == "timeout" else 31 if name == "memory" else 18
    with trial(fault, name) as one:
        begun = time.monotonic()
        with train_batches(source, options(timeout=1.5), seed=0, workdir=hostile) as batches:
            for _ in range(8):  # four epochs
                batch = next(batches)
                one.silent += int((batch["valid"] != (batch["index"] != 0)).sum())
            assert batches.bad.counts == {CAUSES[name]: 1}
        one.seconds = time.monotonic() - begun
        assert not one.silent
    if name == "write":
        assert (hostile / "canary").read_bytes() == b""


def test_videos_that_go_or_change_while_a_run_goes_on_are_counted(tmp_path, good, trial, repeat):
    names = [f"{i}.mp4" for i in range(12)]
    for name in names:
        shutil.copy(good["h264"], tmp_path / name)
    with train_batches(source_of(tmp_path, names), options(), seed=0) as batches:
        assert next(batches)["valid"].all()
        (tmp_path / names[0]).unlink()
        (tmp_path / names[1]).unlink()
        os.mkfifo(tmp_path / names[1])
        (tmp_path / names[2]).write_bytes(b"")
        for _ in range(30):  # of which the first dozen may have been read before
            valid = next(batches)["valid"]
        causes = dict(batches.bad.counts)
        assert valid.any()
    with trial(33, "removed, a pipe, emptied"):
        assert causes == {"missing": 1, "unreadable": 1, "empty": 1}


@pytest.mark.slow
def test_when_all_videos_are_bad_a_run_ends_with_the_causes(tmp_path, trial, repeat):
    for i in range(16):
        path = tmp_path / "videos" / "ab"[i % 2] / f"{i}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"" if i % 4 else b"no video" * 99)
    with trial(13) as one:
        begun = time.monotonic()
        process = runs.start(tmp_path / "run", tmp_path / "videos", "--config.train.evaluate=False")
        said = process.communicate(timeout=runs.PATIENCE)[1]
        one.seconds, one.wrong_code = time.monotonic() - begun, process.returncode != 2
        assert not one.wrong_code
        assert "  empty" in said
        assert "  unreadable" in said
        assert "more than data.max_bad (0.05) allows" in said


@pytest.mark.parametrize(("share", "goes_on"), [(0.01, True), (0.05, True), (0.3, False)])
def test_some_bad_videos_are_counted_up_to_the_limit(share, goes_on, tmp_path, good, trial):
    names, bad = [f"{i}.mp4" for i in range(200)], round(200 * share)
    for i, name in enumerate(names):
        if i < bad:
            (tmp_path / name).write_bytes(b"" if i % 2 else b"no video" * 99)
        else:
            (tmp_path / name).symlink_to(good["h264"])
    source, given = source_of(tmp_path, names), options(max_bad=0.05, batch_size=20)
    with trial(14, f"{share:.0%}"), train_batches(source, given, seed=0) as batches:
        steps = itertools.islice(batches, 10)
        if goes_on:
            assert len(list(steps)) == 10
            assert batches.bad.counts == +Counter(empty=bad // 2, unreadable=bad - bad // 2)
        else:
            with pytest.raises(InputError, match=r"(?s)unreadable, more than .*\n +\d+  empty\n"):
                list(steps)


@pytest.mark.slow
def test_memory_stays_flat_over_many_decodes(good, trial, repeat):
    """Of little videos; tests/benchmarks/soak.py is for real ones."""
    folder = good["h264"].parent
    (folder / "cut.mp4").write_bytes(good["h264"].read_bytes()[:5000])
    soak = [sys.executable, str(runs.ROOT / "tests/benchmarks/soak.py"), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(runs.ROOT)}
    with trial(32, "2,000 decodes") as one:
        begun = time.monotonic()
        command = [*soak, "--decodes", "2000", "--workers", "1"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        one.seconds = time.monotonic() - begun
        assert "replaced: none" in done.stdout
        slopes = re.findall(r"([+-]\d+) \+- (\d+) kB per 1,000 clips", done.stdout)
        assert len(slopes) == 2
        assert all(int(slope) - 3 * int(error) < 300 for slope, error in slopes), done.stdout
