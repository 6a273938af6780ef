"""Every window of a video has its row, or is told as lost."""

import numpy as np
import pytest
from data.conftest import STEP, write_damaged, write_video

from vivit_jax import watching
from vivit_jax.data import windows
from vivit_jax.data.geometry import Geometry
from vivit_jax.errors import InputError
from vivit_jax.watching import Watcher

SMALL = Geometry(16, test_crops=1)
EACH = windows.Rate(stride=1)


def brightness(clips):
    return (clips[:, 0, :, 8, 8].mean(axis=-1) / STEP).round()


@pytest.mark.parametrize("group", [1, 3, 16])
def test_rows_are_in_the_order_of_the_windows_whatever_the_group(tmp_path, monkeypatch, group):
    monkeypatch.setattr(watching, "GROUP", group)
    path = write_video(tmp_path / "a.mp4", 20)
    with Watcher(4, EACH, SMALL, hop=0.2, workers=1) as watcher:
        watched = watcher.watch(str(path), brightness)
    first = np.arange(0, 17, 2)
    np.testing.assert_allclose(watched.rows, first[:, None] + np.arange(4), atol=0.2)
    np.testing.assert_allclose(watched.spans, np.stack([first, first + 4], axis=1) / 10)
    assert watched.there.all()
    assert watched.lost == []


def test_what_is_lost_is_told_once_with_its_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "STRETCH", 6 * 16 * 16 * 3)
    path = write_damaged(tmp_path / "a.mp4", 60)
    with Watcher(3, EACH, SMALL, workers=2) as watcher:
        watched = watcher.watch(str(path), lambda clips: clips.mean(axis=(1, 2, 3, 4, 5)))
    (lost,) = watched.lost
    assert lost.cause == "corrupt"
    assert not watched.there.all()
    for (begin, end), there in zip(watched.spans, watched.there, strict=True):
        assert there == (end <= lost.begin + 1e-6 or begin >= lost.end - 1e-6)


def test_a_video_of_which_nothing_can_be_read_is_named(tmp_path):
    file = tmp_path / "a.mp4"
    file.write_text("no video")
    short = write_video(tmp_path / "short.mp4", 3)
    with Watcher(4, EACH, SMALL, workers=1) as watcher:
        with pytest.raises(InputError, match=r"a\.mp4 cannot be read: unreadable"):
            watcher.watch(str(file), brightness)
        with pytest.raises(InputError, match=r"short\.mp4: a window of 0\.40 s is longer"):
            watcher.watch(str(short), brightness)


def test_a_window_of_which_a_model_says_nothing_finite_is_lost(tmp_path):
    path = str(write_video(tmp_path / "a.mp4", 20))

    def see(clips):
        first = brightness(clips)[:, :1]
        return np.where(first == 4, np.inf, np.where(first == 8, np.nan, first))

    with Watcher(4, EACH, SMALL, workers=1) as watcher:
        watched = watcher.watch(path, see)
        np.testing.assert_array_equal(watched.there, [True, False, False, True, True])
        (lost,) = watched.lost
        assert lost[:3] == (0.4, 1.2, "not_finite")
        with pytest.raises(InputError, match=r"a\.mp4 can be used: not_finite: the model's output"):
            watcher.watch(path, lambda clips: np.full((len(clips), 2), np.nan))
