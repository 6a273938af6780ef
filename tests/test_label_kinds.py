"""Videos with several labels, or one for each of several heads, from list files to predictions."""

import csv
import json

import numpy as np
import pytest
from tiny import experiment, noise_video

from vivit_jax import predict, train

TRAINED, HELD_OUT = 8, 4
LABELS = {  # of video i
    "multi": lambda i: ["wet", "loud", "fast"][: 1 + i % 3],
    "heads": lambda i: [["cup", "knife", "pan"][i % 3], ["cut", "wash"][i % 2]],
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return [noise_video(folder / f"{i}.mp4", i) for i in range(TRAINED + HELD_OUT)]


@pytest.fixture(scope="module", params=["multi", pytest.param("heads", marks=pytest.mark.slow)])
def run(request, videos, tmp_path_factory):
    """Returns the kind of labels, the workdir and the results of a run."""
    folder = tmp_path_factory.mktemp(request.param)
    lines = [",".join([str(path), *LABELS[request.param](i)]) for i, path in enumerate(videos)]
    (folder / "train.csv").write_text("\n".join(lines[:TRAINED]))
    (folder / "eval.csv").write_text("\n".join(lines[TRAINED:]))
    lists = {
        name: str(folder / f"{name.split('_')[0]}.csv") for name in ("train_list", "eval_list")
    }
    given = experiment(data={"labels": request.param, **lists})
    return request.param, folder, train.run(given, folder)


def test_results_are_named_by_the_kind_of_labels(run):
    kind, folder, results = run
    of_all = {"videos", "coverage", "seconds"}
    means = ["precision", "recall", "f1"]
    accuracy = ["top1", "top1_low", "top1_high"]
    of_head = [*accuracy, "top5", *means, "ece", "ece_scaled"]
    micro = (f"{key}_micro" for key in means)
    expected = {
        "multi": {"mean_average_precision", *means, *micro, *of_all},
        "heads": {*accuracy, *(f"{key}_head_{i}" for key in of_head for i in (0, 1)), *of_all},
    }
    assert set(results) == expected[kind]
    assert results["coverage"] == 1
    (line,) = (folder / "results.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 2, "split": "eval", "views": "2x3", **results}
    steps = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == [1, 2]
    assert all(np.isfinite(step["loss"]) for step in steps)
    assert ("top1" in steps[0]) == (kind == "heads")
    splits = {"multi": [2], "heads": [3, 2]}[kind]  # a head that starts at zero
    np.testing.assert_allclose(steps[0]["loss"], np.mean(np.log(splits)), rtol=1e-5)


def test_predictions_are_the_evaluations(run, videos):
    kind, folder, _ = run
    heads = {"multi": ["top"], "heads": ["top_0", "top_1"]}[kind]
    judge, views, label_maps = predict.load(folder)
    with np.load(folder / "evaluation/00000002-eval/scores.npz") as file:
        expected, ids = file["score"], file["id"].tolist()
    given = list(map(str, videos[TRAINED:]))
    assert [path.split("/")[-1] for path in ids] == [path.split("/")[-1] for path in given]
    for scores, (_, pixels) in zip(expected, predict.read(given, views), strict=True):
        found = predict.best(judge(pixels), label_maps, 99)
        assert list(found) == heads
        by_name = {row["label"]: row["score"] for rows in found.values() for row in rows}
        names = [name for names in label_maps for name in names]
        np.testing.assert_allclose([by_name[name] for name in names], scores, atol=1e-5)
        shares = [sum(row["score"] for row in rows) for rows in found.values()]
        assert np.allclose(shares, 1, atol=1e-5) == (kind == "heads")


def test_tables_name_every_label(run, videos):
    kind, folder, results = run
    folder = folder / "evaluation/00000002-eval"
    header, *rows = table(folder / "videos.csv")
    own = [LABELS[kind](i) for i in range(TRAINED, len(videos))]
    if kind == "multi":
        assert header == ["video", "label", "predicted", "score"]
        assert [set(row[1].split("|")) for row in rows] == list(map(set, own))
        classes = table(folder / "classes.csv")
        assert classes[0][-1] == "average_precision"
        mean = np.mean([float(row[-1]) for row in classes[1:]])
        np.testing.assert_allclose(results["mean_average_precision"], mean, atol=1e-4)
    else:
        columns = [f"{name} {i}" for i in (0, 1) for name in ("label", "predicted", "score")]
        assert header == ["video", *columns]
        assert [[row[1], row[4]] for row in rows] == own
        right = np.array([[row[1] == row[2], row[4] == row[5]] for row in rows])
        assert results["top1"] == right.all(axis=1).mean()
        for i in (0, 1):
            assert results[f"top1_head_{i}"] == right[:, i].mean()
            assert (folder / f"head_{i}/confusion.csv").exists()


def test_several_heads_stand_apart_in_the_table_for_people():
    rows = {f"top_{i}": [{"label": name, "score": 0.5}] for i, name in enumerate(["cup", "cut"])}
    expected = ["  head 0", "  0.5000  cup", "  head 1", "  0.5000  cut"]
    assert predict.table({}, {"video": "a.mp4", **rows}).splitlines() == expected


def table(file) -> list[list[str]]:
    with file.open(encoding="utf-8", newline="") as lines:
        return list(csv.reader(lines))
