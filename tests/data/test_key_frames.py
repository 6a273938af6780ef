"""Frames chosen by what changes: of still stretches few, of each change its share, none twice."""

import av.error
import numpy as np
import pytest
from data.conftest import write_video

from vivit_jax import config
from vivit_jax.data import changes, decode
from vivit_jax.data.changes import movement
from vivit_jax.data.clips import Movement, Sampling, clip_times
from vivit_jax.data.container import open_movie
from vivit_jax.data.decode import read_views
from vivit_jax.data.examples import Example, Listed
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pipeline import eval_batches, train_batches
from vivit_jax.data.pixels import open_pixels
from vivit_jax.errors import InputError

FPS, FRAMES = 10, 60
STILL = 40  # frames before anything moves
GEOMETRY = Geometry(16, test_crops=1)


def key_frames(frames, views=1):
    return Sampling(frames=frames, kind="key_frames", views=views)


def places(change, frames, views=1):
    """Which frames are chosen of a video of one frame a second."""
    change = np.asarray(change, float)
    moved = Movement(np.arange(len(change)) + 5.0, change)
    rng = np.random.default_rng(0)
    times = clip_times(key_frames(frames, views), 5.0, 5.0 + len(change), 1.0, rng, moved)
    return (times - 5).tolist()


def test_where_as_much_changes_in_each_second_frames_are_evenly_spaced():
    assert places([0.0] + [0.1] * 16, 4) == [[2, 6, 10, 14]]
    assert places([0.0] * 17, 4) == [[2, 6, 10, 14]]  # nothing moves


def test_each_segment_holds_its_share_of_the_change():
    change = np.random.default_rng(0).uniform(0, 0.2, 200)
    change[:80] = 0
    (chosen,) = places(change, 8)
    total = np.cumsum(change + 0.002)
    shares = (total[np.array(chosen, int)] - total[0]) / (total[-1] - total[0]) * 8
    np.testing.assert_allclose(shares, np.arange(8) + 0.5, atol=0.1)
    assert sum(place < 80 for place in chosen) <= 1


def test_a_cut_is_not_shown_by_one_frame_again_and_again():
    change = [0.0] + [0.01] * 9 + [0.9] + [0.01] * 9
    (chosen,) = places(change, 6)
    assert len(set(chosen)) == 6
    assert chosen == sorted(chosen)
    assert chosen[0] < 10 <= chosen[2]
    assert places([0.0] * 19 + [0.9], 6)[0][-1] == 19


def test_clips_of_a_video_are_different_frames_of_the_segments():
    clips = places([0.0] + [0.1] * 24, 4, views=3)
    assert clips == [[1, 7, 13, 19], [3, 9, 15, 21], [5, 11, 17, 23]]


def test_a_video_of_fewer_frames_repeats_them():
    (chosen,) = places([0.0, 0.1, 0.1], 8)
    assert chosen == sorted(chosen)
    assert set(chosen) == {0, 1, 2}


def texture(i):
    """Nothing moves, then a bar does; the first row tells the frame's number by its brightness."""
    picture = np.full((48, 64, 3), 60, np.uint8)
    at = 3 * max(0, i - STILL)
    picture[:, at : at + 10] = 200
    return picture


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("key") / "bar.mp4"
    return write_video(path, FRAMES, fps=FPS, texture=texture)


def bar(clip):
    """Where the bar is in each frame, in pixels of the video."""
    bright = clip.mean(axis=(1, 3)) > 130
    return bright.argmax(axis=1) * 4


def test_most_frames_are_of_what_moves(video):
    (clip,) = read_views(str(video), key_frames(8), Geometry(16, crop="centre"), (0,))
    assert (bar(clip) > 0).sum() >= 6
    (spread,) = read_views(
        str(video), Sampling(8, kind="segment_views"), Geometry(16, crop="centre"), (0,)
    )
    assert (bar(spread) > 0).sum() <= 3


def test_nothing_of_it_is_drawn(video):
    first, second = (read_views(str(video), key_frames(6), GEOMETRY, (i,)) for i in (0, 1))
    np.testing.assert_array_equal(first, second)


def test_a_part_of_a_video_is_looked_at_alone(video):
    begin, end = STILL / FPS, FRAMES / FPS
    moved = movement(str(video), begin, end)
    assert begin - 0.01 <= moved.seconds[0] < moved.seconds[-1] < end
    (clip,) = read_views(str(video), key_frames(5), GEOMETRY, (0,), span=(begin, end))
    assert (np.diff(bar(clip)) > 0).all()


def test_a_look_that_fails_unprobed_is_taken_probed(video, monkeypatch):
    expected, looks = read_views(str(video), key_frames(6), GEOMETRY, (0,)), []

    def opened(video, probe=False):
        looks.append(probe)
        if not probe:
            raise av.error.InvalidDataError(1, "its header does not tell enough")
        return open_movie(video, probe)

    monkeypatch.setattr(changes, "open_movie", opened)
    found = read_views(str(video), key_frames(6), GEOMETRY, (0,))
    np.testing.assert_array_equal(found, expected)
    assert looks == [False, True]


def test_a_video_is_looked_at_once_however_often_its_frames_are_tried(video, monkeypatch):
    expected, looks = read_views(str(video), key_frames(6), GEOMETRY, (0,)), []

    def distrusting(movie, canvas):
        raise decode.Distrusted

    def look(*given, **options):
        looks.append(given)
        return movement(*given, **options)

    monkeypatch.setattr(decode, "_METHODS", (distrusting, *decode._METHODS[1:]))
    monkeypatch.setattr(decode, "movement", look)
    found = read_views(str(video), key_frames(6), GEOMETRY, (0,))
    np.testing.assert_array_equal(found, expected)
    assert len(looks) == 1


def test_it_trains_and_is_judged_by_more_clips(video):
    source = Listed([Example(str(i), str(video), 0) for i in range(2)])
    data = config.Data(
        sampling="key_frames", frames=4, image_size=16, batch_size=2, workers=1, crop="centre"
    )
    with train_batches(source, data, seed=0) as batches:
        first = next(batches)
        assert first["valid"].all()
        assert first["video"].shape == (2, 4, 16, 16, 3)
        np.testing.assert_array_equal(first["video"], next(batches)["video"])
    with eval_batches(source, data, clips=3, crops=1, batch_size=2) as batches:
        clips = next(batches)["video"]
    assert clips.shape == (2, 3, 4, 16, 16, 3)
    np.testing.assert_array_equal(clips[:, 1], first["video"])  # the middle one


def test_stored_frames_are_refused():
    views, data = (key_frames(4), GEOMETRY), config.Data(sampling="key_frames")
    with (
        pytest.raises(InputError, match="data.sampling = 'key_frames'"),
        open_pixels("jpeg", views, (1, 4, 16, 16, 3), data),
    ):
        pass
