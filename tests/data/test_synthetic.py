"""The synthetic motions: only time tells the class, and the files are what they say."""

import dataclasses
import pathlib

import av
import numpy as np
import pytest

from vivit_jax.data import synthetic
from vivit_jax.data.synthetic import FRAMES, HEIGHT, MOTIONS, RADIUS, SPLITS, WIDTH

SMALL = {name: dataclasses.replace(split, videos=2) for name, split in SPLITS.items()}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    return synthetic.encode_motions(tmp_path_factory.mktemp("data"), SMALL)


def decode(path: pathlib.Path) -> np.ndarray:
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)])


def estimated_motion(video: np.ndarray) -> str:
    """Names the motion by optic flow: least squares of dI/dt = -dI/dx . flow over all pixels."""
    light = video.mean(axis=-1)
    for axis in (1, 2):
        for _ in range(6):  # blurs
            light = (np.roll(light, 1, axis) + 2 * light + np.roll(light, -1, axis)) / 4
    middle = (light[1:] + light[:-1]) / 2
    slopes = np.gradient(middle, axis=(1, 2))
    down, right = (slope[:, 8:-8, 8:-8].ravel() for slope in slopes)
    change = np.diff(light, axis=0)[:, 8:-8, 8:-8].ravel()
    y, x = np.mgrid[8 : HEIGHT - 8, 8 : WIDTH - 8] - np.array([HEIGHT, WIDTH])[:, None, None] / 2
    y, x = (np.tile(place.ravel() / RADIUS, len(middle)) for place in (y, x))
    columns = np.stack([right, down, down * x - right * y, down * y + right * x], axis=1)
    flow = np.linalg.lstsq(columns, -change, rcond=None)[0]
    return max(MOTIONS, key=lambda motion: np.dot(MOTIONS[motion], flow))


def test_files_are_small_h264_videos_of_every_class_in_both_splits(root):
    for split in ("train", "val"):
        for motion in MOTIONS:
            assert [p.name for p in sorted((root / split / motion).iterdir())] == [
                "000.mp4",
                "001.mp4",
            ]
    with av.open(str(root / "val" / "zoom_in" / "001.mp4")) as file:
        stream = file.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert (stream.frames, stream.height, stream.width) == (FRAMES, HEIGHT, WIDTH)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("motion", MOTIONS)
def test_optic_flow_of_decoded_frames_names_the_class(root, split, motion):
    for path in (root / split / motion).iterdir():
        assert estimated_motion(decode(path)) == motion


def test_a_motion_played_backwards_is_its_opposite(root):
    names = list(MOTIONS)  # in pairs of opposites
    for i, motion in enumerate(names):
        video = decode(root / "train" / motion / "000.mp4")
        assert estimated_motion(video[::-1]) == names[i ^ 1]


def test_where_a_video_starts_does_not_depend_on_its_class():
    first = [synthetic.render(m, SPLITS["train"], np.random.default_rng(0))[0] for m in MOTIONS]
    assert all((frame == first[0]).all() for frame in first)


def test_statistics_of_last_frames_do_not_separate_the_classes():
    def statistics(frame: np.ndarray) -> list[float]:
        light = frame.mean(axis=-1)
        fine = np.abs(np.diff(light, axis=0)).mean() + np.abs(np.diff(light, axis=1)).mean()
        across = np.abs(np.diff(light, axis=0)).mean() / np.abs(np.diff(light, axis=1)).mean()
        return [light.mean(), light.std(), np.log(fine / light.std()), across]

    table = np.array(
        [
            [
                statistics(
                    synthetic.render(motion, SPLITS["train"], np.random.default_rng((7, i, j)))[-1]
                )
                for j in range(10)
            ]
            for i, motion in enumerate(MOTIONS)
        ]
    )  # [classes, videos, statistics]
    between = table.mean(axis=1).var(axis=0, ddof=1) * table.shape[1]
    within = table.var(axis=1, ddof=1).mean(axis=0)
    assert (between / within < 3.5).all()  # F(7, 72) is above 3.5 once in 300 times


def test_a_seed_gives_the_same_file_again(root, tmp_path):
    one = {"train": dataclasses.replace(SPLITS["train"], videos=1)}
    again = synthetic.encode_motions(tmp_path, one) / "train" / "down" / "000.mp4"
    assert again.read_bytes() == (root / "train" / "down" / "000.mp4").read_bytes()


def test_splits_share_no_speed_and_no_texture():
    train, val = SPLITS["train"], SPLITS["val"]
    assert all(a[1] <= b[0] or b[1] <= a[0] for a in train.speeds for b in val.speeds)
    assert not set(train.curves) & set(val.curves)


def test_a_run_killed_while_encoding_leaves_no_data_set(tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(synthetic, "write", fail)
        with pytest.raises(KeyboardInterrupt):
            synthetic.encode_motions(tmp_path, SMALL)
    assert not list(tmp_path.iterdir())
