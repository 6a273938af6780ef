"""What is drawn is what was given: every pixel in the PNG, every frame in the films."""

import io

import av
import numpy as np
import pytest

from vivit_jax import film


def read(file) -> np.ndarray:
    """Returns the frames of a picture or film: uint8 [T H W 3]."""
    kind = "png_pipe" if file.suffix == ".png" else None
    with av.open(io.BytesIO(file.read_bytes()), format=kind) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.fixture(scope="module")
def panels() -> np.ndarray:
    """Returns three clips of smooth colours, whose frames 3 and 4 are alike."""
    y, x = np.mgrid[:20, :33]
    clips = [
        [np.stack([x * 7, y * (9 - p), np.full_like(x, 20 * t)], axis=-1) for t in range(7)]
        for p in range(3)
    ]
    panels = np.asarray(clips).astype(np.uint8)
    panels[:, 4] = panels[:, 3]
    return panels


@pytest.fixture(scope="module")
def folder(panels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures") / "50%03d"  # FFmpeg's way to number pictures
    files = film.write_panels(folder, "clip_3", panels)
    assert files == [folder / "clip_3.png", folder / "clip_3.gif"]
    return folder


def test_nothing_but_the_three_files_is_left(folder):
    assert {file.name for file in folder.iterdir()} == {"clip_3.png", "clip_3.gif", "clip_3.mp4"}


def test_a_strip_shows_a_panel_a_row_and_a_frame_a_column_pixel_by_pixel(folder, panels):
    (picture,) = read(folder / "clip_3.png")
    large, gap = 112 // 20, 4
    for p, clip in enumerate(panels):
        for t, frame in enumerate(clip):
            top, left = p * (20 * large + gap), t * (33 * large + gap)
            shown = picture[top : top + 20 * large, left : left + 33 * large]
            np.testing.assert_array_equal(shown[::large, ::large], frame)
            np.testing.assert_array_equal(shown[large - 1 :: large, large - 1 :: large], frame)
    assert picture.shape == (3 * (20 * large + gap) - gap, 7 * (33 * large + gap) - gap, 3)


@pytest.mark.parametrize(("kind", "error"), [("gif", 12), ("mp4", 6)])
def test_a_film_shows_every_frame_of_the_panels_side_by_side(folder, panels, kind, error):
    shown = read(folder / f"clip_3.{kind}")
    assert len(shown) == 7
    wanted = film.side_by_side(film.enlarge(panels))
    assert np.abs(shown.astype(float) - wanted).mean() < error
    for side in shown.shape[1:3]:
        assert side % 2 == 0


@pytest.mark.parametrize("kind", ["gif", "mp4"])
def test_a_film_lasts_as_long_as_its_frames(folder, kind):
    with av.open(str(folder / f"clip_3.{kind}")) as container:
        assert container.duration / av.time_base == pytest.approx(7 / film.FPS, abs=0.1)


def test_of_a_long_clip_a_strip_shows_sixteen_frames_from_the_first_to_the_last():
    clip = np.broadcast_to(np.arange(40, dtype=np.uint8).reshape(1, 40, 1, 1, 1), (1, 40, 8, 8, 3))
    row = film.strip(clip)[0, ::12, 0]
    assert len(row) == 16
    assert (row[0], row[-1]) == (0, 39)
    assert set(np.diff(row.astype(int))) == {2, 3}
