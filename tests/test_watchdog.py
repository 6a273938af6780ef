"""The watchdog bites what stands still, and nothing that moves, however slowly."""

import time

import pytest

from vivit_jax import watchdog
from vivit_jax.clock import Clock
from vivit_jax.stopping import Stop
from vivit_jax.watchdog import Watchdog

PATIENCE = 1.0


@pytest.fixture
def bites(monkeypatch):
    """Returns what the watchdog said; it watches a Stop of the test's own, and no videos."""
    monkeypatch.setattr(watchdog, "STOP", Stop())
    monkeypatch.setattr(watchdog, "videos_under_way", lambda: [("a.mp4", 3.2), ("b.mp4", 1.0)])
    return []


@pytest.fixture
def watch(bites, tmp_path):
    """Returns a function that makes a watchdog and its clock."""

    def make(patience=PATIENCE, phase="step"):
        clock = Clock()
        clock.turn_to(phase)
        clock.step = 7
        return clock, Watchdog(clock, patience, tmp_path, lambda *said: bites.append(said))

    return make


def wait_for(bites, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not bites and time.monotonic() < deadline:
        time.sleep(0.02)


def test_a_step_that_stands_still_is_named_with_the_videos_being_read(watch, bites, tmp_path):
    _, dog = watch()
    begun = time.monotonic()
    with dog:
        wait_for(bites)
    assert PATIENCE <= time.monotonic() - begun < 8
    ((words, place, workdir),) = bites
    assert words.startswith("at step 7, phase step (training that counts), has not moved for ")
    assert words.endswith("; reading a.mp4 for 3 s, b.mp4 for 1 s")
    assert (place.phase, place.step, workdir) == ("step", 7, tmp_path)


def test_whatever_moves_is_let_be(watch, bites):
    clock, dog = watch()
    with dog:
        for move in (watchdog.STOP.point, lambda: clock.turn_to("save"), watchdog.STOP.point):
            time.sleep(0.4 * PATIENCE)
            move()
        time.sleep(0.4 * PATIENCE)
    assert not bites


def test_videos_that_are_answered_for_are_a_move(watch, bites, monkeypatch):
    answered = iter(range(10**9))
    monkeypatch.setattr(watchdog, "videos_answered", lambda: next(answered))
    _, dog = watch()
    with dog:
        time.sleep(2 * PATIENCE)
    assert not bites


def test_other_phases_have_ten_times_as_long(watch, bites):
    _, dog = watch(phase="compile")
    with dog:
        time.sleep(2 * PATIENCE)
    assert not bites
    assert dog.limit("compile") == dog.limit("evaluation") == 10 * PATIENCE
    assert dog.limit("data_wait") == 10 * PATIENCE  # for the first batch


def test_slow_steps_have_ten_times_their_median(watch, bites):
    _, dog = watch()
    with dog:
        for _ in range(5):
            time.sleep(0.3)
            watchdog.STOP.point()
        time.sleep(1.3 * PATIENCE)
    assert not bites
    assert 2 < dog.limit("step") < 9
    assert dog.limit("data_wait") == dog.limit("step")


def test_without_patience_nothing_is_watched(watch, bites):
    _, dog = watch(patience=0.0)
    with dog:
        time.sleep(0.3)
    assert not bites


def test_what_is_stuck_elsewhere_ends_this_process_too(watch, bites, monkeypatch):
    monkeypatch.setattr(watchdog, "another_is_stuck", lambda: True)
    _, dog = watch(patience=100.0)
    with dog:
        wait_for(bites)
    assert len(bites) == 1


def test_the_end_names_everybody_the_guilty_first_and_leaves_stacks(
    watch, monkeypatch, tmp_path, capsys
):
    told = {
        1: '{"words": "reads", "waits": false, "reads": 6.0}',
        0: '{"words": "waits", "waits": true, "reads": 0.0}',
    }
    codes = []
    monkeypatch.setattr(watchdog, "end", codes.append)
    monkeypatch.setattr(watchdog, "together", lambda: (object(), 0, 2))
    monkeypatch.setattr(watchdog, "told_by", lambda client, folder: told)
    monkeypatch.setattr(watchdog, "named", lambda client, numbers: f"process {numbers[0]} (host)")
    monkeypatch.setattr("vivit_jax.watchdog.faulthandler.dump_traceback", write)
    _, dog = watch()
    watchdog.end_all("waits", dog.place(), tmp_path)
    assert codes == [1]
    said = capsys.readouterr().err
    assert said.index("process 1 (host): reads") < said.index("process 0 (host): waits")
    assert said.splitlines()[-1] == "Nothing was begun."
    assert "waits" in (tmp_path / "stacks/process_0.txt").read_text()


def write(file=None, all_threads=True):
    if file is not None:
        file.write("stacks")
