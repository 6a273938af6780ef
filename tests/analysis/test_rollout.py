"""Shares that are walked down vector by vector are those of the product of whole matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from models.test_attention_weights import NO_CLASS, VIDEO, drawn, looked_at, model

from vivit_jax.analysis import rollout
from vivit_jax.models.attention import ARRANGEMENTS
from vivit_jax.models.video_transformer import CHOICES

T, H, W = 3, 3, 2
S = H * W


def half(matrix):
    """A step with its residual, as Abnar & Zuidema have it."""
    return (matrix + np.eye(len(matrix))) / 2


def over_space(given, classes):
    """A matrix of all tokens by all tokens, entry by entry; given is [t S S], with class token."""
    matrix = np.zeros((classes + T * S, classes + T * S))
    for t in range(T):
        for i in range(classes + S):
            for j in range(classes + S):
                row = i if i < classes else i + t * S
                column = j if j < classes else j + t * S
                # A class token sees each slot apart, and takes the mean.
                matrix[row, column] += given[t, i, j] / (T if i < classes else 1)
    return matrix


def over_time(given, classes):
    """Likewise; given is [S t t], and a class token sees nobody but itself."""
    matrix = np.zeros((classes + T * S, classes + T * S))
    matrix[:classes, :classes] = np.eye(classes)
    for s in range(S):
        for t in range(T):
            for u in range(T):
                matrix[classes + t * S + s, classes + u * S + s] = given[s, t, u]
    return matrix


def stack(weights, arrangement, clip, classes) -> Any:
    """The rollout of a stack, [n n], from the weights of one clip."""
    total: Any = None
    for i in range(len(weights)):
        block = weights[f"block_{i}"]
        found = [
            [np.asarray(x[clip], np.float64).mean(axis=1) for x in block[name]["weights"]]
            for name in sorted(block)
        ]
        if arrangement == "joint":
            steps = [half(found[0][0][0])]
        elif arrangement == "factorised_dot_product":
            time, space = found[0]
            steps = [half((over_time(time, 0) + over_space(space, 0)) / 2)]
        else:
            steps = [half(over_time(found[0][0], classes)), half(over_space(found[1][0], classes))]
        for step in steps:
            total = step if total is None else step @ total
    return total


def expected(encoder, weights, clip):
    """The shares of one clip by whole matrices."""
    classes = int(encoder.class_token)

    def top(matrix, n):
        return (
            matrix[0] if encoder.pool == "class_token" else matrix[len(matrix) - n :].mean(axis=0)
        )

    def slots(weights, t):
        return stack(jax.tree.map(lambda x: x[clip * T + t][None], weights), "joint", 0, classes)

    if encoder.attention in ARRANGEMENTS:
        return top(stack(weights["blocks"], encoder.attention, clip, classes), T * S)[classes:]
    if encoder.attention == "space_only":
        return np.concatenate([top(slots(weights["blocks"], t), S)[classes:] / T for t in range(T)])
    if encoder.attention == "factorised_encoder":
        time = np.eye(T)
        if encoder.temporal_depth:
            time = stack(weights["time"], "joint", clip, classes)
            of_slots = top(time, T)[classes:]
        else:
            of_slots = time.mean(axis=0)
        return np.concatenate(
            [of_slots[t] * top(slots(weights["space"], t), S)[classes:] for t in range(T)]
        )
    shares = np.zeros((T, S))
    for s in range(S):
        place = jax.tree.map(lambda x, s=s: x[clip * S + s][None], weights["time"])
        of_slots = stack(place, "joint", 0, 0).mean(axis=0) / S
        for t in range(T):
            shares[t] += of_slots[t] * slots(weights["space"], t)[s]
    return shares.ravel()


def summarised(encoder):
    """The weights of an encoder, and the shares in its summaries."""
    _, weights = looked_at(encoder, drawn(encoder))
    walk = jax.jit(lambda x: rollout.of_summaries(encoder, x, 2, (T, H, W), rollout.half))
    return jax.device_get(weights), np.asarray(walk(weights))


POOLED = [
    *((attention, "mean") for attention in CHOICES["attention"]),
    *(
        (attention, "class_token")
        for attention in CHOICES["attention"]
        if attention not in NO_CLASS
    ),
    ("joint", "mean_beside_class_token"),
]


@pytest.mark.parametrize(("attention", "pool"), POOLED)
def test_shares_are_those_of_whole_matrices(attention, pool):
    encoder = model(attention, pool=pool)
    weights, found = summarised(encoder)
    assert found.shape == (2, T, H, W)
    for clip in range(2):
        np.testing.assert_allclose(found[clip].ravel(), expected(encoder, weights, clip), atol=1e-6)
    if pool == "mean":  # nothing ends at a class token
        np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), 1, atol=1e-5)
    else:
        assert (found.sum(axis=(1, 2, 3)) < 1).all()


def test_a_factorised_encoder_without_blocks_over_time_takes_all_slots_alike():
    encoder = model("factorised_encoder", pool="class_token", temporal_depth=0)
    weights, found = summarised(encoder)
    for clip in range(2):
        by_hand = expected(encoder, weights, clip)
        np.testing.assert_allclose(found[clip].ravel(), by_hand, atol=1e-6)


def test_two_tokens_by_hand():
    weights = {
        "block_0": {"attention_0": {"weights": (jnp.array([[[[[0.2, 0.8], [0.6, 0.4]]]]]),)}}
    }
    start = jnp.array([[1.0, 0.0]])
    found = rollout.through(start, weights, "joint", (1, 2), rollout.half)
    np.testing.assert_allclose(found, [[0.6, 0.4]], atol=1e-6)
    twice = rollout.through(found, weights, "joint", (1, 2), rollout.half)
    np.testing.assert_allclose(twice, [[0.6 * 0.6 + 0.4 * 0.3, 0.6 * 0.4 + 0.4 * 0.7]], atol=1e-6)
    both = rollout.through(start, weights, "joint", (1, 2), rollout.both)
    np.testing.assert_allclose(both, [[1.2, 0.8]], atol=1e-6)
    kept = rollout.through(start, weights, "joint", (1, 2), rollout.stay)
    np.testing.assert_array_equal(kept, start)


@pytest.mark.parametrize("attention", ["joint", "factorised_encoder"])
def test_shares_of_a_poolers_tokens_are_handed_down_whole(attention):
    encoder = model(attention, pool="mean")
    keep = encoder.every_place(*VIDEO.shape[:4])
    _, weights = looked_at(encoder, drawn(encoder), keep)
    given = jax.random.uniform(jax.random.key(3), (2, T * S))
    given /= given.sum(axis=1, keepdims=True)
    found = rollout.of_tokens(encoder, weights, (T, H, W), rollout.half, given)
    np.testing.assert_allclose(found.sum(axis=(1, 2, 3)), 1, atol=1e-5)
    if attention == "joint":
        for clip in range(2):
            whole = stack(weights["blocks"], "joint", clip, 0)
            np.testing.assert_allclose(found[clip].ravel(), given[clip] @ whole, atol=1e-6)
