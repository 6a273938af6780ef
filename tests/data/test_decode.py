"""The pixels of a clip are those of the frames nearest in time, upright, or a named refusal."""

import os
import pathlib
import shutil
from fractions import Fraction

import av
import av.stream
import numpy as np
import pytest
from conftest import STEP, frames_of, write_video

from vivit_jax.data import canvas, container, decode
from vivit_jax.data.clips import Moments, Sampling
from vivit_jax.data.decode import DecodeError, measure, read_views
from vivit_jax.data.geometry import Box, Geometry, choose_boxes
from vivit_jax.data.scale import Scaler, quarter_turns

SMALL = Geometry(16)
EVERY_SECOND = Sampling(6, 2, kind="views", views=3)


def naive(path: pathlib.Path, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns (times, pixels) of all frames of a video, decoded from first to last."""
    scaler, stamps, pixels = Scaler(size), [], []
    with av.open(path) as opened:
        stream = opened.streams.video[0]
        tick = float(stream.time_base or 0)
        for frame in opened.decode(stream):
            height, width = (
                float(frame.height),
                frame.width * float(stream.sample_aspect_ratio or 1),
            )
            if quarter_turns(frame) % 2:
                height, width = width, height
            (box,) = choose_boxes(Geometry(size), height, width, np.random.default_rng())
            shares = box.top / height, box.left / width, box.height / height, box.width / width
            pixels.append(np.empty((size, size, 3), np.uint8))
            scaler(frame, Box(*shares), pixels[-1])
            stamps.append(frame.pts)
        times = np.array(stamps) * tick
        if (np.diff(times) <= 0).any() or opened.format.name == "avi":  # only order is known
            times = np.arange(len(stamps)) / float(stream.average_rate or 0)
    return times, np.stack(pixels)


def check_exact(path: pathlib.Path, monkeypatch, trials: int = 6) -> None:
    """Compares random moments of a video with a full decode of it."""
    rng = np.random.default_rng(0)
    times, pixels = naive(path, 12)
    for trial in range(trials):
        count = rng.integers(1, 17)
        start = rng.uniform(times[0], times[-1])
        stop = times[-1] if trial % 2 else min(start + 0.7, times[-1])
        moments = np.sort(rng.uniform(start, stop, (2, count)))
        monkeypatch.setattr(decode, "clip_times", lambda *_, moments=moments: moments)
        views = read_views(path, Sampling(int(count)), Geometry(12), (0,))
        nearest = np.abs(times - moments[..., None]).argmin(axis=-1)
        np.testing.assert_array_equal(views, pixels[nearest], err_msg=f"{path.name} {moments}")


@pytest.mark.parametrize(
    "name",
    ["plain", "uneven", "long_gop", "no_reorder", "mpeg4_avi", "vp9", "late", "minute"],
)
def test_random_moments_equal_a_full_decode(name, videos, monkeypatch):
    check_exact(videos[name], monkeypatch)


def test_random_moments_of_real_videos_equal_a_full_decode(real_clips, monkeypatch):
    whole = [path for path in real_clips if path.parent.name != "odd"]
    assert whole
    for path in whole:
        check_exact(path, monkeypatch, trials=2)


def test_where_nothing_can_be_sought_far_moments_are_shown_as_well(unseekable):
    views = read_views(unseekable, Moments((2.0, 20.0, 47.0)), SMALL, (0,))
    np.testing.assert_array_equal(frames_of(views), [[2, 20, 47]])


def test_bytes_give_what_the_file_gives(videos):
    path = videos["plain"]
    np.testing.assert_array_equal(
        read_views(path.read_bytes(), EVERY_SECOND, SMALL, (0,)),
        read_views(path, EVERY_SECOND, SMALL, (0,)),
    )


def test_frames_are_chosen_by_time_not_by_number(videos):
    times = np.cumsum([0.02, 0.3, 0.05, 0.1] * 10)
    views = read_views(videos["uneven"], Sampling(5, fps=2, kind="views"), SMALL, (0,))
    gaps = np.diff(times[frames_of(views)[0]])
    assert (np.abs(gaps - 0.5) < 0.3).all()  # each moment is at most half a gap of 0.3 s off


def test_a_late_first_frame_is_the_first(videos):
    views = read_views(videos["late"], Sampling(40, 1), SMALL, (0,))
    np.testing.assert_array_equal(frames_of(views), [np.arange(40)])


@pytest.mark.parametrize(
    ("span", "numbers"),
    [((0.5, 1.0), range(5, 10)), ((0.51, 0.53), [5, 5, 5]), ((3.8, 9.0), [38, 39, 38, 39])],
)
def test_a_span_is_all_that_clips_are_taken_from(span, numbers, videos):
    views = read_views(videos["plain"], Sampling(len(numbers), 1), SMALL, (0,), span)
    np.testing.assert_array_equal(frames_of(views)[0], list(numbers))


def test_a_span_after_the_end_is_refused(videos):
    with pytest.raises(DecodeError, match="7.00 s are wanted of a video of 4.00 s"):
        read_views(videos["plain"], Sampling(4), SMALL, (0,), (7.0, 8.0))


def test_views_come_clip_by_clip_then_crop_by_crop(tmp_path):
    def texture(i):
        bright = np.linspace(0, 250, 128)[None, :, None]  # brighter to the right
        return np.broadcast_to(bright * (0.5 + i / 80), (64, 128, 3)).astype(np.uint8)

    path = write_video(tmp_path / "ramp.mp4", width=128, height=64, texture=texture)
    views = read_views(
        path, Sampling(2, 2, kind="views", views=2), Geometry(16, test_crops=3), (0,)
    )
    assert views.shape == (6, 2, 16, 16, 3)
    level = views.mean(axis=(1, 2, 3, 4)).reshape(2, 3)
    assert (np.diff(level, axis=0) > 0).all()
    assert (np.diff(level, axis=1) > 0).all()


def test_the_same_key_gives_the_same_pixels_and_another_others(videos):
    geometry = Geometry(16, crop="random_resized")
    read = [read_views(videos["plain"], Sampling(4, 2), geometry, (key,)) for key in (1, 1, 2)]
    np.testing.assert_array_equal(read[0], read[1])
    assert (read[0] != read[2]).any()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_pictures_are_upright_and_the_box_is_of_the_upright_picture(rotation, tmp_path):
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48, 0] = upright[32:, 48:, 1] = upright[:32, 48:, 2] = 255
    coded = np.rot90(upright, -rotation // 90)
    path = write_video(
        tmp_path / "turned.mp4",
        3,
        height=coded.shape[0],
        width=coded.shape[1],
        rotation=rotation,
        texture=lambda i: np.ascontiguousarray(coded),
    )
    left, _, right = read_views(path, Sampling(1), Geometry(64, test_crops=3), (0,))[:, 0]
    for view, corners in ((left, ("red", "blue")), (right, ("red", "blue"))):
        found = ["red" if view[8, x].argmax() == 0 else "blue" for x in (8, 56)]
        assert tuple(found) == corners
    assert left[8, 40].argmax() == 0  # of 64 pixels the left crop has 48 of the red
    assert right[8, 24].argmax() == 2


def test_wide_pixels_widen_the_picture(tmp_path):
    path = write_video(tmp_path / "anamorphic.mp4", 3, pixel_width=Fraction(2))
    boxes = []

    def spy(geometry, height, width, rng):
        boxes.append((height, width))
        return choose_boxes(geometry, height, width, rng)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(canvas, "choose_boxes", spy)
        read_views(path, Sampling(1), SMALL, (0,))
    assert boxes == [(48, 128)]


def test_cover_art_is_not_the_video(tmp_path):
    path = tmp_path / "cover.mp4"
    source = write_video(tmp_path / "plain.mp4", 20)
    with av.open(source) as taken, av.open(path, "w") as made:
        art = made.add_stream("mjpeg", rate=1)
        art.width, art.height, art.pix_fmt = 64, 48, "yuvj420p"
        art.disposition = av.stream.Disposition.attached_pic
        moving = made.add_stream_from_template(taken.streams.video[0])
        picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 250, np.uint8), "rgb24")
        made.mux(art.encode(picture) + art.encode(None))
        for packet in taken.demux(video=0):
            if packet.size:
                packet.stream = moving
                made.mux(packet)
    with av.open(path) as opened:
        assert len(opened.streams.video) == 2
    np.testing.assert_array_equal(
        frames_of(read_views(path, Sampling(20), SMALL, (0,)))[0], range(20)
    )


def test_a_long_sound_does_not_lengthen_the_video(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(path, "w") as made:
        video = made.add_stream("libx264", rate=10, options={"qp": "4"})
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        sound = made.add_stream("aac", rate=8000, layout="mono")
        for i in range(20):
            pixels = np.full((48, 64, 3), i * STEP, np.uint8)
            made.mux(video.encode(av.VideoFrame.from_ndarray(pixels, "rgb24")))
        made.mux(video.encode(None))
        for i in range(30):
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
            silence.sample_rate, silence.pts = 8000, 1024 * i
            made.mux(sound.encode(silence))
        made.mux(sound.encode(None))
    raw = path.read_bytes().replace(b"DURATION", b"DURATIOX")  # else each stream tells its own
    views = read_views(raw, Sampling(20, 1, kind="views", views=2), SMALL, (0,))
    np.testing.assert_array_equal(frames_of(views), [range(20), range(20)])


@pytest.mark.parametrize("share", [0.1, 0.4, 0.7])
@pytest.mark.parametrize("name", ["long_gop", "mpeg4_avi", "vp9"])
def test_truncated_videos_are_refused_when_what_is_missing_is_wanted(name, share, videos):
    content = videos[name].read_bytes()
    spread = Sampling(8, kind="segments")
    assert read_views(content, spread, SMALL, (0,)).any()
    with pytest.raises(DecodeError) as caught:
        read_views(content[: int(len(content) * share)], spread, SMALL, (0,))
    assert caught.value.cause in ("truncated", "corrupt", "unreadable", "empty")


def test_a_damaged_picture_is_refused(videos):
    content = bytearray(videos["long_gop"].read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    with pytest.raises(DecodeError):
        read_views(bytes(content), Sampling(40, 1), SMALL, (0,))


@pytest.mark.parametrize(
    ("name", "content", "cause"),
    [
        ("none.mp4", None, "missing"),
        ("empty.mp4", b"", "empty"),
        ("junk.mp4", b"not a video" * 100, "unreadable"),
        ("list.mp4", b"ffconcat version 1.0\nfile 'plain.mp4'\n", "unreadable"),
        ("playlist.mp4", b"#EXTM3U\n#EXTINF:1,\nplain.mp4\n#EXT-X-ENDLIST\n", "unreadable"),
    ],
)
def test_what_is_no_video_is_refused_by_name(name, content, cause, tmp_path, videos):
    shutil.copy(videos["plain"], tmp_path / "plain.mp4")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DecodeError) as caught:
        read_views(tmp_path / name, Sampling(4), SMALL, (0,))
    assert caught.value.cause == cause
    assert caught.value.message


def test_a_picture_of_too_many_pixels_is_refused_before_it_is_decoded(videos, monkeypatch):
    monkeypatch.setattr(container, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(DecodeError, match="64x48") as caught:
        read_views(videos["plain"], Sampling(4), SMALL, (0,))
    assert caught.value.cause == "too_large"


def test_a_folder_and_a_pipe_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "folder.mp4").mkdir()
    for name in ("pipe.mp4", "folder.mp4"):
        with pytest.raises(DecodeError, match="not a regular file"):
            read_views(tmp_path / name, Sampling(4), SMALL, (0,))


@pytest.mark.parametrize(
    "name", ["-dash.mp4", "a b\n.mp4", "100%.mp4", "file:x.mp4", "a\udce9.mp4"]
)
def test_odd_names_are_only_names(name, tmp_path, videos):
    shutil.copy(videos["plain"], tmp_path / name)
    assert read_views(str(tmp_path / name), Sampling(4), SMALL, (0,)).shape == (1, 4, 16, 16, 3)


def test_every_odd_video_gives_frames_or_a_named_refusal(real_clips):
    odd = [path for path in real_clips if path.parent.name == "odd"]
    for path in odd:
        for sampling in (EVERY_SECOND, Sampling(8, kind="segments")):
            try:
                found = read_views(path, sampling, SMALL, (0,)).ndim == 5
            except DecodeError as refusal:
                found = refusal.cause and refusal.message
            assert found


@pytest.mark.parametrize("reordered", ["0", "2"])
def test_frames_that_an_avi_leaves_empty_are_not_counted(reordered, tmp_path):
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as made:
        stream = made.add_stream("libx264", rate=20, options={"bf": reordered, "qp": "4"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(24):  # every second one is left out
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), i * STEP, np.uint8), "rgb24")
            frame.pts, frame.time_base = 2 * i, Fraction(1, 20)
            made.mux(stream.encode(frame))
        made.mux(stream.encode(None))
    assert measure(path).fps == pytest.approx(10)
    clip = read_views(path, Moments((0.0, 1.0, 2.0)), Geometry(16, test_crops=1), (0,))[0]
    assert (clip.mean(axis=(1, 2, 3)) / STEP).round().tolist() == [0, 10, 20]
