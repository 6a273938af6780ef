import dataclasses

import pytest

from vivit_jax import config, recipe
from vivit_jax.errors import InputError
from vivit_jax.models import MODELS
from vivit_jax.objectives import OBJECTIVES

MODULES = {"model": {"name": "video_transformer"}, "objective": {"name": "classify"}}


@pytest.mark.parametrize("section", ["model", "objective"])
def test_every_field_of_a_module_can_be_overridden(section):
    cls = {**MODELS, **OBJECTIVES}[MODULES[section]["name"]]
    inner = {"parent", "name", "encoder", "class_splits", "multi_label"}
    fields = {field.name for field in dataclasses.fields(cls)} - inner
    assert set(recipe.experiment(**MODULES)[section]) == {"name", *fields}


def test_what_a_config_leaves_out_has_its_default():
    given = recipe.experiment(**MODULES, data={"frames": 8}, seed=3)
    assert given.data.frames == 8
    assert given.seed == 3
    assert given.data.stride == config.Data().stride
    assert given.optim.to_dict() == dataclasses.asdict(config.Optim())
    assert given.model.tubelet == MODELS["video_transformer"]().tubelet


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"name": "video_transfomer"}}, r"config\.model\.name.*expected one of video_tr"),
        ({"objective": {"name": "clasify"}}, r"config\.objective\.name.*Did you mean 'classify'"),
        ({"model": {}}, r"config\.model has no name; expected one of video_transformer"),
        (
            {"model": {"name": "video_transformer", "dept": 3}},
            r"mean config\.model\.depth\?.*width",
        ),
        (
            {"model": {"name": "video_transformer", "depth": "3"}},
            r"config\.model\.depth = '3'; exp",
        ),
        ({"model": {"name": "video_transformer", "scan": 1}}, r"config\.model\.scan = 1; expected"),
        (
            {"objective": {"name": "classify", "mixp": 1}},
            r"mean config\.objective\.mixup\?.*cutmix",
        ),
        ({"objective": {"name": "classify", "class_splits": (2,)}}, "has no option 'class_splits'"),
        ({"data": {"frmes": 3}}, r"Did you mean config\.data\.frames\?"),
        ({"dta": {"frames": 3}}, r"Did you mean config\.data\?"),
    ],
)
def test_a_misspelt_option_is_refused_with_the_valid_ones(sections, message):
    with pytest.raises(InputError, match=message):
        recipe.experiment(**{**MODULES, **sections})


def test_the_labels_of_the_data_decide_the_head():
    experiment = config.parse(recipe.experiment(**MODULES, data={"labels": "multi"}).to_dict())
    objective = recipe.build_objective(experiment, [("a", "b", "c")])
    assert objective.multi_label
    assert objective.class_splits == (3,)


def test_a_folder_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"config\.json does not exist; expected the workdir"):
        recipe.read_config(tmp_path)
