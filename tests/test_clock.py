"""Where time went: every second has one phase, also over sessions that were killed."""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest
from tiny import noise_video

from vivit_jax import clock
from vivit_jax.clock import TIME, Clock, add_up, goodput, since_process_start, table
from vivit_jax.errors import InputError
from vivit_jax.metrics import METRICS, read_lines

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture
def ticks(monkeypatch):
    """Lets a test say how late it is."""
    now = [100.0]
    monkeypatch.setattr("vivit_jax.clock.time.perf_counter", lambda: now[0])
    monkeypatch.setattr("vivit_jax.clock.time.time", lambda: 1e9 + now[0])

    def go_on(seconds):
        now[0] += seconds

    return go_on


def spent(seconds):
    return {phase: value for phase, value in seconds.items() if value}


def line(session, at, /, done=False, **seconds):
    return {"session": session, "step": at, "seconds": seconds, "done": done}


def test_a_moment_belongs_to_the_innermost_phase_alone(ticks):
    watch = Clock(age=3.0)
    ticks(1)
    watch.turn_to("step")
    ticks(2)
    with watch.phase("evaluation"):
        ticks(4)
        with watch.phase("data_wait"):
            ticks(8)
        ticks(16)
    ticks(32)
    assert spent(watch.session()) == {"start": 4, "step": 34, "evaluation": 20, "data_wait": 8}


def test_a_phase_ends_with_the_error_within_it(ticks):
    watch = Clock()

    def fail():
        with watch.phase("save"):
            ticks(1)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    ticks(2)
    assert spent(watch.session()) == {"save": 1, "start": 2}


def test_what_is_gone_back_over_in_one_process_is_lost(ticks, tmp_path):
    watch = Clock(age=2.0)
    with contextlib.suppress(KeyError), watch.kept(tmp_path, 0, active=True):
        watch.turn_to("step")
        ticks(10)
        watch.step = 4
        watch.write()
        ticks(5)
        watch.step = 6
        raise KeyError
    ticks(1)
    watch.begin_again()
    with watch.kept(tmp_path, 4, active=True):
        ticks(1)
        watch.turn_to("step")
        ticks(20)
        expected = {"start": 3, "step": 30, "lost": 5, "down": 1}
        assert spent(watch.total()) == expected
    assert spent(add_up(read_lines(tmp_path / TIME))) == expected


def test_a_run_without_a_stop_has_no_time_lost_or_down():
    total = add_up([line(1e9, 0, start=5.0), line(1e9, 4, start=5.0, step=15.0)])
    assert spent(total) == {"start": 5, "step": 15}
    assert goodput(total) == 0.75


def test_what_was_done_after_the_checkpoint_that_was_gone_on_from_is_lost():
    lines = [
        line(1e9, 0, start=5.0),
        line(1e9, 10, start=5.0, step=10.0),
        line(1e9, 10, start=5.0, step=10.0, save=1.0),
        line(1e9, 17, start=5.0, step=17.0, save=1.0, data_wait=2.0),
        line(1e9 + 40, 10, start=6.0),
        line(1e9 + 40, 20, start=6.0, step=9.0, done=True),
    ]
    total = add_up(lines)
    assert spent(total) == {"start": 11, "step": 19, "save": 1, "lost": 9, "down": 15}
    assert sum(total.values()) == 40 + 15


def test_a_session_that_saved_nothing_loses_its_steps_though_others_followed():
    lines = [
        line(1e9, 0, start=5.0),
        line(1e9, 8, start=5.0, step=8.0),
        line(1e9 + 13, 0, start=5.0),  # nothing was saved
        line(1e9 + 13, 6, start=5.0, step=6.0),
    ]
    assert spent(add_up(lines)) == {"start": 10, "lost": 8, "step": 6}
    assert spent(add_up(lines, (4, 1e9 + 24))) == {"start": 10, "lost": 14}
    lines += [line(1e9 + 24, 4, start=1.0), line(1e9 + 24, 9, start=1.0, step=5.0)]
    assert add_up(lines, (0, 1e9 + 30))["step"] == 0  # its checkpoints were deleted
    assert add_up(lines, (0, 1e9 + 30))["lost"] == 14 + 6


def test_a_finished_run_that_is_made_longer_was_not_down():
    lines = [
        line(1e9, 0, start=1.0),
        line(1e9, 10, start=1.0, step=10.0, done=True),
        line(2e9, 10, start=2.0),
        line(2e9, 20, start=2.0, step=10.0, done=True),
    ]
    assert spent(add_up(lines)) == {"start": 3, "step": 20}


def test_sessions_add_up_from_what_they_wrote_though_the_last_line_is_torn(ticks, tmp_path):
    first = Clock()

    def interrupted():
        with first.kept(tmp_path, start=0, active=True):
            first.turn_to("step")
            ticks(6)
            first.step = 3
            first.write()
            ticks(2)
            first.step = 4
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    with (tmp_path / TIME).open("a") as file:
        file.write('{"session": 1')
    ticks(10)
    second = Clock(age=1.0)
    with second.kept(tmp_path, start=3, active=True):
        assert spent(second.total()) == {"start": 1, "step": 6, "lost": 2, "down": 9}
        second.turn_to("step")
        ticks(4)
    lines = read_lines(tmp_path / TIME)
    assert [row["done"] for row in lines] == [False] * 4 + [True]
    assert spent(add_up(lines)) == {"start": 1, "step": 10, "lost": 2, "down": 9}
    assert [json.loads(row) for row in (tmp_path / TIME).read_text().splitlines()] == lines


def test_another_process_than_the_first_writes_nothing(tmp_path):
    with Clock().kept(tmp_path, start=0, active=False):
        pass
    assert not list(tmp_path.iterdir())


def test_the_table_tells_shares_and_goodput():
    text = table(add_up([line(1e9, 0), line(1e9, 9, start=20.0, data_wait=5.0, step=75.0)]))
    assert text.splitlines()[0] == "The run took 1:40; goodput 75.0%."
    assert [row.split()[:5] for row in text.splitlines()[1:]] == [
        ["start", "20.0", "s", "20.0%", "imports,"],
        ["data", "wait", "5.0", "s", "5.0%"],
        ["step", "75.0", "s", "75.0%", "training"],
    ]


def test_the_command_shows_the_table_of_a_workdir(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["clock", str(tmp_path)])
    with pytest.raises(InputError, match=r"time\.jsonl holds no times"):
        clock.main()
    with Clock(age=2.0).kept(tmp_path, start=0, active=True):
        pass
    assert clock.main() == 0
    assert "goodput 0.0%" in capsys.readouterr().out


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_process_knows_its_age():
    begun = time.time()
    program = "import time; from vivit_jax import clock as c; "
    program += "print(time.time(), c.since_process_start())"
    output = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
    now, age = map(float, output.stdout.split())
    assert now - age == pytest.approx(begun, abs=0.2)
    assert since_process_start() > now - begun


def start(workdir, videos):
    options = {
        "data": {"root": videos, "batch_size": 8, "workers": 1, "frames": 4, "image_size": 16},
        "model": {"size": "mu", "width": 32, "depth": 1, "temporal_depth": 1, "heads": 2},
        "train": {"steps": 150, "log_every": 1, "checkpoint_every": 50},
        "eval": {"clips": 1},
    }
    options["data"] |= {"dataset": "videos", "holdout": 0.3}
    command = [sys.executable, "-m", "vivit_jax.main", f"--workdir={workdir}"]
    command += [f"--config={ROOT / 'configs/quickstart.py'}"]
    command += [f"--config.{s}.{n}={v}" for s, of in options.items() for n, v in of.items()]
    environment = {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": str(ROOT / ".cache/jax")}
    environment = {**os.environ, **environment}
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=environment, cwd=ROOT, start_new_session=True, **pipes)


def wait_for_lost_steps(process, workdir, saved):
    """Returns when some steps have followed a checkpoint that is on disk."""
    checkpoint = workdir / "checkpoints" / str(saved)
    while not checkpoint.exists() or read_lines(workdir / METRICS)[-1]["step"] < saved + 5:
        assert process.poll() is None, process.stderr.read().decode()[-3000:]
        time.sleep(0.05)


@pytest.mark.slow
def test_the_phases_of_a_killed_run_add_up_to_the_time_it_took(tmp_path):
    videos, workdir = tmp_path / "videos", tmp_path / "run"
    for seed in range(12):
        noise_video(videos / f"class_{seed % 2}" / f"{seed}.mp4", seed)
    begun = time.time()
    process = start(workdir, videos)
    wait_for_lost_steps(process, workdir, 50)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    killed = time.time()
    before = add_up(read_lines(workdir / TIME))
    assert sum(before.values()) == pytest.approx(killed - begun, rel=0.02, abs=1)
    assert before["lost"] == before["down"] == before["restore"] == 0
    time.sleep(2)
    process = start(workdir, videos)
    _, errors = process.communicate()
    assert process.returncode == 0, errors.decode()[-3000:]
    total = add_up(read_lines(workdir / TIME))
    wall = (workdir / TIME).stat().st_mtime - begun
    print(table(total), f"sum {sum(total.values()):.2f} s, wall {wall:.2f} s")
    assert sum(total.values()) == pytest.approx(wall, rel=0.01)
    assert all(total[phase] > 0 for phase in ("init", "restore", "compile", "evaluation", "save"))
    assert total["lost"] > 0
    assert 1.9 < total["down"] < 4
    assert min(total.values()) >= 0
    last = read_lines(workdir / METRICS)[-1]
    assert 0 < last["goodput"] < 1
    assert table(total) in errors.decode()
