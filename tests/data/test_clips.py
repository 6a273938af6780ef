"""Which moments a clip is made of."""

import numpy as np
import pytest

from vivit_jax.data.clips import Sampling, clip_times
from vivit_jax.errors import InputError


def places(sampling: Sampling, count: int, seed: int = 0, fps: float = 30.0, begin: float = 7.0):
    """Returns the frames of a video of `count` at which a clip's moments are."""
    rng = np.random.default_rng(seed)
    times = clip_times(sampling, begin, begin + count / fps, fps, rng)
    return (times - begin) * fps


def test_random_windows_start_everywhere_they_fit_and_nowhere_else():
    starts = [places(Sampling(4, 5), 20, seed)[0] for seed in range(200)]
    np.testing.assert_allclose(np.diff(starts), 5, atol=1e-9)
    assert {round(start[0]) for start in starts} == {0, 1, 2, 3, 4}


def test_centre_is_the_middle_window():
    np.testing.assert_allclose(places(Sampling(3, 2, kind="centre"), 15), [[5, 7, 9]], atol=1e-9)


def test_views_reach_from_the_first_window_to_the_last():
    views = places(Sampling(3, 2, kind="views", views=3), 15)
    np.testing.assert_allclose(views, [[0, 2, 4], [5, 7, 9], [10, 12, 14]], atol=1e-9)


def test_one_view_is_the_centre():
    one = places(Sampling(3, 2, kind="views", views=1), 15)
    np.testing.assert_array_equal(one, places(Sampling(3, 2, kind="centre"), 15))


def test_segments_take_one_frame_of_each():
    drawn = np.array([places(Sampling(4, kind="segments"), 20, seed)[0] for seed in range(200)])
    np.testing.assert_array_equal(np.round(drawn) // 5, np.tile([0, 1, 2, 3], (200, 1)))
    assert len(np.unique(np.round(drawn))) == 20


def test_segment_views_are_different_fixed_frames_of_each_segment():
    views = places(Sampling(4, kind="segment_views", views=2), 40)
    np.testing.assert_allclose(views, [[2, 12, 22, 32], [7, 17, 27, 37]], atol=1e-9)
    middle = places(Sampling(4, kind="segment_views"), 20, seed=1)
    np.testing.assert_allclose(middle, [[2, 7, 12, 17]], atol=1e-9)


def test_fps_spaces_moments_in_seconds_whatever_the_videos_rate():
    for rate in (10.0, 24.0, 29.97):
        times = clip_times(Sampling(4, fps=5, kind="centre"), 0, 20, rate, np.random.default_rng(0))
        np.testing.assert_allclose(np.diff(times), 0.2, atol=1e-9)


@pytest.mark.parametrize(
    ("short", "expected"), [("loop", [0, 2, 4, 1, 3, 0]), ("hold", [0, 2, 4, 4, 4, 4])]
)
def test_short_videos_loop_or_hold(short, expected):
    for fps in (30.0, 29.97, 23.976):
        found = places(Sampling(6, 2, short_videos=short), 5, fps=fps)
        np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_shuffled_is_another_order_of_the_same_moments_and_repeated_is_one_of_them():
    forward = places(Sampling(16, 2), 100, 3)[0]
    shuffled = places(Sampling(16, 2, frame_order="shuffled"), 100, 3)[0]
    repeated = places(Sampling(16, 2, frame_order="repeated"), 100, 3)[0]
    np.testing.assert_array_equal(np.sort(shuffled), forward)
    assert (shuffled != forward).any()
    assert len(set(repeated)) == 1
    assert repeated[0] in forward


@pytest.mark.parametrize(
    "wrong", [{"kind": "middle"}, {"short_videos": "pad"}, {"stride": 0}, {"frame_order": "back"}]
)
def test_options_that_give_no_clip_are_refused(wrong):
    with pytest.raises(InputError, match="expected"):
        Sampling(**{"frames": 4, **wrong})
