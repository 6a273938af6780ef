"""Every config file, with every argument it takes: what it makes, and that its small form runs."""

import pathlib

import jax
import jax.numpy as jnp
import pytest

from vivit_jax import config, main, metrics, optim, recipe, train
from vivit_jax.data.synthetic import encode_motions

ROOT = pathlib.Path(__file__).parents[1]
ARGUMENTS = {
    "quickstart": [""],
    "train_folder": [""],
    "vivit_k400": [
        *("joint", "factorised_encoder", "factorised_self_attention", "factorised_dot_product"),
    ],
    "vivit_frozen_space": ["few_frames", "frozen_space"],
    "quickstart_pretrain": ["joint", "factorised_encoder", "joint,finetune"],
    "videomae_pretrain": [
        *(f"k400_{size}" for size in "SBLH"),
        *("ssv2_S", "ssv2_B", "ucf101_B", "hmdb51_B"),
    ],
    "videomae_finetune": [
        *(f"k400_{size}" for size in "SBLH"),
        *("ssv2_S", "ssv2_B", "ucf101_B", "hmdb51_B"),
    ],
    "videomae_v2_pretrain": ["B", "g"],
    "mae_st_pretrain": ["B", "L", "H"],
    "mae_st_finetune": ["B", "L", "H"],
    "vjepa_pretrain": ["L", "H"],
    "vjepa2_pretrain": ["L"],
}
ALL = [(name, argument) for name, arguments in ARGUMENTS.items() for argument in arguments]
SMALL = [f"{name}:{rows[0]}" for name, rows in ARGUMENTS.items() if "_pretrain" in name[3:]]
SMALL = [name for name in SMALL if not name.startswith("quickstart")]
SMALL += ["videomae_finetune:ssv2_S", "mae_st_finetune:B"]
SMALL += ["vivit_frozen_space:few_frames", "vivit_frozen_space:frozen_space"]


def load(name, argument=""):
    file = str(ROOT / f"configs/{name}.py") + (f":{argument}" if argument else "")
    return config.parse(main.load(file).to_dict())


def test_no_config_is_forgotten():
    assert set(ARGUMENTS) == {file.stem for file in (ROOT / "configs").glob("*.py")}


@pytest.mark.parametrize(("name", "argument"), ALL, ids=":".join)
def test_a_config_makes_an_objective_that_can_train_on_its_clips(name, argument):
    experiment = load(name, argument)
    data, size = experiment.data, experiment.data.image_size
    objective = recipe.build_objective(experiment, [["a", "b"]])
    if hasattr(objective, "check_clip"):
        objective.check_clip(data.frames, size, size)
    clip = {
        "video": jax.ShapeDtypeStruct((1, data.frames, size, size, 3), jnp.dtype("uint8")),
        "label": jax.ShapeDtypeStruct((1,), jnp.dtype("int32")),
        "valid": jax.ShapeDtypeStruct((1,), jnp.dtype("bool")),
    }
    streams = {"params": jax.random.key(0), "mask": jax.random.key(0)}
    params = jax.eval_shape(objective.init, streams, clip)["params"]
    schedule = optim.make_schedule(experiment.optim, 10, 1.0)
    optim.make_optimizer(experiment.optim, schedule, params, 10)


@pytest.mark.parametrize(("name", "argument"), ALL, ids=":".join)
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
