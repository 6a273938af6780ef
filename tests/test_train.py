"""Whole runs in this process: real videos, real Orbax, eight fake devices, the smallest model."""

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
import tiny

from vivit_jax import compiling, config, loop, metrics, recipe, train
from vivit_jax.checkpoint import Checkpoints
from vivit_jax.clock import TIME
from vivit_jax.data import catalog
from vivit_jax.data.synthetic import SPLITS, Split, encode_motions
from vivit_jax.errors import InputError
from vivit_jax.run import prepare


@pytest.fixture(scope="module")
def motions(tmp_path_factory):
    few = {
        name: Split(videos, SPLITS[name].speeds, SPLITS[name].curves)
        for name, videos in (("train", 3), ("val", 1))
    }
    return encode_motions(tmp_path_factory.mktemp("videos"), few)


def make_experiment(root, **changes):
    sections = {
        "data": {
            "root": str(root),
            "batch_size": 8,
            "frames": 4,
            "stride": 2,
            "image_size": 16,
            "workers": 2,
        },
        "augment": {"flip": 0.5},
        "model": {"name": "video_transformer", "size": "mu", "tubelet": (2, 8, 8), "dropout": 0.1},
        "objective": {"name": "classify"},
        "optim": {"warmup": 1.0, "unit": "steps", "average": 0.9, "spike": 50.0},
        "train": {"steps": 6, "log_every": 1, "checkpoint_every": 2},
        "eval": {"clips": 2, "crops": 1},
    }
    for name, options in changes.items():
        sections[name] = {**sections[name], **options}
    return config.parse(recipe.experiment(**sections).to_dict())


def curve(workdir):
    return tiny.written(workdir, metrics.METRICS)


def results(workdir):
    return tiny.written(workdir, metrics.RESULTS)


def saved(workdir, step):
    with Checkpoints(workdir) as checkpoints:
        assert step in checkpoints.steps()
    with ocp.StandardCheckpointer() as checkpointer:
        return jax.device_get(checkpointer.restore(workdir / "checkpoints" / str(step) / "default"))


@pytest.fixture(scope="module")
def straight(motions, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("straight")
    train.run(make_experiment(motions), workdir)
    return workdir


@pytest.mark.parametrize(
    "stop", [3, pytest.param(4, marks=pytest.mark.slow)], ids="stopped_at_step_{}".format
)
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(
    stop, straight, motions, tmp_path, monkeypatch
):
    write = metrics.Writer.write

    def stop_here(self, name, record):
        if record["step"] == stop:
            raise KeyboardInterrupt
        write(self, name, record)

    with monkeypatch.context() as patched:
        patched.setattr(metrics.Writer, "write", stop_here)
        with pytest.raises(KeyboardInterrupt):
            train.run(make_experiment(motions), tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest() == 2
    with (tmp_path / metrics.METRICS).open("a") as file:
        file.write('{"step": 3, "loss"')  # as a crash leaves it
    train.run(make_experiment(motions), tmp_path)
    assert curve(tmp_path) == curve(straight)
    assert results(tmp_path) == results(straight)
    jax.tree.map(np.testing.assert_array_equal, saved(tmp_path, 6), saved(straight, 6))


def test_a_run_writes_down_what_it_is_and_what_came_of_it(straight, motions):
    assert config.from_json(straight / "config.json") == make_experiment(motions)
    assert len((straight / "label_map.txt").read_text().splitlines()) == 8
    lines = metrics.read_lines(straight / metrics.METRICS)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    named = {"step", "loss", "learning_rate", "grad_norm", "clips_per_second", "data_wait"}
    assert named | {"clips_per_second_per_device", "goodput", "skipped"} <= set(lines[0])
    assert [line["learning_rate"] for line in lines[:2]] == [0.0, pytest.approx(1e-3)]
    (result,) = results(straight)
    assert (result["step"], result["videos"], result["coverage"]) == (6, 8, 1.0)
    assert (straight / "curves.png").stat().st_size > 1000
    with Checkpoints(straight) as checkpoints:
        assert checkpoints.steps() == [2, 4, 6]


@pytest.mark.slow
def test_repeats_fill_a_batch_and_epochs_count_videos(motions, tmp_path):
    few = {"data": {"batch_size": 4}, "train": {"steps": -1, "epochs": 0.5, "evaluate": False}}
    with pytest.raises(InputError, match=r"batch_size / .* = 4: expected a multiple of 8"):
        train.run(make_experiment(motions, **few), tmp_path)
    few["data"]["repeats"] = 2
    train.run(make_experiment(motions, **few), tmp_path)
    assert [line["step"] for line in curve(tmp_path)] == [1, 2, 3]  # of 24 videos
    few["data"]["repeats"] = 3
    with pytest.raises(InputError, match=r"batch_size \* config.data.repeats / .* = 12: expected"):
        train.run(make_experiment(motions, **few), tmp_path)


def test_a_finished_run_started_again_changes_nothing(straight, motions):
    files = [straight / name for name in (metrics.METRICS, metrics.RESULTS, TIME)]
    before = [file.read_bytes() for file in files]
    again = train.run(make_experiment(motions), straight)
    assert again["top1"] == results(straight)[-1]["top1"]
    assert [file.read_bytes() for file in files] == before


def test_no_steps_evaluate_the_newest_checkpoint(straight, motions):
    found = train.run(make_experiment(motions, train={"steps": 0}), straight)
    first, again = results(straight)[:1], results(straight)[1:]
    assert again == first
    assert found["top1"] == first[0]["top1"]
    assert config.from_json(straight / "config.json").train.steps == 6


@pytest.mark.slow
def test_the_newest_and_the_best_checkpoints_are_kept(motions, tmp_path, monkeypatch):
    scores = {2: 0.1, 4: 0.9, 6: 0.5, 8: 0.3, 10: 0.2}
    monkeypatch.setattr(loop, "evaluate", lambda run, params, step, writer: {"top1": scores[step]})
    options = {"steps": 10, "evaluate_every": 2, "checkpoint_every": 100, "keep": 2}
    train.run(make_experiment(motions, train=options), tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [4, 8, 10]


def test_another_model_in_the_same_workdir_is_refused_by_option(straight, motions):
    with pytest.raises(InputError, match=r"config\.model\.depth was 0 and is 2"):
        train.run(make_experiment(motions, model={"depth": 2}), straight)


def test_other_classes_in_the_same_workdir_are_refused(straight, motions, tmp_path):
    (tmp_path / "map.txt").write_text(
        "\n".join(sorted(p.name for p in (motions / "train").iterdir())[::-1])
    )
    experiment = make_experiment(motions, data={"label_map": str(tmp_path / "map.txt")})
    with pytest.raises(InputError, match=r"label_map\.txt has 8 classes"):
        train.run(experiment, straight)


@pytest.mark.slow
def test_an_update_that_is_skipped_is_counted_and_its_examples_named(
    motions, tmp_path, monkeypatch
):
    make_augment = compiling.make_augment

    def spoil_first_batch(*args):
        augment = make_augment(*args)

        def spoilt(video, keys):
            first = (keys == jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), 1)).any()
            clips = augment(video, keys)
            return clips.at[1].set(jax.numpy.where(first, jax.numpy.nan, clips[1]))

        return spoilt

    monkeypatch.setattr(compiling, "make_augment", spoil_first_batch)
    train.run(make_experiment(motions, train={"steps": 2, "evaluate": False}), tmp_path)
    lines = metrics.read_lines(tmp_path / metrics.METRICS)
    assert [line["skipped"] for line in lines] == [1, 1]
    assert lines[0]["loss"] is None
    (named,) = metrics.read_lines(tmp_path / metrics.SKIPPED)
    assert named["step"] == 1
    assert len(named["examples"]) == 1
    assert (motions / named["examples"][0]).exists()
    assert lines[1]["learning_rate"] == 0.0  # the schedule counts updates


def history(workdir, step):
    return saved(workdir, step)["history"]


@pytest.mark.slow
def test_what_tells_spikes_can_be_had_or_left_by_a_run_that_goes_on(motions, tmp_path):
    few = {"steps": 2, "evaluate": False}
    train.run(make_experiment(motions, train=few, optim={"spike": 0.0}), tmp_path)
    assert not history(tmp_path, 2)
    few["steps"] = 4
    train.run(make_experiment(motions, train=few, optim={"spike": 9.0}), tmp_path)
    assert int(history(tmp_path, 4)["known"]) == 2
    few["steps"] = 6
    train.run(make_experiment(motions, train=few, optim={"spike_window": 20}), tmp_path)
    assert history(tmp_path, 6)["norms"].shape == (20,)
    few["steps"] = 8
    train.run(make_experiment(motions, train=few, optim={"spike": 0.0}), tmp_path)
    assert not history(tmp_path, 8)
    assert [line["step"] for line in curve(tmp_path)] == list(range(1, 9))


def test_a_mirror_image_is_never_made_where_directions_are_labels(motions, tmp_path, monkeypatch):
    monkeypatch.setitem(catalog.CATALOG, "mine", catalog.Dataset(directional=True))
    prepared = prepare(make_experiment(motions, data={"dataset": "mine"}), tmp_path)
    assert prepared.experiment.augment.flip == 0
    asked = make_experiment(motions, data={"dataset": "mine"}, augment={"flip_directional": True})
    assert prepare(asked, tmp_path).experiment.augment.flip == 0.5
