"""Every config file, with every argument it takes: what it makes, and that its small form runs."""

import dataclasses
import shutil

import pytest
from recipes import ALL, ARGUMENTS, OWN, ROOT, load, shapes

from vivit_jax import config, main, metrics, optim, recipe, train
from vivit_jax.data.synthetic import encode_motions

IDS = [":".join(row).replace(f"{ROOT}/", "") for row in ALL]
SMALL = [f"{name}:{rows[0]}" for name, rows in ARGUMENTS.items() if "_pretrain" in name[3:]]
SMALL = [name for name in SMALL if not name.startswith("quickstart")]
SMALL += ["videomae_finetune:ssv2_S", "mae_st_finetune:B"]
SMALL += [f"timesformer:{row}" for row in ARGUMENTS["timesformer"]]
SMALL += [  # rows that differ in size alone are one when made small
    *("vivit:k400_B_joint", "vivit:k400_B", "vivit:k400_B_self_attention"),
    *("vivit:k400_B_dot_product", "vivit:ssv2_L", "vivit:ek100_L"),
    *("vivit:ek100_B_crop_flip_jitter", "vivit:ek100_B_stochastic_depth"),
    *("vivit:ek100_B_randaugment", "vivit:ek100_B_label_smoothing"),
]
SMALL += ["vivit_frozen_space:few_frames", "vivit_frozen_space:frozen_space"]


def test_no_config_is_forgotten():
    assert set(ARGUMENTS) == {file.stem for file in (ROOT / "configs").glob("*.py")}


@pytest.mark.parametrize(("name", "argument"), [row for row in ALL if row[0] in OWN])
def test_a_config_makes_an_objective_that_can_train_on_its_clips(name, argument):
    experiment = load(name, argument)  # those of papers: test_reproduction.py
    params = shapes(experiment)
    optim.make_optimizer(experiment.optim, lambda step: step, params, 10)


def test_fine_tuning_keeps_how_clips_are_chosen(tiny_run, tmp_path):
    workdir = shutil.copytree(tiny_run, tmp_path / "run")
    experiment = config.from_json(workdir / "config.json")
    data = dataclasses.replace(experiment.data, sampling="key_frames")
    text = config.to_json(dataclasses.replace(experiment, data=data))
    (workdir / "config.json").write_text(text)
    assert load("finetune", str(workdir)).data.sampling == "key_frames"


@pytest.mark.parametrize(("name", "argument"), ALL, ids=IDS)
def test_a_config_can_be_given_back_by_its_workdir(name, argument, tmp_path):
    experiment = load(name, argument)
    (tmp_path / "config.json").write_text(config.to_json(experiment), encoding="utf-8")
    assert config.parse(recipe.get_config(str(tmp_path)).to_dict()) == experiment


@pytest.mark.parametrize(
    ("argument", "rate"),
    [
        ("k400_S", 6e-4),
        ("k400_B", 1.2e-3),
        ("k400_L", 3e-4),
        ("k400_H", 6e-4),
        ("ssv2_S", 1.2e-3),
        ("ssv2_B", 1.2e-3),
        ("ucf101_B", 2.25e-4),
    ],
)
def test_videomae_s_scaled_learning_rates_are_the_published(argument, rate):
    experiment = load("videomae_pretrain", argument)
    scaled = optim.scaled(experiment.optim, experiment.data.batch_size)
    assert scaled.learning_rate == pytest.approx(rate)
    assert scaled.end_learning_rate == pytest.approx(rate * 1e-5 / experiment.optim.learning_rate)


@pytest.fixture(scope="module")
def motions(tmp_path_factory):
    return encode_motions(tmp_path_factory.mktemp("motions"))


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_the_small_form_of_a_recipe_runs(name, motions, tmp_path):
    file, argument = name.split(":")
    section = main.load(str(ROOT / f"configs/{file}.py:{argument},smoke"))
    section.data.root = str(motions)
    results = train.run(config.parse(section.to_dict()), tmp_path)
    lines = metrics.read_lines(tmp_path / metrics.METRICS)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["skipped"] == 0 for line in lines)
    assert results
