"""Videos without labels: what learns from them, and what refuses to."""

import pytest
from tiny import experiment, noise_video

from vivit_jax import config, metrics, predict, train
from vivit_jax.errors import InputError

MASKED = {
    "model": {"pool": "mean", "positions": "sincos_3d"},
    "objective": {
        "name": "masked_pixels",
        "mask_ratio": 0.5,
        "decoder_width": 16,
        "decoder_depth": 1,
        "decoder_heads": 2,
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Returns options of a list of paths alone."""
    folder = tmp_path_factory.mktemp("videos")
    paths = [noise_video(folder / f"{i}.mp4", i) for i in range(8)]
    (folder / "list.txt").write_text("".join(f"{path.name}\n" for path in paths))
    return {"labels": "none", "train_list": str(folder / "list.txt"), "holdout": 0.0}


@pytest.fixture(scope="module")
def workdir(data, tmp_path_factory):
    """Returns the workdir of a run that was stopped and went on."""
    folder = tmp_path_factory.mktemp("run")
    for steps in (1, 2):
        train.run(masked(data, train={"steps": steps}), folder)
    return folder


def masked(data, **sections):
    return experiment(**{**MASKED, "data": data, **sections})


@pytest.mark.slow
def test_pretraining_reads_no_labels(workdir):
    assert [line["step"] for line in metrics.read_lines(workdir / metrics.METRICS)] == [1, 2]
    assert (workdir / "label_map.txt").read_text() == ""


@pytest.mark.slow
def test_parts_of_a_batch_without_labels_are_cut_as_any(data, tmp_path):
    given = masked({**data, "batch_size": 16}, optim={"accumulate": 2}, train={"steps": 1})
    train.run(given, tmp_path)
    assert metrics.read_lines(tmp_path / metrics.METRICS)[-1]["loss"] > 0


def test_a_classifier_refuses_videos_without_labels(data, tmp_path):
    given = experiment(data=data)
    with pytest.raises(InputError, match=r"'classify' learns labels, and data\.labels = 'none'"):
        train.run(given, tmp_path)


def test_an_evaluator_that_needs_labels_refuses_by_name(data, tmp_path):
    given = masked(data, eval={"evaluators": ("multi_view",), "split": "train"})
    with pytest.raises(InputError, match=r"'multi_view' judges by labels, and config\.data\.label"):
        train.run(given, tmp_path)


@pytest.mark.slow
def test_a_run_without_labels_predicts_none(workdir):
    with pytest.raises(InputError, match="'masked_pixels', which predicts nothing of labels"):
        predict.load(workdir)
    assert config.from_json(workdir / "config.json").data.labels == "none"
