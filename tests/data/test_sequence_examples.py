"""Datasets of SequenceExamples are read as Scenic's and DMVR's tools write them."""

import dataclasses
import io
import pathlib

import pytest
from conftest import STEP, frames_of
from PIL import Image

from vivit_jax import config
from vivit_jax.data import sequence_examples
from vivit_jax.data.catalog import open_dataset
from vivit_jax.data.pipeline import eval_batches, train_batches
from vivit_jax.data.sequence_examples import INDEX
from vivit_jax.errors import InputError
from vivit_jax.host_tensorflow import host_tensorflow

tf = host_tensorflow()
NAMES = ("run", "jump", "sit")
DATA = config.Data(dataset="sequence_examples", batch_size=4, frames=4, stride=2, image_size=16)


def jpeg(brightness: int) -> bytes:
    """Returns a grey picture."""
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (brightness,) * 3).save(out, "JPEG", quality=95)
    return out.getvalue()


def record(number: int, frames: int = 20, spoil: bytes | None = None, **fields) -> bytes:
    """Returns a SequenceExample whose frame i has brightness i * STEP.

    Args:
      number: of the video; it tells the label.
      frames: how many.
      spoil: in place of the frames.
      **fields: "media_id", "timestamps" or "bounds" to have these, "bare" for no label.
    """
    sequence = tf.train.SequenceExample()
    context, lists = sequence.context.feature, sequence.feature_lists.feature_list
    if "bare" not in fields:
        context["clip/label/index"].int64_list.value.append(number % 3)
        context["clip/label/text"].bytes_list.value.append(NAMES[number % 3].encode())
    name = "clip/media_id" if "media_id" in fields else "video/filename"
    context[name].bytes_list.value.append(f"v{number}.mp4".encode())
    if "bounds" in fields:
        context["clip/start/timestamp"].int64_list.value.append(2_000_000)
        context["clip/end/timestamp"].int64_list.value.append(2_000_000 + frames * 100_000)
    for i in range(frames):
        lists["image/encoded"].feature.add().bytes_list.value.append(spoil or jpeg(i * STEP))
        if "timestamps" in fields:
            lists["image/timestamp"].feature.add().int64_list.value.append(2_000_000 + i * 50_000)
    return sequence.SerializeToString()


def write(root: pathlib.Path, name: str, records: list[bytes], shards: int = 2) -> None:
    """Writes shards of records, one after another, as DMVR's example does."""
    root.mkdir(parents=True, exist_ok=True)
    paths = [str(root / f"{name}-{i:05d}-of-{shards:05d}") for i in range(shards)]
    writers = [tf.io.TFRecordWriter(path) for path in paths]
    for i, content in enumerate(records):
        writers[i % shards].write(content)
    for writer in writers:
        writer.close()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> pathlib.Path:
    """Returns a dataset of six training videos and three to test."""
    root = tmp_path_factory.mktemp("dmvr")
    write(root, "train", [record(i, bounds=1) for i in range(6)])
    write(root, "test", [record(10 + i, media_id=1, timestamps=1) for i in range(3)])
    return root


def opened(root: pathlib.Path, **options):
    """Returns the sources of a folder."""
    return open_dataset(dataclasses.replace(DATA, root=str(root), **options))


def test_ids_labels_and_names_are_the_records_own(root):
    sources = opened(root)
    assert sources.label_map == NAMES
    train = [sources.train.example(i) for i in range(6)]
    assert [example.id for example in train] == [f"v{i}.mp4" for i in (0, 2, 4, 1, 3, 5)]
    assert [example.label for example in train] == [0, 2, 1, 1, 0, 2]
    assert [sources.eval.example(i).id for i in range(3)] == ["v10.mp4", "v12.mp4", "v11.mp4"]


def test_the_index_is_made_once_and_again_when_a_file_changes(root, tmp_path, monkeypatch):
    opened(root)
    assert (root / INDEX).exists()
    with monkeypatch.context() as patch:
        patch.setattr(sequence_examples, "_scan", None)
        assert len(opened(root).train) == 6
    write(tmp_path, "train", [record(0), record(1)])
    assert len(opened(tmp_path, holdout=0.0).train) == 2
    write(tmp_path, "train", [record(i) for i in range(4)])
    assert len(opened(tmp_path, holdout=0.0).train) == 4


def test_where_nothing_can_be_written_the_index_goes_into_the_cache(tmp_path, monkeypatch):
    write(tmp_path / "data", "train", [record(0), record(1)])
    (tmp_path / "data" / INDEX).mkdir()  # in the way, as a read-only disk would be
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    opened(tmp_path / "data", holdout=0.0)
    assert len(list((tmp_path / "cache/vivit_jax").iterdir())) == 1
    monkeypatch.setattr(sequence_examples, "_scan", None)
    assert len(opened(tmp_path / "data", holdout=0.0).train) == 2


def test_frames_are_decoded_by_number_or_by_their_times(root):
    data = dataclasses.replace(DATA, root=str(root), crop="centre", sampling="centre")
    sources = open_dataset(data)
    with train_batches(sources.train, data, seed=0) as batches:
        batch = next(batches)
    assert batch["valid"].all()
    assert frames_of(batch["video"]).tolist() == [[6, 8, 10, 12]] * 4
    slow = dataclasses.replace(data, fps=5.0)  # of 10 a second, and of 20
    for split, expected in (("train", [6, 8, 10, 12]), ("eval", [3, 7, 11, 15])):
        source = getattr(sources, split)
        with eval_batches(source, slow, clips=1, crops=1, batch_size=3) as batches:
            video = next(batches)["video"]
        assert frames_of(video.reshape(-1, 4, 16, 16, 3)).tolist() == [expected] * 3


def test_a_record_that_cannot_be_decoded_is_bad_and_the_rest_goes_on(tmp_path):
    cut = jpeg(90)[:-30]
    spoilt = [record(0), record(1, spoil=b"\x89PNG"), record(2, spoil=cut), record(3, frames=0)]
    write(tmp_path, "train", [*spoilt, record(4), record(5)])
    data = dataclasses.replace(DATA, root=str(tmp_path), max_bad=1.0, batch_size=6, holdout=0.0)
    with train_batches(open_dataset(data).train, data, seed=0) as batches:
        assert next(batches)["valid"].sum() == 3
        assert batches.bad.counts == {"codec": 1, "corrupt": 1, "empty": 1}


def test_two_records_of_a_video_have_ids_of_their_own(tmp_path):
    write(tmp_path, "train", [record(0, bounds=1), record(0, bounds=1)], shards=1)
    source = opened(tmp_path, holdout=0.0).train
    ids = [source.example(i).id for i in range(2)]
    assert len(set(ids)) == 2
    assert all(identity.startswith("v0.mp4#") for identity in ids)


def test_damage_and_gaps_are_refused_by_name(tmp_path):
    write(tmp_path / "cut", "train", [record(i) for i in range(4)])
    file = tmp_path / "cut/train-00001-of-00002"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"train-00001-of-00002 is damaged or cut, at byte \d+"):
        opened(tmp_path / "cut")
    file.unlink()
    with pytest.raises(InputError, match=r"train-00001-of-00002: no such shard"):
        opened(tmp_path / "cut")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="No TFRecords below"):
        opened(tmp_path / "none")
    write(tmp_path / "bare", "train", [record(0, bare=1), record(1)])
    with pytest.raises(InputError, match="0 labels in clip/label/index"):
        opened(tmp_path / "bare", holdout=0.0)
    assert opened(tmp_path / "bare", holdout=0.0, labels="none").label_map == ()
    write(tmp_path / "test_only", "test", [record(0)], shards=1)
    with pytest.raises(InputError, match="none for train"):
        opened(tmp_path / "test_only")
