"""Fixed tables against their formulas in float64; learned ones by their shapes."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.models.positions import POSITIONS, ROTATIONS, rotate, rotation_of
from vivit_jax.models.video_transformer import VideoTransformer


def fixed(kind, axes, classes, width):
    return np.asarray(POSITIONS[kind](lambda *_: pytest.fail("no parameter"), axes, classes, width))


def test_sincos_1d_row_is_videomae_s_formula():
    table = fixed("sincos_1d", (8, 14, 14), 0, 768)
    assert table.shape == (1, 1568, 768)
    assert table.dtype == np.float32
    row = [1567 / 10000 ** (2 * (j // 2) / 768) for j in range(768)]
    row = [math.cos(a) if j % 2 else math.sin(a) for j, a in enumerate(row)]
    np.testing.assert_array_equal(table[0, 1567], np.asarray(row, np.float32))


@pytest.mark.parametrize("width", [768, 1024], ids=["divisible by 6", "cut"])
def test_sincos_3d_row_is_v_jepa_s_formula(width):
    axes = (8, 14, 14)
    table = fixed("sincos_3d", axes, 0, width)
    half = math.ceil(width / 6)
    slot, row, column = 5, 3, 11
    expected = []
    for index in (slot, row, column):
        angles = [index / 10000 ** (i / half) for i in range(half)]
        expected += [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    found = table[0, (slot * 14 + row) * 14 + column]
    assert table.shape == (1, 1568, width)
    np.testing.assert_allclose(found, expected[:width], atol=1e-7)


@pytest.mark.parametrize("kind", ["sincos_1d", "sincos_3d"])
def test_fixed_tables_leave_the_class_token_where_it_is(kind):
    table = fixed(kind, (2, 3, 4), 1, 24)
    np.testing.assert_array_equal(table[:, :1], 0)
    np.testing.assert_array_equal(table[:, 1:], fixed(kind, (2, 3, 4), 0, 24))


def test_separable_table_is_place_plus_slot():
    shapes = {}

    def param(name, init, shape):
        shapes[name] = shape
        return jax.random.normal(jax.random.key(len(shapes)), shape)

    table = POSITIONS["separable"](param, (3, 2, 2), 1, 8)
    assert shapes == {"position_space": (1, 5, 8), "position_time": (1, 3, 8)}
    space = jax.random.normal(jax.random.key(1), (1, 5, 8))
    time = jax.random.normal(jax.random.key(2), (1, 3, 8))
    np.testing.assert_array_equal(table[:, 0], space[:, 0])
    np.testing.assert_allclose(table[0, 1 + 2 * 4 + 3], space[0, 1 + 3] + time[0, 2])


@pytest.mark.parametrize(
    ("fields", "shapes"),
    [
        ({}, {"blocks/position": (1, 3137, 768)}),
        ({"pool": "mean"}, {"blocks/position": (1, 3136, 768)}),
        (
            {"attention": "factorised_encoder"},
            {"space/position": (1, 197, 768), "time/position": (1, 17, 768)},
        ),
        (
            {"attention": "divided", "positions": "separable", "tubelet": (4, 16, 16)},
            {"blocks/position_space": (1, 197, 768), "blocks/position_time": (1, 8, 768)},
        ),
        ({"positions": "none"}, {}),
    ],
    ids=str,
)
def test_tables_have_the_published_shapes(fields, shapes):
    model = VideoTransformer(depth=1, temporal_depth=1, **fields)
    video = jax.ShapeDtypeStruct((1, 32, 224, 224, 3), np.dtype("uint8"))
    params = jax.eval_shape(model.init, jax.random.key(0), video)["params"]
    found = {
        f"{encoder}/{name}": leaf.shape
        for encoder, tree in params.items()
        for name, leaf in tree.items()
        if name.startswith("position")
    }
    assert found == shapes


AXES = (3, 4, 5)


def turned(kind, x):
    rotation = rotation_of(kind, AXES, 0, x.shape[-1])
    return np.asarray(rotate(jnp.asarray(x, jnp.float32), rotation))


def test_a_query_meets_a_key_by_how_far_apart_they_are_in_time_rows_and_columns():
    rng = np.random.default_rng(0)
    q, k = (np.broadcast_to(rng.normal(size=20), (1, 60, 1, 20)) for _ in range(2))
    scores = np.einsum("bnhd,bmhd->nm", turned("rotary_3d", q), turned("rotary_3d", k))
    where = np.indices(AXES).reshape(3, -1)
    by_distance = {}
    for n in range(60):
        for m in range(60):
            distance = tuple(where[:, n] - where[:, m])
            by_distance.setdefault(distance, []).append(scores[n, m])
    assert len(by_distance) == 5 * 7 * 9
    for found in by_distance.values():
        np.testing.assert_allclose(found, found[0], atol=1e-4)
    means = np.array([found[0] for found in by_distance.values()])
    assert len(np.unique(means.round(4))) > 300  # and every distance has its own


@pytest.mark.parametrize("kind", ["rotary_3d", "rotary_3d_tiled"])
def test_rotary_angles_are_v_jepa_2_s_formula(kind):
    angles = ROTATIONS[kind](AXES, 64)  # three parts of 20, and 4 that stay
    slot, row, column = 2, 1, 4
    expected = []
    for index in (slot, row, column):
        frequencies = [10000 ** (-i / 10) for i in range(10)]
        pairs = [f for f in frequencies for _ in range(2)]
        expected += [index * f for f in (pairs if kind == "rotary_3d" else 2 * frequencies)]
    np.testing.assert_allclose(angles[(slot * 4 + row) * 5 + column], [*expected, 0, 0, 0, 0])


def test_the_class_token_is_not_turned():
    cos, sin = rotation_of("rotary_3d", AXES, 1, 12)
    np.testing.assert_array_equal(cos[:, 0], 1)
    np.testing.assert_array_equal(sin[:, 0], 0)
