"""Known data sets: official files give the right rows, and rows find their videos."""

import functools
import itertools
import logging
import pathlib
import re

import known_trees as trees
import pytest
from conftest import frames_of, write_video
from known_trees import touch, write

from vivit_jax import config
from vivit_jax.data.catalog import CATALOG, find_dataset, settle
from vivit_jax.data.clips import Sampling
from vivit_jax.data.decode import read_views
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.known import KNOWN
from vivit_jax.data.known.kind import index_of, plain, shipped
from vivit_jax.data.published import DATA_SETS
from vivit_jax.errors import InputError

HMDB51 = functools.partial(trees.hmdb51, names=shipped("hmdb51")[0])
TREES = {
    "kinetics400": trees.kinetics400,
    "ucf101": trees.ucf101,
    "hmdb51": HMDB51,
    "epic_kitchens_100": trees.epic_kitchens_100,
    "charades": trees.charades,
    "something_something_v2": trees.something_something_v2,
    "diving48": trees.diving48,
    "moments_in_time": trees.moments_in_time,
    "ava_kinetics": trees.ava_kinetics,
}


def opened(name: str, **options):
    """The sources of a data set of the catalogue."""
    data = settle(config.Data(dataset=name, **options))
    return find_dataset(name).open(data)


def all_of(source):
    return [source.example(i) for i in range(len(source))]


def labels(source):
    return [example.label for example in all_of(source)]


def refusal(name: str, **options) -> str:
    """What the user reads."""
    with pytest.raises(InputError) as caught:
        opened(name, **options)
    return str(caught.value)


@pytest.mark.parametrize("name", TREES)
def test_official_files_and_layouts_are_read_as_they_are_published(name, tmp_path):
    sources = opened(name, **TREES[name](tmp_path, touch))
    assert tuple(map(len, sources.label_maps)) == DATA_SETS[name].classes
    assert (len(sources.train), len(sources.eval)) == (trees.TRAINED, trees.HELD_OUT)
    examples = all_of(sources.train) + all_of(sources.eval)
    assert all(pathlib.Path(str(example.video)).is_file() for example in examples)
    assert len({example.id for example in examples}) == len(examples)


def test_a_class_has_the_index_that_published_models_give_it(tmp_path):
    first_names = {
        "kinetics400": ("abseiling", "air drumming"),
        "ucf101": ("ApplyEyeMakeup", "ApplyLipstick"),
        "moments_in_time": ("clapping", "adult+female+singing"),
    }
    for name, expected in first_names.items():
        sources = opened(name, **TREES[name](tmp_path / name, touch))
        assert sources.label_map[:2] == expected
        found = {(labels(sources.train)[i], expected[i % 2]) for i in range(trees.TRAINED)}
        assert found == {(0, expected[0]), (1, expected[1])}


def test_kinetics_names_are_alphabetical_however_they_are_spelt():
    for count in (400, 600, 700):
        (names,) = shipped(f"kinetics{count}")
        assert len(names) == len(index_of(names)) == count
        assert list(names) == sorted(names)
        assert sorted(names, key=lambda name: name.replace(" ", "_")) == list(names)
    assert plain("massaging_persons_head") == plain("massaging person's head")
    assert plain("passing_American_football_(in_game)") == "passing american football in game"


def test_epic_kitchens_has_nouns_then_verbs_of_spans(tmp_path):
    sources = opened("epic_kitchens_100", **trees.epic_kitchens_100(tmp_path, touch))
    example = sources.train.example(5)
    assert (example.id, example.label) == ("P01_01_5", (5 % 3, 5 % 2))
    assert example.span == pytest.approx((0.5, 0.8))
    assert str(example.video).endswith("P01/videos/P01_01.MP4")
    assert [names[0] for names in sources.label_maps] == ["noun0", "verb0"]


def test_a_segment_shows_the_frames_between_its_times(tmp_path):
    def make(path, number, frames=15, fps=10):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_video(path.with_suffix(".mp4"), frames, fps=fps).rename(path)

    def shown(name, number, **options):
        example = opened(name, **options).train.example(number)
        sampling = Sampling(frames=3, stride=1, kind="segment_views", views=1)
        geometry = Geometry(size=16, test_crops=1)
        return frames_of(read_views(str(example.video), sampling, geometry, (0,), example.span))

    given = trees.epic_kitchens_100(tmp_path / "epic", make)
    assert shown("epic_kitchens_100", 6, **given).tolist() == [[6, 7, 8]]
    slow = functools.partial(make, frames=40, fps=4)  # ten seconds, of which 3.5 to 6.5 are asked
    given = trees.ava_kinetics(tmp_path / "ava", slow)
    assert shown("ava_kinetics", 0, **given).tolist() == [[16, 20, 24]]


def test_charades_has_each_action_of_a_video_once_and_keeps_videos_without(tmp_path):
    sources = opened("charades", **trees.charades(tmp_path, touch))
    assert labels(sources.train)[:4] == [(), (0,), (0, 1), (0, 1, 156)]


def test_ava_kinetics_is_around_a_key_frame_with_the_actions_of_all_persons(tmp_path):
    sources = opened("ava_kinetics", **trees.ava_kinetics(tmp_path, touch))
    first, second = (sources.train.example(i) for i in (0, 1))
    assert (first.label, second.label) == ((11,), (11, 79))
    assert first.id == "key_0_100"
    assert first.span == (3.5, 6.5)  # of a piece that starts at second 95 of the video


def test_something_has_no_flips_and_its_numbers_are_those_of_labels_json(tmp_path):
    sources = opened("something_something_v2", **trees.something_something_v2(tmp_path, touch))
    assert labels(sources.train)[:2] == [0, 1]
    assert sources.label_map[1] == "Doing 1 with something"
    assert [name for name, row in CATALOG.items() if row.directional] == [
        "motions",
        "something_something_v2",
    ]


def test_hmdb51_and_ucf101_have_three_splits(tmp_path):
    given = HMDB51(tmp_path, touch)
    ids = {}
    for split in (1, 2, 3):
        sources = opened("hmdb51", split=split, **given)
        ids[split] = [{example.id for example in all_of(s)} for s in (sources.train, sources.eval)]
    assert ids[1][0] == ids[2][1]
    assert ids[1] != ids[3]
    assert "has 3, counted from 1" in refusal("hmdb51", split=4, **given)
    assert "has 1, counted from 1" in refusal("charades", split=2, root=str(tmp_path))
    with pytest.raises(InputError, match="has no splits"):
        settle(config.Data(split=2))


def test_without_labels_only_the_training_videos_are_pretrained_on(tmp_path):
    given = trees.kinetics400(tmp_path, touch)
    sources = opened("kinetics400", labels="none", **given)
    assert (len(sources.train), set(labels(sources.train))) == (trees.TRAINED, {()})
    assert sources.label_maps == ((),)
    sources = opened("howto100m", root=str(tmp_path / "train"), holdout=0.0)
    assert (len(sources.train), set(labels(sources.train))) == (trees.TRAINED, {()})


@pytest.mark.parametrize(
    "layout",
    [
        "train/{label}/{id}_{begin:06d}_{end:06d}.mp4",
        "train/{id}_{begin:06d}_{end:06d}.webm",
        "a/b/c/{id}_{begin:06d}_{end:06d}.MKV",
        "videos_train/{label}/{id}.mp4",
        "{id}.avi",
    ],
)
def test_kinetics_is_found_in_the_layouts_that_people_have(layout, tmp_path):
    rows = [f"air drumming,_-id{i},{i},{i + 10},train" for i in range(3)]
    header = "label,youtube_id,time_start,time_end,split"
    train = write(tmp_path / "train.csv", header, *rows)
    val = write(tmp_path / "val.csv", header, "abseiling,other,5,15,val")
    for i in range(3):
        path = layout.format(label="air_drumming", id=f"_-id{i}", begin=i, end=i + 10)
        touch(tmp_path / path)
    sources = opened("kinetics400", **trees.options(tmp_path, train, val))
    assert labels(sources.train) == [1, 1, 1]
    assert len(sources.eval) == 0


def test_class_folders_will_do_for_the_annotations_of_kinetics(tmp_path):
    for path in (
        "train/air_drumming/a.mp4",
        "train/zumba/b.mp4",
        "val/massaging_persons_head/c.mp4",
    ):
        touch(tmp_path / path)
    sources = opened("kinetics400", root=str(tmp_path))
    assert labels(sources.train) == [1, 399]
    assert sources.label_map[labels(sources.eval)[0]] == "massaging person's head"
    touch(tmp_path / "train/swimming upwards/d.mp4")
    assert "train/swimming upwards/d.mp4" in refusal("kinetics400", root=str(tmp_path))


def test_lists_of_ones_own_are_read_as_ever(tmp_path):
    touch(tmp_path / "a.mp4")
    touch(tmp_path / "b.mp4")
    train = write(tmp_path / "mine.csv", "a.mp4 left", "b.mp4 right")
    for name in ("something_something_v2", "kinetics400"):
        sources = opened(name, train_list=str(train), holdout=0.0)
        assert sources.label_map == ("left", "right")


def test_a_cut_download_is_refused_with_both_numbers(tmp_path):
    given = trees.ucf101(tmp_path, touch)
    message = refusal("ucf101", root=str(tmp_path))
    assert "trainlist01.txt UCF101 has 8 rows, and as published it has 9,537" in message
    file = pathlib.Path(given["train_list"])
    file.write_bytes(file.read_bytes()[:-60])
    assert "v_ApplyEyeMakeup" in refusal("ucf101", **given)
    cut = trees.kinetics400(tmp_path / "k", touch)
    file = pathlib.Path(cut["train_list"])
    file.write_bytes(file.read_bytes()[:-12])
    assert "train.csv, line 9: 3 fields, expected 6" in refusal("kinetics400", **cut)
    cut = trees.diving48(tmp_path / "d", touch)
    file = pathlib.Path(cut["eval_list"])
    file.write_bytes(file.read_bytes()[:-12])
    assert "Diving48_V2_test.json is not whole JSON" in refusal("diving48", **cut)


def test_a_list_without_rows_is_refused(tmp_path):
    given = trees.kinetics400(tmp_path, touch)
    file = pathlib.Path(given["eval_list"])
    write(file, file.read_text().splitlines()[0])
    assert "val.csv there is no video of Kinetics-400" in refusal("kinetics400", **given)


def test_a_whole_list_is_taken_and_missing_videos_are_counted_and_named(tmp_path, caplog):
    classes = shipped("ucf101")[0]
    for part, count in (("train", 9_537), ("test", 3_783)):
        names = (
            f"{name}/v_{name}_{part}_g{i:03d}.avi" + (f" {k + 1}" if part == "train" else "")
            for i, (k, name) in zip(range(count), itertools.cycle(enumerate(classes)), strict=False)
        )
        write(tmp_path / f"{part}list01.txt", *names)
    message = refusal("ucf101", root=str(tmp_path))
    assert "None of the 13,320 videos of UCF101" in message
    assert "v_ApplyEyeMakeup_train_g000" in message
    touch(tmp_path / "ApplyEyeMakeup/v_ApplyEyeMakeup_train_g000.mp4")
    with caplog.at_level(logging.WARNING):
        sources = opened("ucf101", root=str(tmp_path))
    assert (len(sources.train), len(sources.eval)) == (1, 0)
    assert "9536 of the 9537 training videos of UCF101 are not below" in caplog.text
    assert "v_ApplyLipstick_train_g001" in caplog.text


def test_a_name_that_two_rows_share_is_the_one_s_whose_folder_it_is_in(tmp_path, caplog):
    header = "label,youtube_id,time_start,time_end,split"
    rows = ["abseiling,twice,0,10,train", "zumba,twice,50,60,train", "zumba,once,0,10,train"]
    train = write(tmp_path / "train.csv", header, *rows)
    val = write(tmp_path / "val.csv", header, "abseiling,other,5,15,val")
    touch(tmp_path / "zumba/twice.mp4")
    touch(tmp_path / "once.mp4")
    given = trees.options(tmp_path, train, val)
    assert labels(opened("kinetics400", **given).train) == [399, 399]
    (tmp_path / "zumba/twice.mp4").rename(tmp_path / "twice.mp4")
    with caplog.at_level(logging.WARNING):
        assert labels(opened("kinetics400", **given).train) == [399]
    assert "2 of these have a file that could as well be another row's" in caplog.text


def test_two_files_that_could_be_a_video_are_refused_by_name(tmp_path):
    given = trees.charades(tmp_path, touch)
    touch(tmp_path / "Charades_v1/V0000.mp4")
    message = refusal("charades", **given)
    assert "Charades_v1/V0000.mp4 and Charades_v1_480/V0000.mp4" in message


def test_moments_of_one_name_are_told_apart_by_their_class(tmp_path):
    given = trees.moments_in_time(tmp_path, touch)
    (tmp_path / "training/clapping/yt-vid_0.mp4").unlink()
    sources = opened("moments_in_time", **given)
    assert len(sources.train) == trees.TRAINED - 1
    assert sources.train.example(0).id == "training/adult+female+singing/yt-vid_0.mp4"
    assert labels(sources.train)[0] == 1


@pytest.mark.parametrize(
    ("name", "file", "before", "after", "message"),
    [
        (
            "kinetics400",
            "annotations/train.csv",
            "abseiling",
            "juggling fire knives",
            "'juggling fi",
        ),
        ("kinetics400", "annotations/train.csv", "time_start", "begin", "published"),
        (
            "ucf101",
            "ucfTrainTestlist/trainlist01.txt",
            "avi 2",
            "avi 3",
            "ApplyLipstick is class 2",
        ),
        (
            "ucf101",
            "ucfTrainTestlist/trainlist01.txt",
            "ApplyLipstick/",
            "Lipsticks/",
            "'lipsticks'",
        ),
        ("epic_kitchens_100", "EPIC_100_train.csv", "00:00:00.40,1,", "1 s,1,", "no time"),
        ("epic_kitchens_100", "EPIC_100_train.csv", "P01_01_3,", "P01_01_2,", "'P01_01_2' was on"),
        (
            "epic_kitchens_100",
            "EPIC_100_noun_classes.csv",
            "299,noun299",
            "300,noun299",
            "class 300",
        ),
        ("charades", "Charades_v1_train.csv", "c156", "c157", "class 157, expected 0 to 156"),
        ("charades", "Charades_v1_train.csv", "c156 0.00", "c156", "is no action"),
        ("charades", "Charades_v1_classes.txt", "c156 Doing thing 156\n", "", "name 156 classes"),
        ("something_something_v2", "labels/train.json", "Doing 1", "Undoing 1", "Undoing 1"),
        (
            "something_something_v2",
            "labels/labels.json",
            '"7"',
            '"8"',
            "two classes have one number",
        ),
        ("diving48", "Diving48_V2_train.json", '"label": 46', '"label": 48', "class 48"),
        ("moments_in_time", "trainingSet.csv", "singing,3,0", "singing,3", "3 fields, expected 4"),
        ("ava_kinetics", "kinetics_train_v1.0.csv", ",12\n", ",81\n", "class 81, expected 1 to 80"),
        (
            "ava_kinetics",
            "ava_action_list_v2.2.pbtxt",
            "label_id: 80",
            "label_id: 81",
            "80, from 1",
        ),
    ],
)
def test_what_no_published_file_says_is_refused_with_its_place(
    name, file, before, after, message, tmp_path
):
    given = TREES[name](tmp_path, touch)
    text = (tmp_path / file).read_text()
    assert before in text
    (tmp_path / file).write_text(text.replace(before, after))
    found = refusal(name, **given)
    assert message in found
    assert str(tmp_path) in found


def test_what_does_not_suit_a_data_set_is_refused(tmp_path):
    given = trees.charades(tmp_path, touch)
    assert "data.labels is 'heads'; Charades expects 'multi'" in refusal(
        "charades", labels="heads", **given
    )
    mine = write(tmp_path / "map.txt", "a", "b")
    assert "classes of its own" in refusal("charades", label_map=str(mine), **given)
    assert "data.root is empty" in refusal("charades")
    given["eval_list"] = str(write(tmp_path / "mine.csv", "a.mp4 0"))
    assert "give both in one" in refusal("charades", **given)
    message = refusal("hmdb51", root=str(tmp_path))
    assert "no annotation files of HMDB51" in message
    assert "brush_hair_test_split1.txt" in message
    given = trees.charades(tmp_path, touch)
    (tmp_path / "Charades_v1_classes.txt").unlink()
    assert "Charades_v1_classes.txt is not in" in refusal("charades", **given)
    pathlib.Path(given.pop("eval_list")).unlink()
    message = refusal("charades", **given)
    assert "held-out videos of Charades are not below" in message
    assert "expected one of Charades_v1_test.csv, Charades/Charades_v1_test.csv" in message
    write(tmp_path / "train.csv", "a.mp4 0")
    assert "is not as published for Kinetics-400" in refusal("kinetics400", root=str(tmp_path))


def test_every_known_data_set_is_a_row_with_published_numbers():
    for name, known in KNOWN.items():
        assert known.name == name
        assert CATALOG[name].known is known
        assert name in DATA_SETS
        assert known.splits in (1, len(DATA_SETS[name].parts))


def test_the_page_tells_the_same():
    text = (pathlib.Path(__file__).parents[2] / "docs/datasets.md").read_text(encoding="utf-8")
    cells = [
        [cell.strip() for cell in line[1:-1].split("|")]
        for line in text.split("\n## ")[0].splitlines()
        if line.startswith("|") and line[2:].split(" ")[0] in KNOWN
    ]
    assert [row[0] for row in cells] == list(KNOWN)
    for name, classes, train, held_out, _, kind, flips, _ in cells:
        known, about = KNOWN[name], DATA_SETS[name]
        told = [int(word) for word in re.findall(r"\d+", classes)]
        assert told == [*about.classes, *about.others]
        if about.parts:
            for column, i in ((train, 0), (held_out, 1)):
                assert column == "; ".join(f"{part[i]:,}" for part in about.parts)
        assert (kind, flips) == (known.labels, "off" if known.directional else "on")
