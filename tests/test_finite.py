import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax import config, finite, sharding
from vivit_jax.errors import NotFinite


def test_what_is_finite_passes_whatever_its_type():
    finite.check({"a": jnp.ones(3), "b": {"c": jnp.arange(3)}, "d": {}, "e": np.float32(1)})
    finite.check({"half": jnp.ones(2, jnp.bfloat16)})
    finite.check({"none": jnp.ones((0, 3))})
    finite.check({})


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_is_named(value):
    state = {"params": {"head": jnp.ones(3).at[1].set(value), "body": jnp.ones(2)}}
    with pytest.raises(NotFinite, match="not finite: params/head$"):
        finite.check(state)


def test_a_few_are_named_of_many():
    with pytest.raises(NotFinite, match="a0, a1, a2, a3, a4 and 3 more"):
        finite.check({f"a{i}": jnp.full(2, np.nan) for i in range(8)})


def test_an_array_of_many_devices_is_looked_at_where_it_lies():
    mesh = sharding.make_mesh(config.Mesh(data=1, fsdp=8))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    array = jax.device_put(jnp.arange(16.0), place)
    finite.check({"a": array})
    with pytest.raises(NotFinite):
        finite.check({"a": array.at[11].set(np.nan)})


def test_hundreds_of_arrays_of_many_devices_do_not_wait_for_one_another():
    mesh = sharding.make_mesh(config.Mesh(data=1, fsdp=8))
    place = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("fsdp"))
    array = jax.device_put(jnp.arange(16.0), place)
    finite.check({f"a{i}": array for i in range(2000)})  # with XLA's room for 32, never
