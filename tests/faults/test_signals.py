"""Whatever a run is at, SIGTERM and Ctrl-C save it and end it; and every end tells the truth."""

import os
import pathlib
import resource
import signal
import time

import pytest
from faults import runs
from faults.running import running, together

from vivit_jax import clock, metrics
from vivit_jax.processes import HEARTBEAT
from vivit_jax.stopping import newest

pytestmark = pytest.mark.fault
LIMIT = 15.0  # seconds
STEPS = 20  # of tiny_run.py


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    return runs.videos(tmp_path_factory.mktemp("videos"), held_out=24)


def option(**train):
    return [f"--config.train.{name}={value}" for name, value in train.items()]


LONG = option(steps=100_000, checkpoint_every=100_000)
NO_CACHE = {"JAX_ENABLE_COMPILATION_CACHE": "0"}  # so that compiling takes its time


def blocks(run):
    """Returns whether a process no longer ends by itself at SIGTERM: it has begun to import."""
    status = pathlib.Path(f"/proc/{run.process.pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return int(mask, 16) >> (signal.SIGTERM - 1) & 1


def saying(words):
    return lambda run: words in run.said()


def at_step(number):
    return lambda run: run.steps() >= number


def saving(run):
    return list(run.workdir.glob("checkpoints/*.orbax-checkpoint-tmp*"))


def evaluating(run):
    return len(run.workers()) > 1  # of training, and of evaluation


def starved(run):
    """Stops the decoders for good; returns whether the run now waits for them."""
    if run.steps() < 3:
        return False
    for pid in run.workers():
        os.kill(pid, signal.SIGSTOP)
    before = run.steps()
    time.sleep(3)
    return run.steps() == before


PHASES = {
    "import": (blocks, LONG),
    "opening videos": (saying("training videos,"), LONG),
    "init": (saying("multiply-accumulates forward"), LONG),
    "compile": (saying("Training from step"), LONG),
    "step": (at_step(3), LONG),
    "data wait": (starved, LONG),
    "evaluation": (evaluating, option(steps=100_000, checkpoint_every=100_000, evaluate_every=4)),
    "save": (saving, option(steps=100_000, checkpoint_every=6, evaluate=False)),
    "after the last step": (at_step(STEPS), []),
}
QUICK = {"step"}


def phases(quick):
    """Returns the phases as parameters; those that are not quick are slow."""
    marks = {True: [], False: [pytest.mark.slow]}
    return [pytest.param(name, id=name, marks=marks[name in quick]) for name in PHASES]


def check_stopped(one, run, code, number):
    """Notes whether a run ended as it must."""
    said = run.said()
    print(said[-600:])
    if code == 0:  # it was done already
        assert newest(run.workdir) == STEPS
        return
    one.wrong_code = code != 128 + number
    assert not one.wrong_code, (code, said[-3000:])
    assert "Traceback" not in said
    assert f"Stopped by {signal.Signals(number).name}" in said.splitlines()[-1]
    one.lost = run.steps() - (newest(run.workdir) or 0)
    assert one.lost == 0, said[-3000:]


@pytest.mark.parametrize("phase", phases(QUICK))
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_a_signal_in_any_phase_saves_and_ends(trial, repeat, videos, tmp_path, phase, number):
    ready, options = PHASES[phase]
    environment = NO_CACHE if phase == "compile" else {}
    with (
        trial(5, f"{signal.Signals(number).name}, {phase}") as one,
        running(tmp_path / "run", videos, *options, **environment) as run,
    ):
        run.wait_until(ready)
        begun = time.monotonic()
        run.tell(number, group=number == signal.SIGINT)
        code = run.end()
        one.seconds = time.monotonic() - begun
        check_stopped(one, run, code, number)
        assert one.seconds < LIMIT


PHASES_TOGETHER = {
    "compile": (saying("Training from step"), LONG),
    "step": (at_step(3), LONG),
    "evaluation": PHASES["evaluation"],
    "save": PHASES["save"],
    "after the last step": PHASES["after the last step"],
}


@pytest.mark.slow
@pytest.mark.parametrize("asked", [0, 1])
@pytest.mark.parametrize("phase", PHASES_TOGETHER)
def test_a_signal_to_one_process_stops_all_at_one_step(
    trial, repeat, videos, tmp_path, phase, asked
):
    ready, options = PHASES_TOGETHER[phase]
    with (
        trial(5, f"SIGTERM to process {asked} of 2, {phase}") as one,
        together(tmp_path / "run", videos, *options) as both,
    ):
        both[0].wait_until(ready)
        begun = time.monotonic()
        both[asked].tell(signal.SIGTERM)
        codes = [run.end() for run in both]
        one.seconds = time.monotonic() - begun
        for run, code in zip(both, codes, strict=True):
            check_stopped(one, run, code, signal.SIGTERM)
        assert codes[0] == codes[1]
        assert one.seconds < LIMIT


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(trial, repeat, videos, tmp_path):
    options = option(evaluate_every=4)
    runs.finish(runs.start(tmp_path / "straight", videos, *options))
    for phase in ("compile", "step", "evaluation", "save"):
        with trial(5, f"gone on after {phase}") as one:
            workdir = tmp_path / phase
            with running(workdir, videos, *options) as run:
                run.wait_until(PHASES[phase][0])
                run.tell(signal.SIGTERM)
                check_stopped(one, run, run.end(), signal.SIGTERM)
            runs.finish(runs.start(workdir, videos, *options))
            assert runs.curve(workdir) == runs.curve(tmp_path / "straight")


@pytest.mark.slow
def test_a_second_signal_ends_a_run_at_once(trial, repeat, videos, tmp_path):
    with (
        trial(5, "a second SIGTERM") as one,
        together(tmp_path / "run", videos, *LONG) as both,
    ):
        both[0].wait_until(at_step(3))
        both[1].tell(signal.SIGSTOP)  # so that the first cannot leave
        both[0].tell(signal.SIGTERM)
        time.sleep(2)
        begun = time.monotonic()
        both[0].tell(signal.SIGTERM)
        assert both[0].end() == -signal.SIGTERM
        one.seconds = time.monotonic() - begun
        assert one.seconds < 2


@pytest.mark.slow
def test_decoders_hear_no_signal_of_their_group(trial, videos, tmp_path):
    with trial(5, "SIGTERM to the group"), running(tmp_path / "run", videos, *LONG) as run:
        run.wait_until(at_step(3))
        workers = run.workers()
        run.tell(signal.SIGTERM, group=True)
        assert run.end() == 143
        assert "BrokenPipe" not in run.said()
        deadline = time.monotonic() + 10
        while any(os.path.exists(f"/proc/{pid}") for pid in workers):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def break_evaluation(workdir):
    (workdir / "evaluation").write_text("no folder")


def limit_files():
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("about", "spoil", "limits", "cause"),
    [
        ("a folder that cannot be made", break_evaluation, None, "evaluation"),
        ("files that may not grow", None, limit_files, "error: "),
    ],
)
def test_a_fault_ends_by_1_with_its_cause_and_the_last_good_step(
    trial, repeat, videos, tmp_path, about, spoil, limits, cause
):
    workdir = tmp_path / "run"
    workdir.mkdir()
    with trial(9, about) as one:
        if spoil:
            spoil(workdir)
        with running(workdir, videos, limits=limits) as run:
            code = run.end()
            one.wrong_code = code != 1
            last = run.said().splitlines()[-2:]
            assert code == 1, run.said()[-3000:]
            assert cause in last[0] + last[1]
            step = newest(workdir)
            standing = "has no checkpoint" if step is None else f"has step {step}, from which"
            assert standing in last[-1], run.said()[-3000:]


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_when_a_host_dies_the_other_ends_and_a_restart_goes_on(
    trial, repeat, videos, tmp_path, victim
):
    workdir = tmp_path / "run"
    with trial(19, f"kill -9 of process {victim} of 2") as one:
        with together(workdir, videos, *LONG[:1], *option(checkpoint_every=3)) as both:
            both[0].wait_until(at_step(10))
            begun = time.monotonic()
            both[victim].kill()
            code = both[1 - victim].end()
            one.seconds = time.monotonic() - begun
            one.wrong_code = code in (0, 2, 130, 143)
            assert not one.wrong_code
            assert one.seconds < HEARTBEAT + LIMIT
            reached = both[0].steps()
        with together(workdir, videos, *LONG[:1], *option(checkpoint_every=3)) as both:
            both[0].wait_until(lambda run: run.said().count("Training from step") == 2)
            first = int(both[0].said().split("Training from step ")[-1].split()[0])
            one.lost = max(0, reached - first - 2 * 3)  # the newest may not have been finished


@pytest.mark.slow
def test_memory_that_runs_out_is_told_with_what_to_lower(trial, repeat, videos, tmp_path):
    workdir = tmp_path / "run"
    few, many = option(steps=5), [*option(steps=10), "--config.data.repeats=8192"]
    many.append("--config.train.changed_data=go_on")
    with running(workdir, videos, *few) as run:
        sizes = []
        run.wait_until(lambda run: sizes.append(peak(run)) or run.steps() == 5)
        assert run.end() == 0
    limit = max(sizes) + 600_000_000
    with trial(36, "RLIMIT_AS") as one:
        with running(
            workdir,
            videos,
            *many,
            limits=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
        ) as run:
            code = run.end()
            said = run.said()
            one.wrong_code = code != 1
            assert code == 1, said[-3000:]
            for fact in ("wanted: ", "ulimit -v", "largest arrays", "Lower config.data.batch_size"):
                assert fact in said, said[-3000:]
            assert said.splitlines()[-1].endswith(
                "has step 5, from which the same command goes on."
            )
        runs.finish(runs.start(workdir, videos, *option(steps=6)))


def peak(run):
    """Returns the bytes of addresses that a process has had at most."""
    try:
        status = pathlib.Path(f"/proc/{run.process.pid}/status").read_text()
    except OSError:
        return 0
    lines = [line for line in status.splitlines() if line.startswith("VmPeak")]
    return 1024 * int(lines[0].split()[1]) if lines else 0


@pytest.mark.slow
def test_training_goes_on_where_a_log_cannot_be_written(trial, repeat, videos, tmp_path):
    workdir = tmp_path / "run"
    options = option(steps=1500, checkpoint_every=500, evaluate=False)
    with trial(37, "events gone, metrics.jsonl and curves.png no files") as one:
        with running(workdir, videos, *options) as run:
            run.wait_until(at_step(3))
            file, aside = workdir / metrics.METRICS, workdir / "aside"
            file.rename(aside)
            file.mkdir()
            (workdir / "curves.png").mkdir()
            for events in workdir.glob("events.*"):
                events.unlink()
            time.sleep(1)
            file.rmdir()
            code = run.end()
            one.wrong_code = code != 0
            assert code == 0, run.said()[-3000:]
            assert run.said().count("cannot be written") == 2, run.said()[-3000:]
        lines = metrics.read_lines(aside) + metrics.read_lines(file)
        assert [line["step"] for line in lines] == list(range(1, 1501))


@pytest.mark.slow
def test_over_five_kills_the_phases_add_up_to_the_wall(trial, repeat, videos, tmp_path):
    workdir = tmp_path / "run"
    options = option(steps=2000, checkpoint_every=100)
    with trial(39) as one:
        begun = time.time()
        for number in range(5):
            with running(workdir, videos, *options) as run:
                run.wait_until(at_step(150 + 200 * number))
        with running(workdir, videos, *options) as run:
            assert run.end() == 0, run.said()[-3000:]
        total = clock.add_up(metrics.read_lines(workdir / clock.TIME))
        wall = (workdir / clock.TIME).stat().st_mtime - begun
        print(clock.table(total), f"sum {sum(total.values()):.2f} s, wall {wall:.2f} s")
        one.seconds = abs(sum(total.values()) - wall)
        assert sum(total.values()) == pytest.approx(wall, rel=0.01)
        assert min(total.values()) >= 0
