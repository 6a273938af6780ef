import re

import jax
import jax.numpy as jnp
import optax
import pytest
from jax.sharding import PartitionSpec as P

from vivit_jax import config, sharding
from vivit_jax.errors import InputError
from vivit_jax.models.video_transformer import CHOICES, VideoTransformer
from vivit_jax.objectives.classify import Classify
from vivit_jax.train_step import init_state


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


def test_an_axis_that_does_not_divide_stays_whole():
    mesh = sharding.make_mesh(config.Mesh(data=1, fsdp=1, tensor=8))
    _, found = places("joint", mesh)  # 6 heads, 8 devices
    assert found["params/encoder/blocks/block_0/attention_0/query/kernel"].is_fully_replicated
    kernel = found["params/encoder/blocks/block_0/mlp_in/kernel"]
    assert kernel.spec == P("fsdp", "tensor")


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


def test_a_batch_that_cannot_be_shared_is_refused():
    with pytest.raises(InputError, match=r"data\.batch_size = 12: expected a multiple of 8"):
        sharding.check_batch("data.batch_size", 12, sharding.make_mesh(config.Mesh()))
