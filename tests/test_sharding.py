import re

import jax
import jax.numpy as jnp
import optax
import pytest
import tiny
from jax.sharding import PartitionSpec as P

from vivit_jax import config, recipe, sharding
from vivit_jax.errors import InputError
from vivit_jax.models.frame_models import FrameModel
from vivit_jax.models.video_transformer import CHOICES, VideoTransformer
from vivit_jax.objectives.classify import Classify
from vivit_jax.train_step import init_state
from vivit_jax.trees import by_path


def named(tree):
    return {
        jax.tree_util.keystr(path, simple=True, separator="/"): leaf
        for path, leaf in jax.tree.leaves_with_path(tree)
    }


def places(attention, mesh):
    objective = Classify(
        VideoTransformer(size="S", attention=attention, pool="mean", tubelet=(2, 16, 16)), (400,)
    )
    clip = {
        "video": jnp.zeros((1, 4, 32, 32, 3), jnp.uint8),
        "label": jnp.zeros(1, jnp.int32),
        "valid": jnp.ones(1, bool),
    }

    def init():
        params = objective.init(jax.random.key(0), clip)["params"]
        return init_state(params, optax.adam(1.0), 0.9)

    state = jax.eval_shape(init)
    return named(state), named(sharding.shardings(state, mesh))


@pytest.mark.parametrize("attention", CHOICES["attention"])
def test_whatever_is_large_is_split_and_its_moments_and_average_alike(attention):
    mesh = sharding.make_mesh(config.Mesh(data=2, fsdp=2, tensor=2))
    shapes, found = places(attention, mesh)
    for name, shape in shapes.items():
        if shape.size >= 384 * 384 and not re.search("position", name):
            assert not found[name].is_fully_replicated, name
        if name.startswith("params/"):
            own = name.removeprefix("params/")
            alike = [n for n in found if n.endswith(f"/{own}") and n != name]
            assert len(alike) == 3, alike  # two moments and the average
            assert {found[n].spec for n in alike} == {found[name].spec}


def test_every_rule_is_the_first_that_some_parameter_s_path_ends_in():
    pretraining = {"name": "latent_prediction", "predictor_width": 16, "predictor_heads": 2}
    pretraining |= {"blocks": (1,), "block_scales": (0.25,)}
    pixels = {"name": "masked_pixels", "decoder_width": 16, "decoder_heads": 2}
    divided = {"attention": "divided", "pool": "mean"}
    paths = set()
    for objective, model in (
        ({"name": "classify", "pooling": "attentive"}, divided),
        (pretraining, {}),
        (pixels, {"positions": "separable"}),
        ({"name": "classify"}, {"attention": "factorised_encoder"}),
    ):
        given = tiny.experiment(objective=objective, model=model)
        module = recipe.build_objective(given, [["a", "b"]])
        shapes = recipe.param_shapes(module, given.data, [["a", "b"]])
        paths |= set(by_path(shapes))
    frames = FrameModel(width=8, time_width=16)
    clip = jnp.zeros((1, 2, 32, 32, 3))
    paths |= set(by_path(jax.eval_shape(frames.init, jax.random.key(0), clip)))
    patterns = [pattern for pattern, _ in sharding.RULES]
    used = {next((p for p in patterns if re.search(f"(?:{p})$", path)), "") for path in paths}
    assert used == {*patterns, ""}


def test_an_axis_that_does_not_divide_stays_whole():
    mesh = sharding.make_mesh(config.Mesh(data=1, fsdp=1, tensor=8))
    _, found = places("joint", mesh)  # 6 heads, 8 devices
    assert found["params/encoder/blocks/block_0/attention_0/query/kernel"].is_fully_replicated
    kernel = found["params/encoder/blocks/block_0/mlp_in/kernel"]
    assert kernel.spec == P("fsdp", "tensor")


def test_parameters_are_split_over_sequence_too_where_it_divides_them():
    mesh = sharding.make_mesh(config.Mesh(data=1, fsdp=2, sequence=4))

    def spec(sides, name="mlp_in/kernel", rules=sharding.RULES):
        return sharding.place(name, sides, mesh, rules)

    assert spec((16, 8)) == P(("fsdp", "sequence"), "tensor")
    assert spec((6, 8)) == P("fsdp", "tensor")
    assert spec((5, 8)) == P(None, "tensor")
    assert spec((16, 8), rules=[("kernel", P("fsdp", "sequence"))]) == P("fsdp", "sequence")


def test_every_device_is_in_the_mesh():
    whole = sharding.make_mesh(config.Mesh())
    assert tuple(whole.shape) == ("dcn", "data", "fsdp", "sequence", "tensor")
    assert whole.shape["data"] == 8
    sizes = config.Mesh(data=2, fsdp=-1, tensor=2)
    assert sharding.make_mesh(sizes).shape["fsdp"] == 2


@pytest.mark.parametrize("sizes", [(1, 3), (-1, -1), (1, 2, 2), (1, 0), (1, -1, 16)])
def test_sizes_that_do_not_fit_the_devices_are_refused(sizes):
    with pytest.raises(InputError, match=r"config\.mesh = .* does not fit 8 devices"):
        sharding.make_mesh(config.Mesh(*sizes))


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ({"data": 3}, "dcn=1, data=8, fsdp=1, sequence=1, tensor=1"),
        ({"data": 2, "tensor": 16}, "dcn=1, data=1, fsdp=1, sequence=1, tensor=8"),
        ({"data": 2, "fsdp": 2, "tensor": 3}, "dcn=1, data=2, fsdp=2, sequence=1, tensor=2"),
    ],
)
def test_sizes_that_do_not_fit_are_told_the_nearest_that_do(given, nearest):
    with pytest.raises(InputError, match=nearest):
        sharding.mesh_shape(config.Mesh(**given), 8)


def test_an_axis_that_does_not_divide_is_told_those_that_do():
    with pytest.raises(
        InputError, match=r"mesh\.tensor = 4 does not divide the 6 heads.* 1, 2, 3, 6"
    ):
        sharding.check_divides("tensor", 4, "heads", 6)


def test_a_rule_of_the_config_comes_first():
    mesh = sharding.make_mesh(config.Mesh(data=2, fsdp=2, tensor=2))
    paths = ["encoder/mlp_in/kernel", "encoder/class_token"]
    given = config.Mesh(rules=("mlp_in/kernel=- fsdp",))
    rules = sharding.given_rules(given, paths)
    assert sharding.place(paths[0], (8, 8), mesh, rules) == P(None, "fsdp")
    assert sharding.place(paths[0], (8, 8), mesh, sharding.RULES) == P("fsdp", "tensor")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("mlp_inn/kernel=fsdp", "no parameter's path ends in 'mlp_inn/kernel'; some.*class_token"),
        ("mlp_in/kernel=columns", "expected PATTERN=AXES, with axes of dcn, data"),
        ("fsdp", "expected PATTERN=AXES"),
        ("(mlp=fsdp", "unterminated"),
    ],
)
def test_a_rule_that_is_none_or_matches_nothing_is_refused(row, message):
    with pytest.raises(InputError, match=message):
        sharding.given_rules(config.Mesh(rules=(row,)), ["class_token", "mlp_in/kernel"])


def test_what_is_large_and_whole_is_reported_where_parameters_are_split():
    sides = {"odd/kernel": (1025, 1025), "mlp_in/kernel": (1024, 1024)}

    def left_whole(**sizes):
        mesh = sharding.make_mesh(config.Mesh(**sizes))
        params = {k: jax.ShapeDtypeStruct(v, jnp.float32) for k, v in sides.items()}
        places = sharding.shardings(params, mesh)
        return sharding.left_whole({k: x.update(sharding=places[k]) for k, x in params.items()})

    assert left_whole(fsdp=2) == {"odd/kernel": 1025**2}
    assert left_whole() == {}


def test_a_batch_that_cannot_be_shared_is_refused():
    message = r"data\.batch_size = 12: expected a multiple of 8.* such as 8 or 16"
    with pytest.raises(InputError, match=message):
        sharding.check_batch("data.batch_size", 12, sharding.make_mesh(config.Mesh()))
