"""Known data sets from their published files to a trained and judged model."""

import functools

import numpy as np
import pytest
from data import known_trees as trees
from tiny import experiment, noise_video

from vivit_jax import features, metrics, predict, train, trained
from vivit_jax.data.known.kind import shipped
from vivit_jax.errors import InputError
from vivit_jax.planning import videos
from vivit_jax.recipe import read_config
from vivit_jax.run import prepare

TREES = {
    "kinetics400": trees.kinetics400,
    "ucf101": trees.ucf101,
    "hmdb51": functools.partial(trees.hmdb51, names=shipped("hmdb51")[0]),
    "epic_kitchens_100": trees.epic_kitchens_100,
    "charades": trees.charades,
}
CLASSES = {"epic_kitchens_100": (300, 97), "charades": (157,)}
RESULT = {"charades": "mean_average_precision"}


def make(path, number):
    """Encodes a video."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise_video(path.with_suffix(".mp4"), number).rename(path)


def test_published_weights_are_judged_where_only_held_out_videos_are(tmp_path):
    data = {"dataset": "charades", **trees.charades(tmp_path, trees.touch)}
    for number in range(trees.TRAINED):
        (tmp_path / f"Charades_v1_480/V{number:04d}.mp4").unlink()
    prepared = prepare(experiment(data=data, train={"steps": 0}), tmp_path / "run")
    assert len(prepared.sources.eval) == trees.HELD_OUT
    assert prepared.evaluators[0].results[0] == "mean_average_precision"
    with pytest.raises(InputError, match=r"None of the training videos .*train.steps=0"):
        prepare(experiment(data=data), tmp_path / "run")


def test_plans_know_the_labels_and_sizes_of_known_data_sets():
    given = experiment(data={"dataset": "epic_kitchens_100"})
    planned, sources, where = videos.find(given)
    assert planned.data.labels == "heads"
    assert tuple(map(len, sources.label_maps)) == (300, 97)
    assert (len(sources.train), where) == (67_217, "epic_kitchens_100")


@pytest.mark.slow
@pytest.mark.parametrize("name", TREES)
def test_a_known_data_set_trains_and_is_judged_by_its_own_labels(name, tmp_path):
    data = {"dataset": name, **TREES[name](tmp_path / "data", make)}
    workdir = tmp_path / "run"
    results = train.run(experiment(data=data, eval={"crops": 1, "clips": 1}), workdir)
    assert results["videos"] == trees.HELD_OUT
    assert results["coverage"] == 1
    assert np.isfinite(results[RESULT.get(name, "top1")])
    lines = metrics.read_lines(workdir / metrics.METRICS)
    assert all(np.isfinite(line["loss"]) for line in lines)
    # Whatever the config said, the workdir knows what its labels are.
    kinds = {"charades": "multi", "epic_kitchens_100": "heads"}
    assert read_config(workdir).data.labels == kinds.get(name, "single")
    *_, label_maps = predict.load(workdir)
    expected = CLASSES.get(name) or (len(shipped(name)[0]),)
    assert tuple(map(len, label_maps)) == expected
    if name == "epic_kitchens_100":  # the features of a segment are of its span
        spans = [video.span for video in features.own(trained.find(workdir))]
        assert spans[3] == pytest.approx((0.3, 0.6))
