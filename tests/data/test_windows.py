"""The windows of a video are those frames that its grid says, however the video is read."""

import numpy as np
import pytest
from conftest import STEP, write_damaged, write_video

from vivit_jax.data import windows
from vivit_jax.data.clips import Sampling
from vivit_jax.data.decode import Extent, measure, read_views
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pool import DecodeFailure
from vivit_jax.errors import InputError

SMALL = Geometry(16, test_crops=1)
STRIDE = windows.Rate(stride=2)


def numbers(pixels: np.ndarray) -> list[int]:
    """Returns which frames of write_video's a window shows."""
    return (pixels[0, :, 8, 8].mean(axis=-1) / STEP).round().astype(int).tolist()


def all_of(path, grid, geometry=SMALL, workers=1):
    with windows.pool_of(workers, grid.frames, geometry) as pool:
        return list(windows.read(pool, str(path), grid, geometry, workers))


@pytest.mark.parametrize("hop", [0.0, 0.2, 0.5, 2.0])
@pytest.mark.parametrize("moments", [4, 7, 1000])
def test_each_window_has_its_frames_whatever_the_stretches(tmp_path, monkeypatch, hop, moments):
    monkeypatch.setattr(windows, "STRETCH", moments * 16 * 16 * 3)
    path = write_video(tmp_path / "a.mp4", 44)
    grid = windows.grid(measure(path), 4, STRIDE, hop)
    found = all_of(path, grid, workers=2)
    assert [window.number for window in found] == list(range(len(grid)))
    expected = [[2 * (first + i) for i in range(4)] for first in grid.starts]
    assert [numbers(window.pixels) for window in found] == expected
    step = round(5 * hop) or 4
    assert grid.starts[:-1] == list(range(0, 18, step))[: len(grid) - 1]
    assert grid.starts[-1] == 18  # the last window ends with the video
    assert grid.span(len(grid) - 1) == pytest.approx((3.6, 4.4))


@pytest.mark.parametrize("hop", [0.0, 0.2, 0.7, 1.5])
def test_each_window_has_its_frames_where_stretches_are_short_in_time(tmp_path, monkeypatch, hop):
    monkeypatch.setattr(windows, "SECONDS", 0.9)
    monkeypatch.setattr(windows, "READ_AHEAD", 0.5)
    path = write_video(tmp_path / "a.mp4", 44)
    grid = windows.grid(measure(path), 4, windows.Rate(stride=1), hop)
    found = all_of(path, grid)
    expected = [[first + i for i in range(4)] for first in grid.starts]
    assert [numbers(window.pixels) for window in found] == expected


@pytest.mark.parametrize("seconds", [0.5, 2.0, 100.0])  # of a window
@pytest.mark.parametrize("hop", [0.25, 2.0, 5.0, 30.0, 300.0])
@pytest.mark.parametrize("count", [16, 100, 10_000])
def test_a_stretch_is_bounded_in_moments_and_in_time_and_has_no_far_gap(seconds, hop, count):
    grid = windows.grid(Extent(3000.0, 25.0, 48, 64), 16, windows.Rate(seconds), hop)
    moments = np.unique(np.asarray(grid.starts)[:, None] + np.arange(16))
    parts = windows.stretches(moments, grid, count)
    assert [begin for begin, _ in parts] == [0, *(end for _, end in parts[:-1])]
    assert parts[-1][1] == len(moments)
    for begin, end in parts:
        some = moments[begin:end]
        assert 0 < len(some) <= count
        assert (some[-1] - some[0] + 1) / grid.rate < max(60.5, seconds + 1e-6)
        gaps = np.diff(some)
        assert (gaps[gaps > 1] <= 10 * grid.rate).all()


def test_windows_that_lie_far_apart_are_read_alone():
    grid = windows.grid(Extent(600.0, 25.0, 48, 64), 16, windows.Rate(2.0), 40.0)
    moments = np.unique(np.asarray(grid.starts)[:, None] + np.arange(16))
    assert windows.stretches(moments, grid, 10_000) == [(i, i + 16) for i in range(0, 256, 16)]


def test_a_window_is_the_clip_that_judging_sees(tmp_path):
    path = write_video(tmp_path / "a.mp4", 16)
    three = Geometry(16, test_crops=3)
    (window,) = all_of(path, windows.grid(measure(path), 8, STRIDE), three)
    clip = read_views(path, Sampling(8, 2, kind="views"), three, (0,))
    np.testing.assert_array_equal(window.pixels, clip)


@pytest.mark.parametrize(
    ("rate", "a_second"),
    [
        (windows.Rate(seconds=2.0, fps=3.0), 4.0),
        (windows.Rate(fps=3.0), 3.0),
        (windows.Rate(stride=5), 2.0),
    ],
)
def test_a_rate_is_of_seconds_or_of_moments_or_of_frames(tmp_path, rate, a_second):
    path = write_video(tmp_path / "a.mp4", 40)
    grid = windows.grid(measure(path), 8, rate)
    assert grid.rate == a_second
    assert grid.moments == 4 * a_second
    assert grid.span(0) == (0.0, 8 / a_second)


def test_a_window_longer_than_the_video_is_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", 30)
    with pytest.raises(InputError, match=r"3\.20 s is longer than the video, which has 3\.00 s"):
        windows.grid(measure(path), 16, STRIDE)


def test_what_cannot_be_read_costs_its_windows_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "STRETCH", 6 * 16 * 16 * 3)
    path = write_damaged(tmp_path / "a.mp4", 60)
    found = all_of(path, windows.grid(measure(path), 6, windows.Rate(stride=1)))
    bad = [window.number for window in found if isinstance(window.pixels, DecodeFailure)]
    assert 1 <= len(bad) <= 2
    assert set(bad) <= {4, 5}
    assert len(found) == 10


def test_a_damaged_place_costs_its_windows_however_long_the_stretch(tmp_path):
    path = write_damaged(tmp_path / "a.mp4", 120)
    found = all_of(path, windows.grid(measure(path), 6, windows.Rate(stride=1), 0.3))
    bad = [window.number for window in found if isinstance(window.pixels, DecodeFailure)]
    assert 1 <= len(bad) <= 7  # of 39, all of which are one stretch
    assert {18, 19, 20} & set(bad)


def test_of_a_video_that_was_cut_what_is_there_is_measured_and_read(tmp_path):
    def texture(number):  # noise above, so that bytes are spread over the frames
        picture = np.full((48, 64, 3), number * STEP, np.uint8)
        picture[:16] = np.random.default_rng(number).integers(0, 256, (16, 64, 3))
        return picture

    path = write_video(tmp_path / "a.mkv", 50, texture=texture)
    whole = measure(path)
    assert (whole.seconds, whole.fps, whole.lost) == (5.0, 10.0, "")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cut = measure(path)
    assert cut.lost
    assert 1 < cut.seconds < 4
    grid = windows.grid(cut, 4, windows.Rate(stride=1), 0.4)
    found = all_of(path, grid)
    read = [w for w in found if not isinstance(w.pixels, DecodeFailure)]
    assert len(read) >= len(found) - 1
    for window in read:
        first = grid.starts[window.number]
        assert numbers(window.pixels) == list(range(first, first + 4))


def test_nothing_is_measured_of_what_is_no_video(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_text("no video")
    with (
        windows.pool_of(1, 4, SMALL) as pool,
        pytest.raises(InputError, match=r"a\.mp4 cannot be read: unreadable: "),
    ):
        windows.measured(pool, str(file))


@pytest.mark.parametrize(
    ("part", "starts"),
    [
        ((0.0, np.inf), [0, 4, 8, 12, 16]),
        ((0.5, 1.4), [5, 9, 10]),  # the last ends with the part
        ((0.8, 0.9), [6]),  # shorter than a window: that around its middle
        ((0.0, 0.1), [0]),
        ((1.95, 9.0), [16]),
    ],
)
def test_windows_cover_a_part_of_a_video(part, starts):
    extent = Extent(2.0, 10.0, 48, 64)
    assert windows.grid(extent, 4, windows.Rate(), part=part).starts == starts


def test_a_part_after_the_end_is_refused():
    with pytest.raises(InputError, match=r"begins at 2 s of a video of 2\.00 s"):
        windows.grid(Extent(2.0, 10.0, 48, 64), 4, windows.Rate(), part=(2.0, 3.0))
