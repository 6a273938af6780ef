"""An encoder alone: judged and looked at like any, and never trained."""

import jax
import jax.numpy as jnp
import pytest
from tiny import experiment, noise_video

from vivit_jax import config, metrics, recipe, train
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.errors import InputError

ALONE = {"objective": {"name": "encode"}, "train": {"steps": 0}}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for i in range(6):
        noise_video(folder / ("train" if i < 4 else "val") / "ab"[i % 2] / f"{i}.mp4", i)
    return str(folder)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """Returns a workdir as an import of a published encoder makes it."""
    folder = tmp_path_factory.mktemp("encoder")
    (folder / "config.json").write_text(config.to_json(experiment(**ALONE)))
    (folder / "label_map.txt").write_text("")
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(0, {"params": made()[1]})
    return folder


def made():
    """Returns the objective and parameters of it."""
    given = experiment(**ALONE)
    objective = recipe.build_objective(given, ((),))
    batch = {"video": jnp.zeros((1, 4, 16, 16, 3), jnp.uint8)}
    return objective, jax.jit(objective.init)(jax.random.key(0), batch)["params"]


def test_its_parameters_are_the_encoder_s_alone():
    assert set(made()[1]) == {"encoder"}


def test_it_refuses_to_be_trained():
    objective, params = made()
    batch = {"video": jnp.zeros((1, 4, 16, 16, 3), jnp.uint8)}
    with pytest.raises(InputError, match=r"'encode' learns nothing: give another"):
        objective.apply({"params": params}, batch, train=True)


@pytest.mark.parametrize("steps", [-1, 3])
def test_a_run_of_steps_is_refused_before_anything_is_compiled(root, tmp_path, steps):
    given = experiment(**{**ALONE, "train": {"steps": steps}}, data={"root": root})
    with pytest.raises(InputError, match=rf"'encode' learns nothing, and .*steps = {steps}: use 0"):
        train.run(given, tmp_path)


def test_it_is_judged_by_its_features_where_it_lies_and_from_elsewhere(root, workdir, tmp_path):
    names = {"eval": {"evaluators": ("feature_pca", "knn")}, "data": {"root": root}}
    there = train.run(experiment(**ALONE, **names), workdir)
    elsewhere = train.run(experiment(**ALONE, **names, init_from=str(workdir)), tmp_path)
    assert there["feature_std"] == elsewhere["feature_std"] > 0
    assert there["knn_top1"] == elsewhere["knn_top1"]
    assert metrics.read_lines(tmp_path / metrics.RESULTS)[0]["step"] == 0


def test_what_judges_it_by_default_needs_no_labels(root, workdir):
    found = train.run(experiment(**ALONE, data={"root": root}), workdir)
    assert set(found) >= {"feature_std", "feature_top3"}
