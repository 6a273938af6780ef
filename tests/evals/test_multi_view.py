"""Every video is judged once, by the mean over its views, whatever the batches and devices."""

import csv
import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import matplotlib.image
import numpy as np
import pytest
from tiny import SIZE, experiment, noise_video

from vivit_jax import config, recipe, sharding
from vivit_jax.data.decode import read_views
from vivit_jax.data.examples import Example, Listed, Sources
from vivit_jax.data.pipeline import eval_batches
from vivit_jax.data.views import eval_views
from vivit_jax.errors import InputError
from vivit_jax.evals.multi_view import Judged, MultiView
from vivit_jax.measures import calibration

NAMES = ("left", "right", "up, and away")
VIDEOS, BAD = 5, 2
EXPERIMENT = experiment()
OBJECTIVE = recipe.build_objective(EXPERIMENT, [NAMES])


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Listed:
    folder = tmp_path_factory.mktemp("source")
    paths = [noise_video(folder / f"{i}.mp4", i) for i in range(VIDEOS)]
    ids = [*(path.name for path in paths[:-1]), "no text \udcff.mp4"]  # as os.fsdecode gives it
    return Listed([Example(ids[i], str(path), i % len(NAMES)) for i, path in enumerate(paths)])


@pytest.fixture(scope="module")
def spoilt(source, tmp_path_factory) -> Listed:
    """Returns the same source, whose video BAD is random bytes."""
    path = tmp_path_factory.mktemp("spoilt") / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    examples = list(source.examples)
    examples[BAD] = Example(path.name, str(path), BAD)
    return Listed(examples)


@pytest.fixture(scope="module")
def params():
    """Returns parameters whose head tells videos apart."""
    clip = np.zeros((1, EXPERIMENT.data.frames, SIZE, SIZE, 3), np.uint8)
    clip = {"video": jnp.asarray(clip)}
    init = functools.partial(OBJECTIVE.init, method="predict")
    made = jax.jit(init)(jax.random.key(0), clip)["params"]
    kernel = jax.random.normal(jax.random.key(1), made["head"]["kernel"].shape)
    return {**made, "head": {**made["head"], "kernel": kernel}}


def evaluator(source, devices=1, objective=OBJECTIVE, names=(NAMES,), **options) -> MultiView:
    mesh = sharding.make_mesh(config.Mesh(data=devices), jax.devices()[:devices])
    judged = dataclasses.replace(
        EXPERIMENT, eval=dataclasses.replace(EXPERIMENT.eval, **{"batch_size": 2, **options})
    )
    return MultiView(objective, judged, Sources(source, source, names), mesh)


@pytest.fixture(scope="module")
def logits(source, params) -> np.ndarray:
    """Returns the logits of every view of every video, by hand: [N V K]."""
    views = eval_views(EXPERIMENT.data, EXPERIMENT.eval.clips, EXPERIMENT.eval.crops)
    videos = np.stack([read_views(example.video, *views, (0,)) for example in source.examples])
    clips = {"video": jnp.asarray(videos.reshape(-1, *videos.shape[2:]))}
    predict = jax.jit(lambda clips: OBJECTIVE.apply({"params": params}, clips, method="predict"))
    return np.asarray(predict(clips)).reshape(*videos.shape[:2], len(NAMES))


@pytest.fixture(scope="module")
def scores(logits) -> np.ndarray:
    """Returns the scores of every video, by hand: [N K]."""
    return softmax(logits).mean(axis=1)


def softmax(x: np.ndarray) -> np.ndarray:
    shares = np.exp(x - x.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def test_views_of_a_video_differ(logits):
    assert logits.shape[1] == 6
    assert (np.ptp(softmax(logits), axis=1).max(axis=1) > 1e-3).all()


@pytest.mark.parametrize(
    ("batch_size", "devices"), [(2, 1), (3, 1), (VIDEOS + 1, 1), (8, 8), (0, 8)]
)
def test_each_video_is_judged_once_by_the_mean_softmax_of_its_views(
    source, params, scores, batch_size, devices
):
    judged = evaluator(source, devices, batch_size=batch_size).judge(params)
    assert judged.videos.tolist() == list(range(VIDEOS))
    assert judged.labels.tolist() == [example.label for example in source.examples]
    assert judged.bad == []
    np.testing.assert_allclose(judged.scores, scores, atol=1e-6)


def test_average_of_logits_is_the_softmax_of_their_mean(source, params, logits, scores):
    found = evaluator(source, average="logits").judge(params).scores
    np.testing.assert_allclose(found, softmax(logits.mean(axis=1)), atol=1e-6)
    assert np.abs(found - scores).max() > 1e-4


def test_two_processes_together_see_what_one_does(spoilt):
    def batches(rows):
        options = {"clips": 2, "crops": 1, "batch_size": 4, "rows": rows}
        with eval_batches(spoilt, EXPERIMENT.data, **options) as found:
            return list(found)

    one, halves = batches(None), [batches(rows) for rows in ((0, 1), (2, 3))]
    assert [len(half) for half in halves] == [len(one)] * 2
    for whole, left, right in zip(one, *halves, strict=True):
        for key in whole:
            np.testing.assert_array_equal(whole[key], np.concatenate([left[key], right[key]]))
    assert np.concatenate([batch["index"] for batch in one]).tolist() == [*range(VIDEOS), *[-1] * 3]


def test_an_unreadable_video_is_left_out_and_told_of(spoilt, params, scores, tmp_path):
    results = evaluator(spoilt).run(params, tmp_path / "evaluation", tmp_path)
    rest = [i for i in range(VIDEOS) if i != BAD]
    labels = [spoilt.example(i).label for i in rest]
    assert results["videos"] == VIDEOS
    assert results["coverage"] == (VIDEOS - 1) / VIDEOS
    assert results["top1"] == np.mean(scores[rest].argmax(axis=1) == labels)
    (record,) = map(json.loads, (tmp_path / "bad_videos.jsonl").read_text().splitlines())
    assert (record["id"], record["cause"], record["split"]) == ("noise.mp4", "unreadable", "eval")
    with np.load(tmp_path / "evaluation/scores.npz") as file:
        assert file["id"].tolist() == [spoilt.example(i).id for i in rest]
        np.testing.assert_allclose(file["score"], scores[rest], atol=1e-6)


def test_a_strict_evaluation_refuses_an_unreadable_video_by_name(spoilt, params, tmp_path):
    with pytest.raises(InputError, match="1 of 5 videos .*\n  noise.mp4: unreadable: "):
        evaluator(spoilt, strict=True).run(params, tmp_path / "evaluation", tmp_path)


def test_without_a_readable_video_there_is_no_result(spoilt, params, tmp_path):
    source = Listed([spoilt.examples[BAD]])
    results = evaluator(source).run(params, tmp_path / "evaluation", tmp_path)
    assert np.isnan(results["top1"])
    assert results["coverage"] == 0
    assert table(tmp_path / "evaluation/videos.csv") == [["video", "label", "predicted", "score"]]


def test_what_is_written_agrees_with_the_results(source, params, scores, tmp_path):
    folder = tmp_path / "evaluation"
    results = evaluator(source).run(params, folder, tmp_path)
    written = {"classes.csv", "confusion.csv", "confusion.png", "scores.npz", "videos.csv"}
    assert {file.name for file in folder.iterdir()} == written
    assert matplotlib.image.imread(folder / "confusion.png").shape[0] > 100

    with np.load(folder / "scores.npz") as file:
        ids, labels, found = file["id"].tolist(), file["label"][:, 0], file["score"]
    assert ids == [example.id for example in source.examples]
    assert labels.tolist() == [example.label for example in source.examples]
    np.testing.assert_allclose(found, scores, atol=1e-6)
    predicted = found.argmax(axis=1)
    assert table(folder / "videos.csv")[1:] == [
        [ids[i], NAMES[labels[i]], NAMES[predicted[i]], f"{found[i].max():.4f}"]
        for i in range(VIDEOS)
    ]

    matrix = np.zeros((len(NAMES), len(NAMES)), int)
    np.add.at(matrix, (labels, predicted), 1)
    assert table(folder / "confusion.csv")[1:] == [
        [name, *map(str, row)] for name, row in zip(NAMES, matrix.tolist(), strict=True)
    ]
    assert results["top1"] == np.trace(matrix) / VIDEOS
    assert results["top5"] == 1
    assert 0 <= results["top1_low"] <= results["top1"] <= results["top1_high"] <= 1
    assert results["top1_low"] < results["top1_high"]
    assert results["ece"] == pytest.approx(calibration.expected_error(scores, labels), abs=1e-5)
    mended = calibration.cross_scaled(scores, labels)
    assert results["ece_scaled"] == pytest.approx(
        calibration.expected_error(mended, labels), abs=1e-4
    )
    header, *rows = table(folder / "classes.csv")
    assert [row[:2] for row in rows] == [
        [name, str(videos)] for name, videos in zip(NAMES, matrix.sum(axis=1), strict=True)
    ]
    for column in ("precision", "recall", "f1"):
        mean = np.mean([float(row[header.index(column)]) for row in rows])
        np.testing.assert_allclose(results[column], mean, atol=1e-4)


def test_scores_that_are_no_numbers_are_never_right(source, tmp_path):
    names = [NAMES, ("cut", "wash")]
    objective = recipe.build_objective(EXPERIMENT, names)
    judged = Judged(np.full((2, 5), np.nan), np.zeros((2, 2), np.int32), np.arange(2), [])
    results = evaluator(source, objective=objective, names=names)._measure(judged, tmp_path)
    names = ("top1", "top1_head_0", "top5_head_1", "recall_head_0", "precision_head_1")
    assert {results[name] for name in names} == {0}
    rows = table(tmp_path / "head_0/confusion.csv")[1:]
    assert {cell for row in rows for cell in row[1:]} == {"0"}


def test_no_video_is_refused_with_what_to_do():
    with pytest.raises(InputError, match="data.eval_list, a folder named val, or .* data.holdout"):
        evaluator(Listed([]))


def table(file) -> list[list[str]]:
    with file.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        return list(csv.reader(lines))
