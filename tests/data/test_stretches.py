"""Stretches of a video show the frames that are shown then, wherever they are sought."""

import io

import av
import numpy as np
import pytest
from conftest import STEP, write_video
from PIL import Image

from vivit_jax.data.container import DecodeError
from vivit_jax.data.stretches import film, pictures


def numbers(video: bytes) -> list[int]:
    """Returns which frames of write_video's a film shows."""
    with av.open(io.BytesIO(video)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    return [round(float(frame[20:28, 28:36].mean()) / STEP) for frame in frames]


def times(video: bytes) -> list[float]:
    with av.open(io.BytesIO(video)) as file:
        return [round(float(frame.time), 3) for frame in file.decode(video=0)]


def shown(jpegs: list[bytes]) -> list[int]:
    arrays = [np.asarray(Image.open(io.BytesIO(jpeg))) for jpeg in jpegs]
    return [round(float(array[20:28, 28:36].mean()) / STEP) for array in arrays]


@pytest.mark.parametrize("kind", ["plain", "long_gop", "mpeg4_avi", "late"])
def test_pictures_are_those_shown_at_their_moments(videos, kind):
    found = pictures(str(videos[kind]), [0.0, 0.14, 1.0, 1.05, 3.099, 3.95], 240)
    assert shown(found) == [0, 1, 10, 10, 30, 39]


def test_what_lies_far_apart_is_sought(videos):
    assert shown(pictures(str(videos["minute"]), [2.0, 2.9, 20.5, 47.0], 240)) == [2, 2, 20, 47]


def test_a_film_shows_the_stretches_one_after_another_at_the_videos_rate(videos):
    made = film(str(videos["plain"]), [(0.5, 0.8), (2.0, 2.2)], 240)
    assert numbers(made) == [5, 6, 7, 20, 21]
    np.testing.assert_allclose(times(made), [0, 0.1, 0.2, 0.3, 0.4], atol=0.002)
    with av.open(io.BytesIO(made)) as file:
        assert file.streams.video[0].codec_context.name == "h264"
        assert float(file.duration / av.time_base) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("reordered", ["0", "2"])
def test_a_film_of_an_avi_shows_every_frame_of_its_stretches(tmp_path, reordered):
    options = {"bf": reordered, "qmin": "1", "qmax": "1"}
    path = write_video(tmp_path / "a.avi", codec="mpeg4", options=options)  # ticks of a frame
    made = film(str(path), [(0.5, 0.8), (2.0, 2.2)], 240)
    assert numbers(made) == [5, 6, 7, 20, 21]
    np.testing.assert_allclose(times(made), [0, 0.1, 0.2, 0.3, 0.4], atol=0.002)


def test_where_nothing_can_be_sought_far_stretches_are_shown_as_well(unseekable):
    assert shown(pictures(str(unseekable), [2.0, 20.5, 47.0], 240)) == [2, 20, 47]
    assert numbers(film(str(unseekable), [(1, 3), (20, 21), (40, 42)], 240)) == [1, 2, 20, 40, 41]


def test_stretches_that_end_just_after_a_frame_begins_are_shown(tmp_path):
    path = write_video(tmp_path / "a.webm", 40, codec="libvpx-vp9", fps=30)  # ticks of 1 ms
    made = film(str(path), [(0.2, 1.0 / 3), (0.5, 0.7), (1.0, 1.1)], 240)
    assert numbers(made) == [6, 7, 8, 9, *range(15, 21), 30, 31, 32]


def test_a_film_of_far_stretches_has_no_gaps(videos):
    made = film(str(videos["minute"]), [(1, 3), (20, 21), (40, 42)], 240)
    assert numbers(made) == [1, 2, 20, 40, 41]
    np.testing.assert_allclose(times(made), range(5), atol=0.01)


def test_stretches_that_touch_show_each_frame_once(videos):
    made = film(str(videos["plain"]), [(0.0, 0.25), (0.25, 0.5)], 240)
    assert numbers(made) == [0, 1, 2, 2, 3, 4]  # frame 2 is shown from 0.2 to 0.3 s


def test_pictures_are_upright_of_square_pixels_and_never_enlarged(tmp_path):
    path = write_video(tmp_path / "a.mp4", 10, rotation=90, height=48, width=96)
    for most, size in ((480, (48, 96)), (24, (24, 48))):
        with av.open(io.BytesIO(film(str(path), [(0, 0.5)], most))) as file:
            stream = file.streams.video[0]
            assert (stream.width, stream.height) == size
    (picture,) = pictures(str(path), [0.0], 24)
    assert Image.open(io.BytesIO(picture)).size == (24, 48)


def test_after_its_end_a_video_shows_its_last_frame(videos):
    assert shown(pictures(str(videos["plain"]), [3.9, 4.5], 240)) == [39, 39]
    with pytest.raises(DecodeError, match="not a video"):
        pictures(__file__, [0.0], 240)
