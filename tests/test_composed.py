"""A composed video is what its truth says."""

import av
import numpy as np
from composed import UNUSUAL, Part, Truth, compose, drawn, events

from vivit_jax.data.synthetic import FPS, HEIGHT, MOTIONS, WIDTH


def frames(path):
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def test_parts_stand_where_the_truth_says_and_same_seeds_show_the_same(tmp_path):
    parts = [Part("left", 1, seed=4), Part("noise", 0.5), Part("still", 1), Part("left", 1, seed=4)]
    truth = compose(tmp_path / "a.mp4", parts)
    assert truth == [
        Truth(0, 1, "left"),
        Truth(1, 1.5, "noise"),
        Truth(1.5, 2.5, "still"),
        Truth(2.5, 3.5, "left"),
    ]
    shown = frames(tmp_path / "a.mp4").astype(int)
    assert shown.shape == (3.5 * FPS, HEIGHT, WIDTH, 3)
    change = np.abs(np.diff(shown, axis=0)).mean(axis=(1, 2, 3))
    still, noise = change[25:39], change[16:23]
    assert still.max() < change[:15].min() < change[:15].max() < noise.min()
    assert np.abs(shown[:16] - shown[40:]).mean() < 4  # twice encoded


def test_every_unusual_kind_is_made_and_scenes_are_their_own(tmp_path):
    truth = compose(tmp_path / "a.mp4", [Part(kind, 0.5) for kind in UNUSUAL])
    assert [one.label for one in truth] == list(UNUSUAL)
    assert events(truth) == []
    first = compose(tmp_path / "b.mp4", [Part("left", 0.5), Part("left", 0.5)], seed=1)
    shown = frames(tmp_path / "b.mp4").astype(int)
    assert len(first) == 2
    assert np.abs(shown[:8] - shown[8:]).mean() > 10


def test_what_is_drawn_repeats_no_kind_and_fills_the_time():
    parts = drawn(3, 60, between=("still", "noise"))
    assert parts == drawn(3, 60, between=("still", "noise"))
    assert sum(part.seconds for part in parts) >= 60
    kinds = [part.kind for part in parts]
    assert set(kinds[::2]) <= {"still", "noise"}
    assert set(kinds[1::2]) <= set(MOTIONS)
    assert all(a != b for a, b in zip(kinds[1::2], kinds[3::2], strict=False))
