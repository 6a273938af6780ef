"""Which videos there are, which are held out, and what their labels mean."""

import json
import os
import pathlib

import pytest

from vivit_jax import config
from vivit_jax.data.sources import open_sources
from vivit_jax.errors import InputError


def touch(root: pathlib.Path, *paths: str) -> pathlib.Path:
    """Returns the root, with a file at each path: sources never look inside."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def ids(source) -> list[str]:
    """Returns the ids of a source's examples."""
    return [source.example(i).id for i in range(len(source))]


def listed(tmp_path, text: str | bytes, **options):
    """Returns the sources of a list file of eight videos a0.mp4 to a7.mp4."""
    touch(tmp_path, *(f"a{i}.mp4" for i in range(8)))
    path = tmp_path / "list.txt"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_sources(config.Data(train_list=str(path), **{"holdout": 0.0, **options}))


def test_class_folders_are_classes_and_files_of_one_name_stay_two(tmp_path):
    root = touch(tmp_path, "run/x.mp4", "run/deep/x.MP4", "jump/x.mp4", "jump/notes.txt")
    sources = open_sources(config.Data(root=str(root), holdout=0.0))
    assert sources.label_map == ("jump", "run")
    assert ids(sources.train) == ["jump/x.mp4", "run/deep/x.MP4", "run/x.mp4"]
    assert [sources.train.example(i).label for i in range(3)] == [0, 1, 1]
    assert len(sources.eval) == 0


def test_split_folders_are_splits(tmp_path):
    root = touch(tmp_path, "train/a/1.mp4", "train/b/1.mp4", "val/b/1.mp4", "test/a/9.mp4")
    sources = open_sources(config.Data(root=str(root)))
    assert ids(sources.train) == ["train/a/1.mp4", "train/b/1.mp4"]
    assert ids(sources.eval) == ["val/b/1.mp4"]
    assert sources.eval.example(0).label == 1


def test_a_class_named_train_is_a_class(tmp_path):
    root = touch(tmp_path, "train/1.mp4", "bus/1.mp4")
    assert open_sources(config.Data(root=str(root), holdout=0.0)).label_map == ("bus", "train")


def test_the_hash_split_holds_its_share_and_never_moves_a_video(tmp_path):
    root = touch(tmp_path, *(f"c{i % 3}/{i}.mp4" for i in range(600)))
    before = open_sources(config.Data(root=str(root)))
    assert 80 < len(before.eval) < 160
    touch(root, *(f"c{i % 3}/{i}.mp4" for i in range(600, 900)))
    after = open_sources(config.Data(root=str(root)))
    assert set(ids(before.eval)) <= set(ids(after.eval))
    assert set(ids(before.train)) <= set(ids(after.train))


def test_the_hash_split_is_what_it_was_when_it_was_published(tmp_path):
    root = touch(tmp_path, *(f"c/{i}.mp4" for i in range(12)))
    held_out = open_sources(config.Data(root=str(root), holdout=0.4)).eval
    assert ids(held_out) == [f"c/{i}.mp4" for i in [10, 11, 5, 6, 7, 9]]


@pytest.mark.parametrize(
    "text",
    [
        "a0.mp4 0\na1.mp4 1\n",
        "a0.mp4\t0\r\na1.mp4\t1\r\n",
        "a0.mp4,0\na1.mp4,1",
        '\ufeffpath,label\n"a0.mp4",0\n"a1.mp4",1\n',
        "video label\n\na0.mp4   0\n\n\na1.mp4 1\n\n",
    ],
)
def test_every_dialect_of_list_is_read_alike(tmp_path, text):
    sources = listed(tmp_path, text)
    assert ids(sources.train) == ["a0.mp4", "a1.mp4"]
    assert [sources.train.example(i).label for i in range(2)] == [0, 1]
    assert sources.label_map == ("0", "1")


def test_spaces_and_commas_in_paths_and_names_are_kept(tmp_path):
    touch(tmp_path, "my video, 1.mp4")
    sources = listed(tmp_path, "my video, 1.mp4 playing guitar\na1.mp4 tai chi\n")
    assert ids(sources.train) == ["my video, 1.mp4", "a1.mp4"]
    assert sources.label_map == ("playing guitar", "tai chi")
    quoted = listed(tmp_path, '"my video, 1.mp4",playing guitar\na1.mp4,"tai, chi"\n')
    assert ids(quoted.train) == ["my video, 1.mp4", "a1.mp4"]
    assert quoted.label_map == ("playing guitar", "tai, chi")


def test_several_labels_stand_on_one_line(tmp_path):
    multi = listed(tmp_path, "a0.mp4 0 2\na1.mp4 1\n", labels="multi")
    assert multi.train.example(0).label == (0, 2)
    assert multi.train.example(1).label == (1,)
    assert len(multi.label_map) == 3
    heads = listed(tmp_path, "a0.mp4,cut,bread\na1.mp4,cut,cake\n", labels="heads")
    assert heads.label_maps == (("cut",), ("bread", "cake"))
    assert heads.train.example(1).label == (0, 1)


def test_separate_lists_split_and_the_training_list_names_the_classes(tmp_path):
    (tmp_path / "eval.txt").write_text("a2.mp4 run\n")
    text = "a0.mp4 jump\na1.mp4 run\n"
    sources = listed(tmp_path, text, eval_list=str(tmp_path / "eval.txt"))
    assert ids(sources.eval) == ["a2.mp4"]
    assert sources.eval.example(0).label == 1
    (tmp_path / "eval.txt").write_text("a2.mp4 run\na3.mp4 fly\n")
    with pytest.raises(InputError, match=r"eval.txt, line 2: label 'fly'"):
        listed(tmp_path, text, eval_list=str(tmp_path / "eval.txt"))


def test_label_maps_count_from_where_their_numbers_do(tmp_path):
    (tmp_path / "names.txt").write_text("jump\nrun\n")
    plain = listed(tmp_path, "a0.mp4 0\na1.mp4 1\n", label_map=str(tmp_path / "names.txt"))
    assert plain.label_map == ("jump", "run")
    assert plain.train.example(1).label == 1
    (tmp_path / "ind.txt").write_text("1 jump\r\n2 run\r\n")
    from_one = listed(tmp_path, "a0.mp4 1\na1.mp4 2\n", label_map=str(tmp_path / "ind.txt"))
    assert from_one.label_map == ("jump", "run")
    assert [from_one.train.example(i).label for i in range(2)] == [0, 1]
    named = listed(tmp_path, "a0.mp4 run\na1.mp4 jump\n", label_map=str(tmp_path / "ind.txt"))
    assert [named.train.example(i).label for i in range(2)] == [1, 0]


@pytest.mark.parametrize(
    "text",
    [
        "a0.mp4\nmy, video 1.mp4\n",
        'path\na0.mp4\n\n"my, video 1.mp4"\n',
        "a0.mp4 3\nmy, video 1.mp4 playing guitar\n",
        'a0.mp4,cut,bread\n"my, video 1.mp4",,\n',
        "video\tlabel\na0.mp4\t1\nmy, video 1.mp4\n",
    ],
)
def test_without_labels_a_line_is_a_path_and_what_follows_is_not_read(tmp_path, text):
    touch(tmp_path, "my, video 1.mp4")
    sources = listed(tmp_path, text, labels="none")
    assert ids(sources.train) == ["a0.mp4", "my, video 1.mp4"]
    assert sources.train.example(0).label == ()
    assert sources.label_maps == ((),)


def test_without_labels_a_folder_is_any_tree_of_videos(tmp_path):
    root = touch(tmp_path, "1.mp4", "a/2.mp4", "a/b/3.mkv", "notes.txt")
    sources = open_sources(config.Data(root=str(root), holdout=0.0, labels="none"))
    assert ids(sources.train) == ["1.mp4", "a/2.mp4", "a/b/3.mkv"]
    root = touch(tmp_path / "split", "train/1.mp4", "val/a/2.mp4", "val/b/3.mp4")
    sources = open_sources(config.Data(root=str(root), labels="none"))
    assert ids(sources.train) == ["train/1.mp4"]
    assert ids(sources.eval) == ["val/a/2.mp4", "val/b/3.mp4"]


def test_a_share_is_the_same_of_each_class_and_at_least_one(tmp_path):
    paths = [f"{c}/{i}.mp4" for c, count in (("a", 100), ("b", 40), ("c", 3)) for i in range(count)]
    root = touch(tmp_path, *paths)
    used = {
        share: ids(open_sources(config.Data(root=str(root), holdout=0, train_share=share)).train)
        for share in (1.0, 0.5, 0.1)
    }
    assert used[1.0] == sorted(paths)
    assert [sum(x[0] == c for x in used[0.1]) for c in "abc"] == [10, 4, 1]
    assert [sum(x[0] == c for x in used[0.5]) for c in "abc"] == [50, 20, 2]
    assert set(used[0.1]) < set(used[0.5])
    assert used[0.1] == sorted(used[0.1])


def test_a_share_leaves_the_classes_and_the_held_out_as_they_were(tmp_path):
    root = touch(tmp_path, *(f"c{i % 5}/{i}.mp4" for i in range(200)))
    whole = open_sources(config.Data(root=str(root)))
    few = open_sources(config.Data(root=str(root), train_share=0.05))
    assert few.label_map == whole.label_map
    assert ids(few.eval) == ids(whole.eval)
    assert set(ids(few.train)) < set(ids(whole.train))


def test_a_share_is_what_it_was_when_it_was_published(tmp_path):
    root = touch(tmp_path, *(f"c/{i}.mp4" for i in range(12)))
    used = open_sources(config.Data(root=str(root), holdout=0, train_share=0.3)).train
    assert ids(used) == [f"c/{i}.mp4" for i in [10, 11, 2, 5]]


def test_a_share_of_what_has_no_class_is_one_of_all(tmp_path):
    lines = [f"a{i}.mp4 {i} {7 - i}" for i in range(8)]
    for labels in ("multi", "none"):
        assert len(listed(tmp_path, "\n".join(lines), labels=labels, train_share=0.25).train) == 2
    heads = [f"a{i}.mp4,{'xy'[i % 2]},{i}" for i in range(8)]
    few = listed(tmp_path, "\n".join(heads), labels="heads", train_share=0.25)
    assert sorted(few.train.example(i).label[0] for i in range(len(few.train))) == [0, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a0.mp4 0\na1.mp4 -1\n", r"line 2: label '-1'"),
        ("a0.mp4 0\na1.mp4 3.5\na2.mp4 1\n", r"line 2: label '3.5'"),
        ("a0.mp4,0\na1.mp4,\n", r"line 2: no label"),
        ("a0.mp4 0\na1.mp4\n", r"line 2: no label"),
        ("a0.mp4,0\na1.mp4,1,2\n", r"line 2: 2 labels, expected one"),
        ("a0.mp4 1\na1.mp4 2\n", r"lowest label is 1"),
        ("a0.mp4 0\na9.mp4 1\n", r"line 2: no such file"),
        ("a0.mp4 0\n\na0.mp4 0\n", r"line 3: 'a0.mp4' was on .*line 1"),
        ("a0.mp4 0\n../a1.mp4 1\n", r"line 2: '../a1.mp4' leaves"),
        ("a0.mp4 0\na1.mp4 1234567\n", r"label 1234567"),
        ("path,label\n", r"lists no video"),
    ],
)
def test_lines_that_cannot_be_used_are_named(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        listed(tmp_path, text)


def test_labels_outside_the_map_are_named(tmp_path):
    (tmp_path / "names.txt").write_text("jump\nrun\n")
    for text in ("a0.mp4 0\na1.mp4 2\n", "a0.mp4 run\na1.mp4 fly\n"):
        with pytest.raises(InputError, match=r"line 2: label .*\n.*names.txt"):
            listed(tmp_path, text, label_map=str(tmp_path / "names.txt"))


def test_many_faults_are_counted_and_a_few_shown(tmp_path):
    with pytest.raises(InputError) as caught:
        listed(tmp_path, "a0.mp4 0\n" + "a1.mp4\n" * 50)
    assert str(caught.value).startswith("50 of 51")
    assert str(caught.value).count("line") < 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "data.root and data.train_list are empty"),
        ({"root": "nowhere"}, "not a folder"),
        ({"root": "."}, "No videos below"),
        ({"train_list": "none.txt"}, "none.txt cannot be read"),
        ({"root": ".", "labels": "many"}, "data.labels"),
        ({"root": ".", "holdout": 1.0}, "data.holdout"),
        ({"root": ".", "train_share": 0.0}, "data.train_share is 0.0; expected above 0"),
        ({"root": ".", "train_share": 1.5}, "data.train_share is 1.5; expected above 0"),
        ({"root": ".", "labels": "none"}, "No videos below"),
        ({"root": ".", "labels": "none", "label_map": "x"}, "reads no labels"),
    ],
)
def test_a_place_without_videos_is_refused(options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        open_sources(config.Data(**options))


def test_held_out_classes_that_were_never_trained_are_refused(tmp_path):
    root = touch(tmp_path, "train/a/1.mp4", "val/a/1.mp4", "val/b/1.mp4")
    with pytest.raises(InputError, match=r"val/b/1.mp4"):
        open_sources(config.Data(root=str(root)))


def test_links_may_not_leave_the_root_and_loops_end(tmp_path):
    root = touch(tmp_path / "root", "a/1.mp4", "b/2.mp4")
    os.symlink(root / "a", root / "a/loop")
    os.symlink(root / "b", root / "a/b")
    assert ids(open_sources(config.Data(root=str(root), holdout=0.0)).train) == [
        "a/1.mp4",
        "a/b/2.mp4",
        "b/2.mp4",
    ]
    touch(tmp_path, "outside.mp4")
    os.symlink(tmp_path / "outside.mp4", root / "a/3.mp4")
    with pytest.raises(InputError, match=f"3.mp4 is a link that leaves {root}; where"):
        open_sources(config.Data(root=str(root)))


def test_an_excluded_video_is_left_out_and_moves_nothing_else(tmp_path, caplog):
    root = touch(tmp_path, *(f"c{i % 3}/{i}.mp4" for i in range(60)), "d/only.mp4")
    whole = open_sources(config.Data(root=str(root), holdout=0.3))
    bad = [whole.train.example(3).id, whole.eval.example(2).id, "d/only.mp4", "gone/1.mp4"]
    lines = "".join(json.dumps({"id": identity, "cause": "frozen"}) + "\n" for identity in bad)
    (tmp_path / "bad_videos.jsonl").write_text(lines)
    data = config.Data(root=str(root), holdout=0.3, exclude=str(tmp_path / "bad_videos.jsonl"))
    with caplog.at_level("INFO", logger="vivit_jax"):
        left = open_sources(data)
    assert ids(left.train) == [name for name in ids(whole.train) if name not in bad]
    assert ids(left.eval) == [name for name in ids(whole.eval) if name not in bad]
    assert left.label_map == whole.label_map == ("c0", "c1", "c2", "d")
    assert "leaves out 3 of 61 videos" in caplog.text
    assert "1 of the 4 videos" in caplog.text
    assert "gone/1.mp4" in caplog.text


def test_a_missing_file_that_is_excluded_is_not_missed(tmp_path):
    touch(tmp_path, "a.mp4")
    (tmp_path / "list.txt").write_text("a.mp4 0\nb.mp4 1\n")
    (tmp_path / "bad.jsonl").write_text('{"id": "b.mp4"}\n')
    lists = {"train_list": str(tmp_path / "list.txt"), "holdout": 0.0}
    with pytest.raises(InputError, match=r"no such file.*b\.mp4"):
        open_sources(config.Data(**lists))
    left = open_sources(config.Data(**lists, exclude=str(tmp_path / "bad.jsonl")))
    assert ids(left.train) == ["a.mp4"]
    assert left.label_map == ("0", "1")


def test_a_bad_list_that_is_none_is_refused(tmp_path):
    root = touch(tmp_path, "c/a.mp4")
    bad = tmp_path / "bad.jsonl"
    data = config.Data(root=str(root), holdout=0.0, exclude=str(bad))
    with pytest.raises(InputError, match="cannot be read"):
        open_sources(data)
    bad.write_text('{"id": "x"}\nc/a.mp4\n{"path": "y"}\n')
    with pytest.raises(InputError, match=r"2 of 3 entries.*\n.*line 2: 'c/a.mp4'\n.*line 3"):
        open_sources(data)
    bad.write_text('{"id": "c/a.mp4"}\n')
    with pytest.raises(InputError, match="leaves no video to train on"):
        open_sources(data)


def test_links_out_of_the_root_are_followed_where_told_and_loops_end_there(tmp_path):
    root, away = touch(tmp_path / "root", "a/1.mp4"), touch(tmp_path / "away", "x/2.mp4", "y/3.mp4")
    os.symlink(away / "x", root / "b")
    os.symlink(away / "y", away / "x/y")
    os.symlink(away / "x", away / "y/x")
    with pytest.raises(InputError, match=r"root/b is a link that leaves .*data\.follow_links"):
        open_sources(config.Data(root=str(root)))
    found = open_sources(config.Data(root=str(root), holdout=0.0, follow_links=True))
    assert ids(found.train) == ["a/1.mp4", "b/2.mp4", "b/y/3.mp4"]
    assert found.label_map == ("a", "b")


def test_a_list_of_absolute_paths_without_a_root_may_name_any_file(tmp_path):
    away = touch(tmp_path / "away", "v.mp4")
    (tmp_path / "lists").mkdir()
    os.symlink(away / "v.mp4", tmp_path / "lists/link.mp4")
    file = tmp_path / "lists/list.txt"
    file.write_text(f"{away}/v.mp4 0\n{tmp_path}/lists/link.mp4 1\n")
    assert len(open_sources(config.Data(train_list=str(file), holdout=0.0)).train) == 2
    with pytest.raises(InputError, match="line 1: .* leaves"):
        open_sources(config.Data(train_list=str(file), root=str(tmp_path / "lists")))
    file.write_text("link.mp4 0\n")
    with pytest.raises(InputError, match="line 1: a link that leaves"):
        open_sources(config.Data(train_list=str(file)))
