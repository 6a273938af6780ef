"""Planted cuts, fades, flashes and pans; lists of parts of videos; the command."""

import json
import os
import pathlib
import sys

import av
import numpy as np
import pytest
from data.conftest import real_clips, write_video  # noqa: F401

from vivit_jax import config
from vivit_jax.data import shots as command
from vivit_jax.data.changes import Changes, changes
from vivit_jax.data.clips import Sampling
from vivit_jax.data.cuts import find, shots
from vivit_jax.data.decode import read_views
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.sources import open_sources
from vivit_jax.errors import InputError

HEIGHT, WIDTH, FPS = 48, 64, 10
TOLERANCE = 0.1  # seconds


def scene(seed: int) -> np.ndarray:
    """A picture of soft spots, twice as wide as it is shown, in colours of its own."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(-60, 60, (6, 16, 3)) + rng.integers(40, 216, 3)
    return np.clip(np.kron(coarse, np.ones((8, 8, 1))), 0, 255).astype(np.uint8)


def moving(seed: int, i: int, speed: int = 1) -> np.ndarray:
    """Frame i of a slow pan over a scene."""
    return np.roll(scene(seed), -speed * i, axis=1)[:, :WIDTH]


def film(path: pathlib.Path, texture, frames: int) -> pathlib.Path:
    return write_video(path, frames, height=HEIGHT, width=WIDTH, fps=FPS, texture=texture)


def begins(path: pathlib.Path) -> list[float]:
    found, lost = find(str(path))
    assert not lost
    return [round(shot.begin, 3) for shot in found]


@pytest.fixture(scope="module")
def cut_film(tmp_path_factory):
    """Four scenes of 2, 1.5, 3 and 2.5 s."""
    bounds = [0, 20, 35, 65, 90]

    def texture(i):
        return moving(int(np.searchsorted(bounds, i, "right")), i)

    folder = tmp_path_factory.mktemp("cut") / "long"
    folder.mkdir()
    return film(folder / "film.mp4", texture, 90)


def test_cuts_are_found_to_the_frame_and_shots_cover_the_video(cut_film):
    found, lost = find(str(cut_film))
    assert not lost
    assert [round(x.begin, 3) for x in found] == [0.0, 2.0, 3.5, 6.5]
    assert [round(x.end, 3) for x in found] == [2.0, 3.5, 6.5, 9.0]


def test_a_flash_is_no_cut(tmp_path):
    def texture(i):
        return np.full((HEIGHT, WIDTH, 3), 250, np.uint8) if i == 20 else moving(1, i)

    assert begins(film(tmp_path / "flash.mp4", texture, 40)) == [0.0]


def test_a_fast_pan_is_no_cut(tmp_path):
    assert begins(film(tmp_path / "pan.mp4", lambda i: moving(1, i, 13), 40)) == [0.0]


def test_a_fade_through_black_parts_two_shots(tmp_path):
    def texture(i):
        light = np.clip(abs(i - 30) / 10 - 0.2, 0, 1)
        return (moving(1 if i < 30 else 2, i) * light).astype(np.uint8)

    found = begins(film(tmp_path / "fade.mp4", texture, 60))
    assert len(found) == 2
    assert found[1] == pytest.approx(3.0, abs=0.2)


def test_black_between_two_cuts_is_one_shot(tmp_path):
    def texture(i):
        black = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        return black if 20 <= i < 30 else moving(1 if i < 20 else 2, i)

    assert begins(film(tmp_path / "black.mp4", texture, 50)) == [0.0, 2.0, 3.0]


def test_a_still_video_is_one_shot(tmp_path):
    assert begins(film(tmp_path / "still.mp4", lambda i: scene(1)[:, :WIDTH], 30)) == [0.0]


def test_slides_are_shots(tmp_path):
    assert begins(film(tmp_path / "slides.mp4", lambda i: scene(i // 20)[:, :WIDTH], 80)) == [
        *(0.0, 2.0, 4.0, 6.0)
    ]


def told(strengths: dict[int, float], frames: int = 100) -> Changes:
    """Frames at 10 a second, of which some differ so much from those before them."""
    values = np.full(frames, 0.02, np.float32)
    for i, value in strengths.items():
        values[i] = value
    after = np.concatenate([[0.02], np.maximum(values[1:], values[:-1])]).astype(np.float32)
    seconds = np.arange(frames) / 10
    return Changes(seconds, values, values, after, np.full(frames, 0.2), frames / 10, "")


def test_of_cuts_too_near_to_each_other_the_strongest_counts():
    near = told({30: 0.5, 34: 0.9, 70: 0.5})
    assert [x.begin for x in shots(near, 0.3)] == [0.0, 3.0, 3.4, 7.0]
    assert [x.begin for x in shots(near, 0.5)] == [0.0, 3.4, 7.0]
    assert [x.begin for x in shots(near, 20.0)] == [0.0]


def test_a_damaged_video_tells_of_what_comes_before(cut_film, tmp_path):
    content = bytearray(cut_film.read_bytes())
    with av.open(str(cut_film)) as video:
        places = [(p.pos or 0, p.size) for p in video.demux(video=0) if p.size and p.is_keyframe]
    place, size = places[len(places) // 2]
    part = slice(place + 20, place + size - 5)
    content[part] = bytes(255 - x for x in content[part])
    path = tmp_path / "damaged.mp4"
    path.write_bytes(content)
    found, lost = find(str(path))
    assert lost
    assert 0 < found[-1].end < 9.0


def test_a_file_that_was_cut_tells_of_what_is_there_and_that_it_was(cut_film, tmp_path):
    whole = film(tmp_path / "a.mkv", lambda i: moving(i // 30, 5 * i, 3), 90)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    found, lost = find(str(whole))
    assert "ended prematurely" in lost
    assert 3 < found[-1].end < 8
    assert find(str(cut_film))[1] == ""


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["shots", *map(str, arguments), "--workers", "1"])
    code = command.main()
    return code, capsys.readouterr().out


def test_the_command_writes_a_list_that_training_reads(cut_film, tmp_path, monkeypatch, capsys):
    file = cut_film.parents[1] / "shots.csv"
    code, out = run(monkeypatch, capsys, cut_film.parents[1], "--out", file, "--json")
    answer = json.loads(out)
    assert code == 0
    assert len(answer["shots"]) == 4
    assert not answer["partial"]
    sources = open_sources(config.Data(train_list=str(file), holdout=0.0))
    assert sources.label_map == ("long",)
    example = sources.train.example(1)
    assert (example.id, example.span) == ("long/film.mp4#t=2.000,3.500", (2.0, 3.5))
    views = Sampling(frames=5, stride=3, kind="centre")
    clip = read_views(str(example.video), views, Geometry(16, test_crops=1), (0,), example.span)
    expected = np.stack([moving(2, i) for i in (21, 24, 27, 30, 33)]).mean((1, 2))
    np.testing.assert_allclose(clip[0].mean((1, 2)), expected, atol=25)


def test_what_cannot_be_read_is_said_and_the_rest_is_written(
    cut_film, tmp_path, monkeypatch, capsys
):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    file = tmp_path / "shots.csv"
    code, out = run(monkeypatch, capsys, cut_film, broken, "--out", file)
    assert code == 1
    assert "4 shots in 9.0 s" in out
    assert "error: unreadable" in out
    sources = open_sources(config.Data(train_list=str(file), labels="none", holdout=0.0))
    assert len(sources.train) == 4


@pytest.mark.parametrize(
    ("name", "out", "message"),
    [
        ("two\nlines.mp4", "shots.csv", "has a line break, which no list can hold"),
        ("a.mp4", "folder", "folder is a folder; expected the name of a list"),
        ("a.mp4", "a.mp4/shots.csv", "shots.csv cannot be written"),
    ],
)
def test_a_list_that_cannot_be_written_is_refused_before_anything_is_looked_at(
    name, out, message, tmp_path, monkeypatch, capsys
):
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(command, "look", lambda *_: pytest.fail("it was looked at"))
    with pytest.raises(InputError, match=message):
        run(monkeypatch, capsys, tmp_path / name, "--out", tmp_path / out)


def test_labels_of_lists_are_kept_however_many_and_splits_are_no_classes(tmp_path):
    for name in ("train/a/1.mp4", "train/b/2.mp4", "val/a/3.mp4", "else/a/4.mp4", "a.ogv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "list.csv").write_text("train/a/1.mp4,x,y\ntrain/b/2.mp4,z\n")
    with pytest.raises(InputError, match="2 labels, expected one"):
        command.videos([str(tmp_path / "list.csv")])
    found = command.videos([str(tmp_path / "list.csv"), str(tmp_path / "a.ogv")], "multi")
    assert [video.labels for video in found] == [("x", "y"), ("z",), ()]
    command.write(tmp_path / "out.csv", found[:2], [{"shots": [{"begin": 0.0, "end": 1.0}]}] * 2)
    sources = open_sources(
        config.Data(train_list=str(tmp_path / "out.csv"), labels="multi", holdout=0.0)
    )
    assert sources.train.example(0).label == (0, 1)
    (tmp_path / "else").rename(tmp_path / "train/else")
    with pytest.raises(InputError, match="folders of splits, train, val: give one at a time, as"):
        command.videos([str(tmp_path)])
    os.symlink(tmp_path / "val", tmp_path / "train/linked")
    with pytest.raises(InputError, match="follow_links"):
        command.videos([str(tmp_path / "train")])
    found = command.videos([str(tmp_path / "train")], follow_links=True)
    assert [video.labels for video in found] == [("a",), ("b",), ("else",), ("linked",)]


def test_parts_of_a_video_stay_on_one_side_of_the_split(tmp_path):
    lines = []
    for i in range(40):
        (tmp_path / f"{i}.mp4").write_bytes(b"x")
        lines += [f"{i}.mp4#t={k},{k + 1.5}\ta b" for k in range(5)]
    (tmp_path / "list.tsv").write_text("\n".join(lines))
    sources = open_sources(config.Data(train_list=str(tmp_path / "list.tsv"), holdout=0.3))
    sides = [
        {source.example(i).video for i in range(len(source))}
        for source in (sources.train, sources.eval)
    ]
    assert not sides[0] & sides[1]
    assert len(sources.train) + len(sources.eval) == 200
    assert min(map(len, sides)) > 3


@pytest.mark.parametrize(
    "line", ["a.mp4#t=1,2 jump", "a.mp4#t=1,2\tjump", '"a.mp4#t=1,2",jump', "a.mp4#t=1.0,2. jump"]
)
def test_every_dialect_names_parts(tmp_path, line):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text(f"{line}\n")
    sources = open_sources(config.Data(train_list=str(tmp_path / "list.csv"), holdout=0.0))
    example = sources.train.example(0)
    assert (example.id, example.span) == ("a.mp4#t=1.000,2.000", (1.0, 2.0))
    assert sources.label_map == ("jump",)


def test_a_part_that_ends_before_it_begins_is_refused(tmp_path, monkeypatch, capsys):
    (tmp_path / "a.mp4").write_bytes(b"x")
    (tmp_path / "list.csv").write_text("a.mp4#t=3,2 jump\n")
    with pytest.raises(InputError, match="line 1: it ends before it begins"):
        open_sources(config.Data(train_list=str(tmp_path / "list.csv"), holdout=0.0))
    (tmp_path / "list.csv").write_text("a.mp4#t=1,2 jump\n")
    with pytest.raises(InputError, match="give whole videos"):
        run(monkeypatch, capsys, tmp_path / "list.csv")


def score(found: list[float], planted: list[float]) -> float:
    """F1 of cuts, each of which is found once within TOLERANCE."""
    left = list(planted)
    hits = 0
    for when in found:
        near = [x for x in left if abs(x - when) <= TOLERANCE]
        if near:
            left.remove(near[0])
            hits += 1
    return 2 * hits / (len(found) + len(planted))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3])
def test_real_cuts_are_found_better_than_by_the_best_fixed_threshold(
    real_clips,  # noqa: F811
    tmp_path,
    seed,
):
    """Pieces of real clips in a random order; the threshold is chosen knowing the truth."""
    rng = np.random.default_rng(seed)
    pieces = []
    for path in (p for p in real_clips if p.parent.name != "odd"):
        with av.open(str(path)) as video:
            frames = [
                frame.to_ndarray(format="rgb24", width=128, height=96)
                for _, frame in zip(range(150), video.decode(video=0), strict=False)
            ]
        for _ in range(2):
            length = int(rng.integers(25, 75))
            first = int(rng.integers(max(1, len(frames) - length)))
            pieces.append(frames[first : first + length])
    rng.shuffle(pieces)  # type: ignore[arg-type]
    pictures = [frame for piece in pieces for frame in piece]
    planted = (np.cumsum([len(piece) for piece in pieces])[:-1] / 25).tolist()
    path = tmp_path / "planted.mp4"
    texture = {"height": 96, "width": 128, "texture": pictures.__getitem__}
    options = {"preset": "ultrafast", "crf": "26"}
    write_video(path, len(pictures), fps=25, options=options, **texture)
    found = changes(str(path))
    ours = score([shot.begin for shot in shots(found)][1:], planted)
    fixed = [
        score(found.seconds[found.pixels > least].tolist(), planted)
        for least in np.linspace(0.02, 0.5, 97)
    ]
    print(f"{len(planted)} cuts: F1 {ours:.3f}; the best fixed threshold {max(fixed):.3f}")
    assert ours >= max(fixed)
