import ast
import dataclasses
import inspect
import json
import pathlib
import re
import typing

import pytest

from vivit_jax import config, options
from vivit_jax.errors import InputError
from vivit_jax.models import MODELS
from vivit_jax.objectives import OBJECTIVES

PACKAGE = pathlib.Path(config.__file__).parent
MODULES = {
    "model": {"name": "video_transformer", "tubelet": (2, 8, 8)},
    "objective": {"name": "classify"},
}
SECTIONS = [
    value
    for value in vars(config).values()
    if dataclasses.is_dataclass(value) and value.__module__ == config.__name__
]
DOCUMENTED = [*SECTIONS, *MODELS.values(), *OBJECTIVES.values()]
FIELDS = [
    (section, name, kind)
    for section, cls in typing.get_type_hints(config.Experiment).items()
    if dataclasses.is_dataclass(cls)
    for name, kind in typing.get_type_hints(cls).items()
]
WRONG = {int: (1.5, "8", True, None), float: ("1", True, None), bool: (1, "True"), str: (1, None)}


def parse(**sections):
    return config.parse({**MODULES, **sections})


def options_of(cls):
    return [f.name for f in dataclasses.fields(cls) if f.name not in ("parent", "name")]


@pytest.mark.parametrize(("section", "name", "kind"), FIELDS)
def test_every_wrong_type_is_refused_by_the_name_of_its_field(section, name, kind):
    of_texts = str in typing.get_args(kind)
    wrong = WRONG.get(kind, (1, "1", (True,), (1, 2) if of_texts else ("1", "2"), None))
    for value in wrong:
        with pytest.raises(InputError, match=rf"config\.{section}\.{name}\b.* = .*; expected "):
            parse(**{section: {name: value}})


def test_a_wrong_value_in_a_tuple_is_named_by_its_place():
    with pytest.raises(InputError, match=r"config\.data\.crop_area\[1\] = 'x'; expected a number"):
        parse(data={"crop_area": (0.5, "x")})


@pytest.mark.parametrize("given", [("knn,retrieval",), ("knn", "retrieval")])
def test_names_with_commas_are_several(given):
    assert parse(eval={"evaluators": given}).eval.evaluators == ("knn", "retrieval")


def test_a_tuple_of_another_length_is_refused():
    with pytest.raises(InputError, match=r"crop_area = \(0.5,\); expected 2 values .*a number"):
        parse(data={"crop_area": (0.5,)})


def test_a_bool_is_no_number():
    for section, name in (("data", "frames"), ("optim", "learning_rate")):
        with pytest.raises(InputError, match=f"{name} = True"):
            parse(**{section: {name: True}})


def test_lists_become_tuples_and_whole_numbers_floats():
    experiment = parse(data={"crop_area": [1, 1]}, optim={"decay_at": [3], "clip": 1})
    assert experiment.data.crop_area == (1.0, 1.0)
    assert experiment.optim.decay_at == (3.0,)
    assert type(experiment.optim.clip) is float
    assert type(experiment.data.crop_area[0]) is float


def test_an_option_that_may_be_none_takes_none_or_its_type():
    assert options.convert(None, int | None, "x") is None
    assert options.convert(3, typing.Optional[int], "x") == 3  # noqa: UP045
    with pytest.raises(InputError, match="a whole number"):
        options.convert("3", int | None, "x")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"data": {"frmes": 8}},
            r"config\.data has no option 'frmes'. Did you mean config\.data\.",
        ),
        ({"dta": {}}, r"config has no option 'dta'. Did you mean config\.data\?"),
        ({"train": {"zzz": 1}}, r"config\.train has no option 'zzz'. It has: .*epochs.*steps"),
        ({"data": 3}, r"config\.data = 3; expected a section with: dataset, root"),
        ({"model": 3}, r"config\.model = 3; expected a section"),
        ({"optim": {"unit": "step"}}, r"config\.optim\.unit = 'step'.*steps, epochs.*'steps'\?"),
        ({"eval": {"split": "val"}}, r"config\.eval\.split = 'val'; expected one of eval, train"),
        ({"eval": {"average": "mean"}}, r"config\.eval\.average = 'mean'; .* softmax, logits"),
        ({"probe": {"learning_rates": ()}}, r"probe\.learning_rates = \(\); expected one or more"),
        ({"probe": {"weight_decays": (-1.0,)}}, r"probe\.weight_decays = \(-1.0,\); expected one"),
        ({"probe": {"chosen_by": 1.0}}, r"config\.probe\.chosen_by = 1.0 is not in \(0, 1\)\."),
        ({"probe": {"crops": 2}}, r"config\.probe\.crops = 2; expected 1 or 3\."),
        ({"probe": {"temperature": 0.0}}, r"config\.probe\.temperature = 0.0 is not above 0\."),
    ],
)
def test_what_does_not_exist_is_refused_with_what_does(sections, message):
    with pytest.raises(InputError, match=message):
        parse(**sections)


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        ("data", "batch_size", 0),
        ("data", "workers", -1),
        ("optim", "accumulate", 0),
        ("train", "steps", -2),
        ("eval", "pictures", -1),
        ("train", "epochs", -0.5),
        ("train", "log_every", 0),
        ("train", "checkpoint_every", 0),
        ("train", "keep", 0),
        ("train", "evaluate_every", -1),
        ("train", "max_skipped", -1),
        ("train", "max_rollbacks", -1),
        ("eval", "batch_size", -1),
        ("probe", "clips", 0),
        ("probe", "depth", -1),
        ("probe", "neighbours", 0),
    ],
)
def test_limits_are_held(section, name, value):
    with pytest.raises(InputError, match=rf"config\.{section}\.{name} = {value} is below"):
        parse(**{section: {name: value}})


def test_time_starts_from_space_only_with_a_source():
    with pytest.raises(
        InputError, match=r"init_time_from_space = True; expected config\.init_from"
    ):
        parse(init_time_from_space=True)
    assert parse(init_time_from_space=True, init_from="runs/a").init_time_from_space


def test_a_seed_is_not_negative():
    with pytest.raises(InputError, match=r"config\.seed = -1 is below 0"):
        parse(seed=-1)


def test_an_experiment_without_a_model_is_refused():
    with pytest.raises(InputError, match="model"):
        config.parse({"objective": {"name": "classify"}})


def test_json_gives_back_exactly_what_it_took(tmp_path):
    experiment = parse(
        seed=3,
        data={"crop_area": (0.1, 1 / 3), "root": "dätä/ü", "fps": 12.5},
        optim={"decay_at": (1, 2), "nesterov": True, "learning_rate": 1e-7},
        mesh={"fsdp": -1, "data": 2},
    )
    file = tmp_path / "config.json"
    file.write_text(config.to_json(experiment), encoding="utf-8")
    assert config.from_json(file) == experiment
    assert config.from_json(file).model["tubelet"] == (2, 8, 8)
    assert config.to_json(config.from_json(file)) == file.read_text(encoding="utf-8")


def test_a_broken_json_is_refused_by_its_file(tmp_path):
    file = tmp_path / "config.json"
    wrong = {**MODULES, "data": {"frmes": 3}}
    for text, why in (("{", "not JSON"), ("[]", "a section"), (json.dumps(wrong), "frames")):
        file.write_text(text)
        with pytest.raises(InputError, match=f"{re.escape(str(file))}.*{why}"):
            config.from_json(file)


@pytest.mark.parametrize("cls", DOCUMENTED)
def test_every_option_is_documented_and_nothing_else(cls):
    attributes = inspect.getdoc(cls).split("Attributes:")[1].split("Raises:")[0]
    assert re.findall(r"^  (\w+):", attributes, re.MULTILINE) == options_of(cls)


@pytest.fixture(scope="module")
def names_read():
    return {
        node.attr
        for file in PACKAGE.rglob("*.py")
        if file.name != "config.py"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }


@pytest.mark.parametrize("cls", DOCUMENTED)
def test_every_option_is_read_somewhere(cls, names_read):
    assert set(options_of(cls)) - names_read == set()
