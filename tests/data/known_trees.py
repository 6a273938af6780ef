"""Small trees of known data sets, in the formats and layouts in which they are published.

Each function writes annotation files, calls `make(path, number)` for every video, and returns the
options of config.Data that name the files: a selection is named, or it would have to be whole.
"""

import json
import pathlib
from collections.abc import Callable

Make = Callable[[pathlib.Path, int], object]
TRAINED, HELD_OUT = 8, 4


def touch(path: pathlib.Path, number: int = 0) -> None:
    """Makes a file in place of a video, where none is decoded."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def write(path: pathlib.Path, *lines: str, end: str = "\n") -> pathlib.Path:
    """Returns the path of a file with these lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + end for line in lines), encoding="utf-8", newline="")
    return path


def options(root: pathlib.Path, train: pathlib.Path, held_out: pathlib.Path) -> dict[str, str]:
    """Returns options that name annotation files."""
    return {"root": str(root), "train_list": str(train), "eval_list": str(held_out)}


def kinetics400(root: pathlib.Path, make: Make) -> dict[str, str]:
    """Classes as folders with underscores, and times in the names."""
    classes, lists = ("abseiling", "air drumming"), {}
    for part, numbers in (("train", range(TRAINED)), ("val", range(TRAINED, TRAINED + HELD_OUT))):
        rows = ["label,youtube_id,time_start,time_end,split,is_cc"]
        for i in numbers:
            name, label = f"-id{i}_{i}", classes[i % 2]
            rows.append(f'"{label}",{name},{i},{i + 10},{part},0')
            folder = root / part / label.replace(" ", "_")
            make(folder / f"{name}_{i:06d}_{i + 10:06d}.mp4", i)
        lists[part] = write(root / f"annotations/{part}.csv", *rows)
    return options(root, lists["train"], lists["val"])


def ucf101(root: pathlib.Path, make: Make) -> dict[str, str]:
    """CRLF, and numbers from 1 in the training list alone."""
    lists = {"train": [], "test": []}
    for i in range(TRAINED + HELD_OUT):
        name, number = (("ApplyEyeMakeup", 1), ("ApplyLipstick", 2))[i % 2]
        path = f"{name}/v_{name}_g{i:02d}_c01.avi"
        make(root / "UCF-101" / path, i)
        part = "train" if i < TRAINED else "test"
        lists[part].append(f"{path} {number}" if part == "train" else path)
    folder = root / "ucfTrainTestlist"
    files = [write(folder / f"{part}list01.txt", *lists[part], end="\r\n") for part in lists]
    return options(root, *files)


def hmdb51(root: pathlib.Path, make: Make, names: tuple[str, ...]) -> dict[str, str]:
    """A file a class and split: 1 for training, 2 for test, 0 for neither."""
    folder = root / "testTrainMulti_7030_splits"
    for name in names:
        rows = {}
        if name in names[:2]:
            for i in range(TRAINED // 2 + HELD_OUT // 2 + 1):
                use = 1 if i < TRAINED // 2 else 2 if i < (TRAINED + HELD_OUT) // 2 else 0
                rows[f"{name} (film)_u_nm_np1_ba_{i}.avi"] = use
        for split in (1, 2, 3):
            turned = {1: (1, 2, 0), 2: (2, 1, 0), 3: (0, 1, 2)}[split]  # where 1, 2 and 0 go
            lines = [f"{file} {turned[use - 1]} " for file, use in rows.items()]
            write(folder / f"{name}_test_split{split}.txt", *lines)
        for i, file in enumerate(rows):
            make(root / "hmdb51_org" / name / file, i)
    given = str(folder / "brush_hair_test_split1.txt")
    return {"root": str(root), "train_list": given, "eval_list": given}


def epic_kitchens_100(root: pathlib.Path, make: Make) -> dict[str, str]:
    """Segments of two videos, and 300 nouns and 97 verbs."""
    columns = (
        "narration_id,participant_id,video_id,narration_timestamp,start_timestamp,stop_timestamp,"
        "start_frame,stop_frame,narration,verb,verb_class,noun,noun_class,all_nouns,all_noun_classes"
    )
    lists = {}
    for part, video, number in (("train", "P01_01", TRAINED), ("validation", "P02_101", HELD_OUT)):
        rows = [columns]
        for i in range(number):
            noun, verb, begin, end = (
                i % 3,
                i % 2,
                f"00:00:{i / 10:05.2f}",
                f"00:00:{i / 10 + 0.3:05.2f}",
            )
            rows.append(
                f"{video}_{i},{video[:3]},{video},{begin},{begin},{end},1,9,"
                f"\"take noun, then\",verb{verb},{verb},noun{noun},{noun},\"['noun{noun}', 'x']\","
                f'"[{noun}, 9]"'
            )
        make(root / f"{video[:3]}/videos/{video}.MP4", number)
        lists[part] = write(root / f"EPIC_100_{part}.csv", *rows)
    for kind, count in (("noun", 300), ("verb", 97)):
        names = [f"{i},{kind}{i},\"['{kind}{i}', 'other']\",some" for i in range(count)]
        write(root / f"EPIC_100_{kind}_classes.csv", "id,key,instances,category", *names)
    return options(root, lists["train"], lists["validation"])


def charades(root: pathlib.Path, make: Make) -> dict[str, str]:
    """Any number of actions a video, none among them; and a script with commas."""
    lists = {}
    for part, numbers in (("train", range(TRAINED)), ("test", range(TRAINED, TRAINED + HELD_OUT))):
        rows = [
            "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length"
        ]
        for i in numbers:
            actions = [f"c{c:03d} 0.00 {c + 1.5:.2f}" for c in (0, 1, 156, 0)[: i % 4]]
            rows.append(
                f'V{i:04d},S,Kitchen,6,7,Yes,"A person, walking",cup,,{";".join(actions)},30.62'
            )
            make(root / f"Charades_v1_480/V{i:04d}.mp4", i)
        lists[part] = write(root / f"Charades_v1_{part}.csv", *rows)
    names = [f"c{i:03d} Doing thing {i}" for i in range(157)]
    write(root / "Charades_v1_classes.txt", *names)
    return options(root, lists["train"], lists["test"])


def something_something_v2(root: pathlib.Path, make: Make) -> dict[str, str]:
    """Templates with placeholders, and class numbers in quotes."""
    names = [f"Doing {i} with something" for i in range(174)]
    labels = {name: str(i) for i, name in enumerate(names)}
    write(root / "labels/labels.json", json.dumps(labels))
    lists = {}
    for part, numbers in (
        ("train", range(TRAINED)),
        ("validation", range(TRAINED, TRAINED + HELD_OUT)),
    ):
        entries = []
        for i in numbers:
            template = f"Doing {i % 2} with [something]"
            entry = {"id": str(i), "label": "doing it", "template": template}
            entries.append({**entry, "placeholders": ["cup"]})
            make(root / f"20bn-something-something-v2/{i}.webm", i)
        lists[part] = write(root / f"labels/{part}.json", json.dumps(entries))
    return options(root, lists["train"], lists["validation"])


def diving48(root: pathlib.Path, make: Make) -> dict[str, str]:
    """A vocabulary of lists."""
    vocabulary = [["Back", f"{i:02d}som", "NoTwis", "PIKE"] for i in range(48)]
    write(root / "Diving48_vocab.json", json.dumps(vocabulary))
    lists = {}
    for part, numbers in (("train", range(TRAINED)), ("test", range(TRAINED, TRAINED + HELD_OUT))):
        entries = []
        for i in numbers:
            name = f"_vid-{i}_{i:05d}"
            entry = {"vid_name": name, "label": 46 + i % 2, "start_frame": 0, "end_frame": 9}
            entries.append(entry)
            make(root / f"rgb/{name}.mp4", i)
        lists[part] = write(root / f"Diving48_V2_{part}.json", json.dumps(entries))
    return options(root, lists["train"], lists["test"])


def moments_in_time(root: pathlib.Path, make: Make) -> dict[str, str]:
    """Files of one name in two classes, and categories that are not in alphabetical order."""
    names = ["clapping", "adult+female+singing", *(f"verb{i}" for i in range(337))]
    write(root / "moments_categories.txt", *(f"{name},{i}" for i, name in enumerate(names)))
    lists = {}
    for part, numbers in (
        ("training", range(TRAINED)),
        ("validation", range(TRAINED, TRAINED + HELD_OUT)),
    ):
        rows = []
        for i in numbers:
            name = names[i % 2]
            rows.append(f"{name}/yt-vid_{i // 2}.mp4,{name},3,0")
            make(root / part / name / f"yt-vid_{i // 2}.mp4", i)
        lists[part] = write(root / f"{part}Set.csv", *rows)
    return options(root, lists["training"], lists["validation"])


def ava_kinetics(root: pathlib.Path, make: Make) -> dict[str, str]:
    """Persons at key-frames of pieces of YouTube videos, and key-frames without any."""
    entries = [
        f'label {{\n  name: "act {i}"\n  label_id: {i}\n  label_type: PERSON_MOVEMENT\n}}'
        for i in range(1, 81)
    ]
    write(root / "ava_action_list_v2.2.pbtxt", *entries)
    lists = {}
    for part, numbers in (("train", range(TRAINED)), ("val", range(TRAINED, TRAINED + HELD_OUT))):
        rows = [f"nobody_{part},5.016949"]
        for i in numbers:
            for action in (12, 80)[: 1 + i % 2]:
                rows.append(f"key_{i},{100 + i}.000000,0.1,0.2,0.3,0.4,{action}")
            rows.append(f"key_{i},{100 + i}.000000,0.5,0.2,0.9,0.4,12")  # a second person
            make(root / f"{part}/some class/key_{i}_{95 + i:06d}_{105 + i:06d}.mp4", i)
        lists[part] = write(root / f"kinetics_{part}_v1.0.csv", *rows)
    return options(root, lists["train"], lists["val"])
