"""An index keeps what was added, whole or not at all, and says what of it is broken."""

import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import types
from typing import Any

import numpy as np
import pytest

from vivit_jax import files
from vivit_jax.analysis import approximate, nearest, parts, queries, searched
from vivit_jax.analysis.index import Index
from vivit_jax.analysis.indexing import Builder
from vivit_jax.analysis.mean_pictures import FEATURES, compared, mean_pictures
from vivit_jax.errors import InputError

D = 6
ROOT = pathlib.Path(__file__).parents[1]
ABOUT = {"checkpoint": "runs/a", "fingerprint": "abc", "windows": {"hop": 0.5}}


def made(name, windows, seed=0, size=1):
    rng = np.random.default_rng([seed, windows])
    begins = np.arange(windows) / 2
    spans = np.stack([begins, begins + 1], axis=1)
    features = rng.normal(size=(windows, D)).astype(np.float32)
    pictures = rng.random((windows, FEATURES)).astype(np.float32)
    return parts.Entry(name, size, 2, 9.0, windows, []), parts.Rows(features, spans, pictures)


@pytest.fixture
def folder(tmp_path):
    """Returns an index of two parts, of which the second replaces a video of the first."""
    builder = Builder(tmp_path, ABOUT)
    for name, windows in (("a", 3), ("b", 2), ("c", 4)):
        builder.add(*made(name, windows))
    builder.label("a", "x")
    builder.flush()
    builder.add(*made("b", 5))
    builder.flush()
    return tmp_path


def test_of_a_video_that_is_there_twice_the_last_counts(folder):
    index = Index(folder)
    assert [entry.id for entry in index.entries] == ["a", "c", "b"]
    assert index.owner.tolist() == [0] * 3 + [1] * 4 + [2] * 5
    expected = np.concatenate(
        [made(name, n)[1].features for name, n in (("a", 3), ("c", 4), ("b", 5))]
    )
    np.testing.assert_allclose(index.part(0, 99) * index.lengths[:, None], expected, rtol=1e-6)
    np.testing.assert_allclose(
        index.part(2, 8) * index.lengths[2:8, None], expected[2:8], rtol=1e-6
    )
    np.testing.assert_allclose(np.linalg.norm(index.part(0, 99), axis=1), 1, rtol=1e-6)
    np.testing.assert_allclose(index.part(7, 12, pictures=True), made("b", 5)[1].pictures)
    assert index.spans[3].tolist() == [0, 1]
    assert index.labels == ["x", "", ""]
    assert json.loads((folder / "index.json").read_text())["counts"]["videos"] == 3


def test_tables_are_read_by_anyone(folder):
    file = parts.files(folder)[0]
    rows = list(csv.DictReader(file.with_suffix(".csv").open()))
    assert [row["id"] for row in rows] == ["a"] * 3 + ["b"] * 2 + ["c"] * 4
    assert float(rows[1]["begin"]) == 0.5
    assert np.load(file.with_suffix(".npy")).dtype == np.float32


@pytest.mark.parametrize("size", [2, 1000])
def test_the_best_moments_are_found_whatever_the_blocks(folder, monkeypatch, size):
    monkeypatch.setattr(nearest, "block_size", lambda features: size)
    index = Index(folder)
    rows = index.part(0, 99)
    hits = queries.alike(index, 3 * rows[[4, 9]], 9)
    assert [hit.video for hit in hits[:2]] in (["c", "b"], ["b", "c"])
    assert len(hits) == 3
    assert {(hit.video, hit.begin) for hit in hits} > {("c", 0.5), ("b", 1.0)}
    hits = queries.alike(index, rows[[4]], 4, moments=True)
    order = np.argsort(-(rows @ rows[4]), kind="stable")[:4]
    assert [(hit.video, hit.begin) for hit in hits] == [
        (index.entries[index.owner[row]].id, index.spans[row, 0]) for row in order
    ]
    hidden = queries.itself(index, "c", 0.6, 1.2)
    assert np.flatnonzero(hidden).tolist() == [3, 4, 5]
    hits = queries.alike(index, rows[[4]], 9, moments=True, left_out=hidden)
    assert len(hits) == len(rows) - 3
    assert ("c", 0.5) not in {(hit.video, hit.begin) for hit in hits}


@pytest.mark.parametrize(("indexed", "asked"), [("videos", "link"), ("link", "videos")])
def test_a_video_is_itself_by_whatever_links(tmp_path, indexed, asked):
    (tmp_path / "videos").mkdir()
    (tmp_path / "link").symlink_to("videos")
    builder = Builder(tmp_path / "index", ABOUT)
    for name in (indexed, "elsewhere"):
        builder.add(*made(str(tmp_path / name / "a.mp4"), 3))
    builder.flush()
    found = queries.itself(Index(tmp_path / "index"), str(tmp_path / asked / "a.mp4"), 0.0, 9.0)
    assert np.flatnonzero(found).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("name", "columns", "number"),
    [("1:open", [2, 3, 4], 1), ("cup", [0, 1], 1), ("cut", [2, 3, 4], 2)],
)
def test_a_class_of_one_of_several_heads_is_a_direction_among_its_heads(name, columns, number):
    kernel = np.tile(np.arange(5, dtype=np.float32), (D, 1))
    observer: Any = types.SimpleNamespace(
        check_predicts=lambda: None,
        objective=(None, {"head": {"kernel": kernel, "bias": kernel[0]}}),
        saved=types.SimpleNamespace(where="runs/a"),
        experiment=types.SimpleNamespace(
            objective={"name": "classify"}, data=types.SimpleNamespace(labels="heads")
        ),
        label_maps=(("open", "cup"), ("shut", "open", "cut")),
    )
    found = queries.direction_of(observer, name)
    assert found.bias.tolist() == columns
    np.testing.assert_array_equal(found.kernel, kernel[:, found.bias.astype(int)])
    assert found.number == number
    with pytest.raises(InputError, match="of several heads: give one of 0:open, 1:open"):
        queries.direction_of(observer, "open")


def test_what_is_there_is_known_by_size_and_time(tmp_path):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"12345")
    builder = Builder(tmp_path / "index", ABOUT)
    assert not builder.has(str(video))
    size, changed = files.stamp(str(video))
    entry, rows = made(str(video), 2)
    builder.add(entry._replace(size=size, changed=changed), rows)
    builder.flush()
    again = Builder(tmp_path / "index", ABOUT)
    assert again.has(str(video))
    os.utime(video, ns=(1, changed + 1))
    assert not again.has(str(video))


def test_what_can_be_read_no_more_is_in_no_answer_and_is_tried_again(folder):
    builder = Builder(folder, ABOUT)
    builder.refuse("a", "a cannot be read")
    builder.refuse("new", "new cannot be read")
    builder.flush()
    again = Builder(folder, ABOUT)
    assert again.counts == {"videos": 2, "windows": 9, "bad_videos": 2}
    assert not again.has("a")
    index = Index(folder)
    assert [entry.id for entry in index.entries] == ["c", "b"]
    assert index.part(0, 99).shape == (9, D)
    again.add(*made("a", 1))
    again.flush()
    assert [entry.id for entry in Index(folder).entries] == ["c", "b", "a"]


@pytest.mark.parametrize(
    ("cause", "there"), [("corrupt", True), ("timeout", False), ("crashed", False)]
)
def test_what_a_passing_fault_took_is_looked_at_again(tmp_path, cause, there):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"12345")
    size, changed = files.stamp(str(video))
    lost = [{"begin": 0.0, "end": 1.0, "cause": cause, "message": "so"}]
    entry, rows = made(str(video), 2)
    builder = Builder(tmp_path / "index", ABOUT)
    builder.add(entry._replace(size=size, changed=changed, lost=lost), rows)
    builder.flush()
    assert builder.has(str(video)) == there


def test_what_has_changed_since_is_known(tmp_path):
    video = tmp_path / "a.mp4"
    video.write_bytes(b"12345")
    size, changed = files.stamp(str(video))
    entry = made(str(video), 2)[0]._replace(size=size, changed=changed)
    assert parts.state(entry) == "same"
    video.write_bytes(b"123")
    assert parts.state(entry) == "changed"
    video.unlink()
    assert parts.state(entry) == "gone"


def test_of_several_labels_one_that_both_have_is_enough(folder):
    builder = Builder(folder, {**ABOUT, "several": True})
    for name, label in (("a", "x|y"), ("b", "y|x"), ("c", "z|y")):
        builder.label(name, label)
    builder.flush()
    index = Index(folder)
    names, of, alike = searched.labels_of(index)
    assert names == ["x", "y", "z"]
    found = searched.judge(index.part(0, 99), index.owner, of[index.owner], alike)
    assert found["recall_at_1"] == found["chance"] == 1


@pytest.mark.parametrize("ending", [".npy", ".json"])
def test_a_build_that_is_killed_loses_what_waits_and_nothing_else(folder, ending):
    """Killed where the file of this ending would appear."""
    code = f"""
import os, pathlib, signal, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
from test_index import ABOUT, Builder, made
replace = os.replace
def dying(source, target):
    if str(target).endswith({ending!r}) and "/parts/" in str(target):
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
builder = Builder(pathlib.Path({str(folder)!r}), ABOUT)
builder.add(*made("d", 3))
os.replace = dying
builder.flush()
"""
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert [entry.id for entry in Index(folder).entries] == ["a", "c", "b"]
    builder = Builder(folder, ABOUT)
    builder.add(*made("d", 3))
    builder.flush()
    assert [entry.id for entry in Index(folder).entries] == ["a", "c", "b", "d"]


@pytest.mark.parametrize("ending", [".npy", ".csv", ".json"])
@pytest.mark.parametrize("how", ["cut", "gone", "other"])
def test_a_broken_file_is_named_with_what_mends_it(folder, ending, how):
    file = parts.files(folder)[1].with_suffix(ending)
    if how == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif how == "gone":
        file.unlink()
    else:
        other = parts.files(folder)[0].with_suffix(ending)
        file.write_bytes(other.read_bytes() if ending != ".json" else b"[1]")
    if (ending, how) == (".json", "gone"):
        assert [entry.id for entry in Index(folder).entries] == ["a", "b", "c"]  # as before it
        return
    with pytest.raises(InputError, match=r"is broken .*: delete .*\.json, and the same") as error:
        queries.alike(Index(folder), np.ones((1, D), np.float32), 3)
    assert file.name in str(error.value)
    file.with_suffix(".json").unlink()
    builder = Builder(folder, ABOUT)
    builder.add(*made("b", 5))
    builder.flush()
    assert len(Index(folder)) == 12


def test_a_broken_description_is_made_anew_from_the_parts(folder):
    file = folder / "index.json"
    file.write_text("{")
    with pytest.raises(InputError, match=r"index\.json is broken"):
        Index(folder)
    file.unlink()
    with pytest.raises(InputError, match=r"has no index\.json: make it with"):
        Index(folder)
    with pytest.raises(InputError, match="fingerprint abc"):
        Builder(folder, {**ABOUT, "fingerprint": "other"})
    file.unlink(missing_ok=True)
    Builder(folder, ABOUT)
    assert len(Index(folder)) == 12


def test_another_model_or_other_windows_are_refused_with_both_named(folder):
    with pytest.raises(InputError, match=r"made by runs/a \(fingerprint abc\).*runs/b.* def\)"):
        Builder(folder, {**ABOUT, "checkpoint": "runs/b", "fingerprint": "def"})
    with pytest.raises(InputError, match=r"hop was 0\.5 and is 1\.0"):
        Builder(folder, {**ABOUT, "windows": {"hop": 1.0}})


def test_an_empty_index_is_told(tmp_path):
    Builder(tmp_path, ABOUT).flush()
    with pytest.raises(InputError, match="is empty"):
        Index(tmp_path)


def test_mean_pictures_are_means_of_cells():
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 16, 16, 3), np.uint8)
    cell = clips[1, :, :, 2:4, 6:8, 2].mean()
    assert mean_pictures(clips)[1, (1 * 8 + 3) * 3 + 2] == pytest.approx(cell, rel=1e-5)
    rows = compared(mean_pictures(clips))
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


def test_without_faiss_a_large_index_says_what_to_install(folder, monkeypatch):
    assert queries.LARGE == 1_000_000
    monkeypatch.setattr(queries, "LARGE", 5)
    monkeypatch.setitem(sys.modules, "faiss", None)
    approximate.load.cache_clear()
    index = Index(folder)
    with pytest.raises(InputError, match=r"pip install 'vivit_jax\[search\]', or give --exact"):
        queries.alike(index, index.part(0, 1), 3)
    assert len(queries.alike(index, index.part(0, 1), 3, exact=True)) == 3


@pytest.mark.parametrize("moments", [False, True])
def test_a_long_question_is_searched_in_parts_and_finds_the_same(folder, monkeypatch, moments):
    index = Index(folder)
    rows = index.part(0, 99)
    asked = np.random.default_rng(0).normal(size=(9, D)).astype(np.float32)
    lengths = []

    class Cells:
        """Searches exactly, with the face of faiss."""

        def search(self, vectors, count):
            lengths.append(len(vectors))
            scores = vectors @ rows.T
            order = np.argsort(-scores, axis=1)[:, :count]
            return np.take_along_axis(scores, order, axis=1), order

    monkeypatch.setattr(approximate, "cells_of", lambda index: (Cells(), 1.0))
    wanted = np.arange(len(index)) != 4
    whole = approximate.best(index, asked, 3, moments, wanted)
    monkeypatch.setattr(nearest, "AT_ONCE", 4)
    found = approximate.best(index, asked, 3, moments, wanted)
    np.testing.assert_array_equal(found.rows, whole.rows)
    np.testing.assert_array_equal(found.scores, whole.scores)
    assert lengths[:1] == [9]
    assert max(lengths[-3:]) == 4
    best = (asked @ rows.T).max(axis=0)
    assert found.rows[0, 0] == np.where(wanted, best, -np.inf).argmax()


def test_approximate_search_finds_what_exact_search_does(tmp_path, monkeypatch):
    pytest.importorskip("faiss")
    approximate.load.cache_clear()
    rng = np.random.default_rng(0)
    builder = Builder(tmp_path, ABOUT)
    for video in range(40):
        entry, rows = made(str(video), 50, video)
        builder.add(entry, rows)
    builder.flush()
    index = Index(tmp_path)
    asked = rng.normal(size=(30, D)).astype(np.float32)
    hidden = rng.random(len(index)) < 0.1
    shares = []
    for moments in (False, True):
        for one in asked:
            options = {"moments": moments, "left_out": hidden}
            monkeypatch.setattr(queries, "LARGE", 10)
            found = {hit[:2] for hit in queries.alike(index, one[None], 10, **options)}
            monkeypatch.setattr(queries, "LARGE", 10**9)
            exact = {hit[:2] for hit in queries.alike(index, one[None], 10, **options)}
            assert len(found) == len(exact) == 10
            shares.append(len(found & exact) / 10)
    assert np.mean(shares) > 0.9
    assert json.loads((tmp_path / "approximate.json").read_text())["recall"] >= approximate.RECALL
    builder.add(*made("new", 50, 99))
    builder.flush()
    cells, _ = approximate.cells_of(Index(tmp_path))
    assert cells.ntotal == 2050  # made anew
