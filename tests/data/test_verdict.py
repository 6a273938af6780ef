"""What is said of waiting for data, against arithmetic by hand."""

from vivit_jax.data.pool import Reading
from vivit_jax.data.verdict import verdict

READING = Reading(videos=200, seconds=6.2, workers=2)  # 31 ms a video


def test_nothing_is_said_where_data_keeps_up():
    assert verdict(READING, 0.05, 64.0, repeats=1, cores=8) == ""


def test_more_workers_and_repeats_are_held_to_what_the_step_alone_would_take():
    said = verdict(READING, 0.4, 60.0, repeats=1, cores=8)
    assert "40 % of the time: a video takes 31 ms in each of 2 workers, 60 clips/s" in said
    assert "the step alone would take 100 clips/s" in said
    assert "data.workers=4 of 8 cores, for about 100 clips/s" in said
    assert "data.repeats=2, two clips from each decoding, for about 100 clips/s" in said


def test_cores_that_are_not_there_are_not_promised():
    said = verdict(READING, 0.8, 60.0, repeats=2, cores=3)
    assert "data.workers=3 of 3 cores, for about 180 clips/s" in said
    assert "data.repeats=4, two clips from each decoding, for about 240 clips/s" in said
    assert "data.workers" not in verdict(READING, 0.8, 60.0, repeats=2, cores=2)
