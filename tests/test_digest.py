"""Digests are the same wherever an array lies, and another for every bit that changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vivit_jax import digest
from vivit_jax.digest import digests

RNG = np.random.default_rng(0)
ARRAYS = {
    "large": RNG.normal(size=(3, 50_000)).astype(np.float32),
    "bfloat16": np.asarray(jnp.asarray(RNG.normal(size=(5, 7)), jnp.bfloat16)),
    "float16": RNG.normal(size=(5, 7)).astype(np.float16),
    "int8": RNG.integers(-128, 128, (9, 9)).astype(np.int8),
    "uint32": RNG.integers(0, 2**32, 11, np.uint32),
    "bool": np.array([True, False, True]),
    "scalar": np.asarray(-7, np.int32),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.fixture(autouse=True, params=["large", "small"])
def size(request, monkeypatch):
    """Makes arrays of devices large enough for a program, or small enough for none."""
    monkeypatch.setattr(digest, "_SMALL", 0 if request.param == "large" else 2**30)


def test_an_array_has_one_digest_on_the_host_and_on_a_device():
    found, spoilt = digests(ARRAYS)
    assert (found, spoilt) == digests(jax.tree.map(jnp.asarray, ARRAYS))
    assert len({*found.values()}) == len(found)
    assert spoilt == []


@pytest.mark.parametrize("spec", [(), ("a",), (None, "b"), ("b", "a"), (("a", "b"),)], ids=str)
def test_an_array_has_one_digest_however_it_is_split(spec):
    mesh = jax.make_mesh((4, 2), ("a", "b"))
    array = RNG.normal(size=(16, 8, 3)).astype(np.float32)
    split = jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))
    assert digests({"x": split}) == digests({"x": array})


@pytest.mark.parametrize("name", sorted(ARRAYS.keys() - {"empty", "bool"}))
def test_each_bit_that_flips_changes_the_digest(name):
    array = ARRAYS[name]
    right = digests({"x": array})[0]["x"]
    for bit in {0, 8 * array.nbytes - 1, *RNG.integers(0, 8 * array.nbytes, 20).tolist()}:
        wrong = bytearray(array.tobytes())
        wrong[bit // 8] ^= 1 << bit % 8
        spoilt = np.frombuffer(bytes(wrong), array.dtype).reshape(array.shape)
        assert digests({"x": spoilt})[0]["x"] != right


def test_elements_that_change_places_change_the_digest():
    array = RNG.normal(size=100).astype(np.float32)
    assert digests({"x": array})[0] != digests({"x": np.sort(array)})[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [np.asarray, jnp.asarray])
def test_what_is_not_finite_is_named(value, place):
    tree = {"good": np.ones(3, np.float32), "bad": {"x": np.array([1, value], np.float32)}}
    assert digests(jax.tree.map(place, tree))[1] == ["bad/x"]


def test_halves_of_64_bits_count_on_the_host():
    for dtype in (np.int64, np.float64):
        array = np.arange(5).astype(dtype)
        right = digests({"x": array})[0]
        words = array.view(np.uint32)
        words[3] ^= 1
        assert digests({"x": array})[0] != right
