"""Records give the clips that their files give, and are refused where they are not whole."""

import dataclasses
import json
import pathlib
import shutil

import numpy as np
import pytest
from conftest import STEP, frames_of, write_video
from test_build import build_with

from vivit_jax import config
from vivit_jax.data import jpeg_clips, record_table
from vivit_jax.data.catalog import open_dataset
from vivit_jax.data.clips import Sampling
from vivit_jax.data.decode import read_views
from vivit_jax.data.encoding import encode
from vivit_jax.data.examples import fingerprint
from vivit_jax.data.frames import Frames, Wanted, choose, size_of
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.pipeline import eval_batches, train_batches
from vivit_jax.data.record_format import NANO, Form
from vivit_jax.data.records import Record
from vivit_jax.errors import InputError
from vivit_jax.host_tensorflow import host_tensorflow

tf = host_tensorflow()

DATA = config.Data(batch_size=4, frames=4, stride=2, image_size=32, holdout=0.0, labels="none")


def smooth(i: int):
    """Returns frames of a picture that tells places and frames apart; see conftest.write_video."""
    rows, columns = np.mgrid[:96, :128].astype(float)

    def texture(frame: int) -> np.ndarray:
        waves = [np.sin((columns + 9 * frame) / 14), np.cos((rows + 5 * i) / 11), (rows - 48) / 48]
        return np.stack([110 + 90 * wave for wave in waves], axis=-1).clip(0, 255).astype(np.uint8)

    return texture


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Returns a folder of videos without labels, the last of which is empty."""
    root = tmp_path_factory.mktemp("smooth")
    for i in range(5):
        options = {"g": "12", "qp": "8"}
        write_video(root / f"{i}.mp4", 30, height=96, width=128, texture=smooth(i), options=options)
    (root / "9.mp4").write_bytes(b"")
    return root


@pytest.fixture(scope="module")
def built(folder, tmp_path_factory) -> dict[str, pathlib.Path]:
    """Returns the datasets of that folder, by form."""
    out = tmp_path_factory.mktemp("built")
    flags = ("--root", str(folder), "--labels", "none", "--holdout", "0", "--shard-videos", "2")
    return {
        form: build_with(out, *flags, "--form", form, "--name", form, "--quality", "95")
        for form in ("jpeg", "video")
    }


def opened(path: pathlib.Path, **options):
    """Returns how records are read, and the training source."""
    data = dataclasses.replace(DATA, dataset="records", root=str(path), max_bad=0.5, **options)
    return data, open_dataset(data).train


def as_frames(content: dict) -> Frames:
    """Returns what encoding.encode gave, as a record would give it."""
    times = np.array(content["nanoseconds"]) / NANO
    numbers = (content[name] / NANO for name in ("length", "shown", "nano_fps"))
    return Frames(content["frames"], times, *numbers, tuple(content["display"]))


def views(frames: Frames, sampling: Sampling, geometry: Geometry, key: tuple[int, ...]):
    """Returns the views of frames, as read_views does of a file."""
    shape = (sampling.clips * geometry.boxes, sampling.frames, geometry.size, geometry.size, 3)
    wanted = Wanted(*map(tf.constant, choose(frames, sampling, geometry, key)))
    return jpeg_clips.decode(wanted, shape).numpy()


@pytest.mark.parametrize("name", ["plain", "uneven", "long_gop", "mpeg4_avi", "vp9", "late"])
def test_the_same_moments_are_shown(name, videos):
    frames = as_frames(encode(str(videos[name]), None, Form()))
    geometry = Geometry(16)
    for kind in ("random", "segments", "segment_views", "views"):
        for sampling in (Sampling(8, 3, kind=kind, views=2), Sampling(16, 4, kind=kind, views=2)):
            for key in range(2):
                here = views(frames, sampling, geometry, (1, key))
                there = read_views(videos[name], sampling, geometry, (1, key))
                difference = here.mean(axis=(2, 3, 4)) - there.mean(axis=(2, 3, 4))
                assert np.abs(difference).max() < 0.6 * STEP  # nearer than another frame


def test_a_span_shows_the_moments_of_the_span(videos):
    for span in ((1.0, 3.0), (0.55, 9.0)):
        frames = as_frames(encode(str(videos["plain"]), span, Form()))
        video = encode(str(videos["plain"]), span, Form(kind="video"))["video"]
        offset = round(span[0] * 10 + 1e-6)
        for key in range(4):
            args = (Sampling(6, 2), Geometry(16), (key,))
            there = frames_of(read_views(videos["plain"], *args, span))
            np.testing.assert_array_equal(frames_of(views(frames, *args)), there)
            np.testing.assert_array_equal(frames_of(read_views(video, *args)), there)
            assert there.min() >= offset


@pytest.mark.parametrize("form", ["jpeg", "video"])
def test_training_sees_what_it_sees_of_files(form, folder, built):
    files = dataclasses.replace(DATA, root=str(folder), max_bad=0.5, repeats=2)
    data, source = opened(built[form], repeats=2)
    with (
        train_batches(open_dataset(files).train, files, seed=3) as there,
        train_batches(source, data, seed=3) as here,
    ):
        for _ in range(3):
            a, b = next(here), next(there)
            assert a.keys() == b.keys()
            for key in a.keys() - {"video"}:
                np.testing.assert_array_equal(a[key], b[key])
                assert a[key].dtype == b[key].dtype
            assert a["video"].dtype == np.uint8
            difference = np.abs(a["video"].astype(int) - b["video"])
            assert difference.mean() < 4
            assert not a["video"][~a["valid"]].any()
            other = np.abs(a["video"][:, 1:].astype(int) - b["video"][:, :-1])
            assert other[a["valid"]].mean() > 2 * difference.mean() + 3  # it can tell frames apart
        assert here.bad.records == there.bad.records
        assert here.bad.counts == {"empty": 1}


def test_evaluation_sees_what_it_sees_of_files(folder, built):
    files = dataclasses.replace(DATA, root=str(folder))
    data, source = opened(built["jpeg"])
    options = {"clips": 2, "crops": 3, "batch_size": 4}
    with (
        eval_batches(open_dataset(files).train, files, **options) as there,
        eval_batches(source, data, **options) as here,
    ):
        for a, b in zip(here, there, strict=True):
            assert a["video"].shape == b["video"].shape == (4, 6, 4, 32, 32, 3)
            np.testing.assert_array_equal(a["index"], b["index"])
            np.testing.assert_array_equal(a["valid"], b["valid"])
            assert np.abs(a["video"].astype(int) - b["video"]).mean() < 5


def test_workers_and_steps_change_nothing(built):
    def take(start: int, steps: int, **options) -> np.ndarray:
        data, source = opened(built["jpeg"], **options)
        with train_batches(source, data, seed=1, start_step=start) as batches:
            return np.stack([next(batches)["video"] for _ in range(steps)])

    straight = take(0, 4, workers=1)
    np.testing.assert_array_equal(take(0, 4, workers=3), straight)
    np.testing.assert_array_equal(take(2, 2, workers=2), straight[2:])


def test_large_pictures_shrink_while_they_are_decoded(videos, folder):
    path = str(folder / "0.mp4")
    frames = as_frames(encode(path, None, Form(quality=95)))
    args = (Sampling(2), Geometry(24), (0,))
    assert choose(frames, *args).ratio == 2  # 96 rows become 24
    there = read_views(path, *args)
    assert np.abs(views(frames, *args).astype(int) - there).mean() < 5


def test_ids_and_labels_are_known_without_reading_a_record(built, folder, monkeypatch):
    monkeypatch.setattr(Record, "read", None)
    _, source = opened(built["jpeg"])
    files = open_dataset(dataclasses.replace(DATA, root=str(folder))).train
    assert fingerprint(source) == fingerprint(files)


@pytest.mark.parametrize("form", ["jpeg", "video"])
def test_without_its_table_a_shard_is_read_whole_and_alike(form, built, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(built[form], copy)
    shutil.rmtree(copy / record_table.FOLDER)
    (_, here), (_, there) = opened(copy), opened(built[form])
    for i in range(5):
        a, b = here.example(i).video.read(), there.example(i).video.read()
        if form == "video":
            assert a == b
            continue
        assert list(a.jpegs) == list(b.jpegs)
        np.testing.assert_array_equal(a.times, b.times)
        for name in ("length", "shown", "fps", "display"):
            assert getattr(a, name) == getattr(b, name)


def copied(built: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
    """Returns a copy of a dataset, to be spoilt."""
    return pathlib.Path(shutil.copytree(built, tmp_path / "copy"))


def test_a_changed_byte_costs_the_video_it_is_in(built, tmp_path):
    copy = copied(built["jpeg"], tmp_path)
    shard = next(copy.glob("*array_record-00001*"))
    data, source = opened(copy)
    frame = source.example(2).video.read().jpegs[0]
    content = bytearray(shard.read_bytes())
    content[content.index(frame) + len(frame) // 2] ^= 4
    shard.write_bytes(content)
    data, source = opened(copy, sampling="segments", frames=30)  # every frame of every video
    with train_batches(source, data, seed=0) as batches:
        [next(batches) for _ in range(2)]
        causes = {record["id"]: record["cause"] for record in batches.bad.records}
    assert causes == {"2.mp4": "corrupt", "9.mp4": "empty"}
    shutil.rmtree(copy / record_table.FOLDER)
    data, source = opened(copy)
    with train_batches(source, data, seed=0) as batches:
        [next(batches) for _ in range(2)]
        assert batches.bad.counts == {"corrupt": 1, "empty": 1}


def test_what_is_not_whole_is_refused_by_name(built, tmp_path):
    copy = copied(built["jpeg"], tmp_path)
    shard = next(copy.glob("*array_record-00001*"))
    content = shard.read_bytes()
    shard.write_bytes(content[:-100])
    with pytest.raises(InputError, match=rf"{shard.name}: \d+ bytes, expected {len(content)}"):
        opened(copy)
    shard.unlink()
    with pytest.raises(InputError, match=f"(?s)1 of 3 shards are gone.*{shard.name}: no such"):
        opened(copy)
    shard.write_bytes(content)
    index = copy / "train.index.jsonl"
    lines = index.read_text().splitlines(keepends=True)
    for spoilt, fault in (("".join(lines[:-1]), "has 5 lines, expected 6"), ("{", "damaged")):
        index.write_text(spoilt)
        with pytest.raises(InputError, match=fault):
            opened(copy)


def test_another_version_of_the_format_is_refused(built, tmp_path):
    copy = copied(built["jpeg"], tmp_path)
    about = json.loads((copy / "vivit_jax.json").read_text())
    (copy / "vivit_jax.json").write_text(json.dumps({**about, "format": 99}))
    with pytest.raises(InputError, match=r"format 99, and this program reads format 1"):
        opened(copy)
    (copy / "vivit_jax.json").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        opened(copy)


def test_a_root_means_one_dataset(built, tmp_path):
    parent = built["jpeg"].parents[1]  # of both forms
    with pytest.raises(InputError, match="2 datasets"):
        opened(parent)
    assert len(opened(parent / "jpeg")[1]) == 6
    with pytest.raises(InputError, match="holds no records"):
        opened(tmp_path)
    with pytest.raises(InputError, match="not a folder"):
        opened(tmp_path / "none")


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"labels": "single"}, "was built with --labels none"),
        ({"train_list": "a.csv"}, "data.train_list is set"),
    ],
)
def test_options_that_do_not_fit_are_refused(options, fault, built):
    with pytest.raises(InputError, match=fault):
        opened(built["jpeg"], **options)


def test_a_jpeg_that_is_none_is_told_by_its_header(folder):
    from vivit_jax.data.container import DecodeError

    jpeg = encode(str(folder / "0.mp4"), None, Form())["frames"][0]
    assert size_of(jpeg) == (96, 128)
    for spoilt, cause in (
        (b"\x89PNG" + jpeg, "codec"),
        (jpeg[:-40], "corrupt"),
        (jpeg[:30], "corrupt"),
        (b"", "codec"),
    ):
        with pytest.raises(DecodeError) as found:
            size_of(spoilt)
        assert found.value.cause == cause


def test_real_clips_agree(real_clips, tmp_path):
    for path in real_clips[:8]:
        args = (Sampling(4, 2, kind="views", views=2), Geometry(64), (0,))
        frames = as_frames(encode(str(path), (0.0, 2.0), Form(short_side=128, quality=90)))
        there = read_views(path, *args, (0.0, 2.0))
        assert np.abs(views(frames, *args).astype(int) - there).mean() < 5, path.name
