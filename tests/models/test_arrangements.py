"""Every arrangement once more, in float64, one clip at a time, by loops over slots and places.

Written from the papers and not from the package, whose parameter tree it reads. Tokens of a clip
are [t S D], a class token is [D], and a sequence is [n D].
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.models.video_transformer import VideoTransformer


def norm(p, x):
    centred = x - x.mean(axis=-1, keepdims=True)
    variance = (centred**2).mean(axis=-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-6) * p["scale"] + p["bias"]


def dense(p, x):
    return x @ p["kernel"] + p["bias"]


def gelu(x, kind):
    if kind == "erf":
        return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def heads_of(p, x, heads):
    """What each of some heads gathers over one sequence, [n heads head_dim]."""
    gathered = []
    for head in heads:
        q, k, v = (
            x @ p[n]["kernel"][:, head] + p[n]["bias"][head] for n in ("query", "key", "value")
        )
        weights = np.exp(q @ k.T / math.sqrt(q.shape[-1]))
        gathered.append(weights / weights.sum(axis=-1, keepdims=True) @ v)
    return np.stack(gathered, axis=1)


def project(p, gathered):
    return np.einsum("nhk,hkd->nd", gathered, p["out"]["kernel"]) + p["out"]["bias"]


def attention(p, x):
    return project(p, heads_of(p, x, range(len(p["query"]["bias"]))))


def mlp(p, x, kind):
    return dense(p["mlp_out"], gelu(dense(p["mlp_in"], norm(p["mlp_norm"], x)), kind))


def joint(p, x, kind):
    x = x + attention(p["attention_0"], norm(p["attention_norm_0"], x))
    return x + mlp(p, x, kind)


def factorised_self_attention(p, x, kind):
    x = x.copy()
    for place in range(x.shape[1]):
        y = norm(p["attention_norm_0"], x[:, place])
        x[:, place] += attention(p["attention_0"], y)
    for slot in range(x.shape[0]):
        y = norm(p["attention_norm_1"], x[slot])
        x[slot] += attention(p["attention_1"], y)
    return x + mlp(p, x, kind)


def factorised_dot_product(p, x, kind):
    step, y = p["attention_0"], norm(p["attention_norm_0"], x)
    half = len(step["query"]["bias"]) // 2
    gathered = np.zeros((*x.shape[:2], *step["query"]["bias"].shape))
    for place in range(x.shape[1]):
        gathered[:, place, :half] = heads_of(step, y[:, place], range(half))
    for slot in range(x.shape[0]):
        gathered[slot, :, half:] = heads_of(step, y[slot], range(half, 2 * half))
    x = x + np.stack([project(step, slot) for slot in gathered])
    return x + mlp(p, x, kind)


def divided(p, x, token, kind):
    """With a class token [D], or None; returns both."""
    x = x.copy()
    for place in range(x.shape[1]):
        y = attention(p["attention_0"], norm(p["attention_norm_0"], x[:, place]))
        x[:, place] += dense(p["zero_dense"], y)
    messages = []
    for slot in range(x.shape[0]):
        sequence = x[slot] if token is None else np.concatenate([token[None], x[slot]])
        y = attention(p["attention_1"], norm(p["attention_norm_1"], sequence))
        x[slot] += y if token is None else y[1:]
        messages.append(y[0])
    x = x + mlp(p, x, kind)
    if token is None:
        return x, None
    token = token + np.mean(messages, axis=0)
    return x, token + mlp(p, token, kind)


def blocks(p):
    return [p[f"block_{i}"] for i in range(sum(name.startswith("block_") for name in p))]


def table(p, t, s, classes):
    """Positions [t s D] and of the class token."""
    if "position_space" in p:
        space, time = p["position_space"][0], p["position_time"][0]
        return space[None, classes:] + time[:, None], space[0]
    position = p["position"][0]
    return position[classes:].reshape(t, s, -1), position[0]


def encode_sequence(p, x, kind, close=True):
    """A token encoder of joint attention on one sequence: all tokens, class token in front."""
    if "class_token" in p:
        x = np.concatenate([p["class_token"][0], x])
    x = x + p["position"][0]
    for block in blocks(p):
        x = joint(block, x, kind)
    return norm(p["norm"], x) if close else x


def encode_grid(p, x, attention_kind, kind):
    """A token encoder of a factorised arrangement: [t S D] to a sequence, class token in front."""
    with_token = "class_token" in p
    position, token_position = table(p, *x.shape[:2], int(with_token))
    x = x + position
    token = p["class_token"][0, 0] + token_position if with_token else None
    for block in blocks(p):
        if attention_kind == "divided":
            x, token = divided(block, x, token, kind)
        elif attention_kind == "factorised_self_attention":
            x = factorised_self_attention(block, x, kind)
        else:
            x = factorised_dot_product(block, x, kind)
    x = x.reshape(-1, x.shape[-1])
    return norm(p["norm"], x if token is None else np.concatenate([token[None], x]))


def tubelets(p, clip):
    """[T H W 3] to [t S D]."""
    f, r, c = p["kernel"].shape[:3]
    t, h, w = (n // step for n, step in zip(clip.shape, (f, r, c), strict=False))
    x = np.zeros((t, h * w, p["kernel"].shape[-1]))
    for i, j, k in np.ndindex(t, h, w):
        box = clip[i * f : (i + 1) * f, j * r : (j + 1) * r, k * c : (k + 1) * c]
        x[i, j * w + k] = np.tensordot(box, p["kernel"], axes=4) + p["bias"]
    return x


def summarise(encoded, with_token):
    """(tokens, summary) of a closed sequence."""
    if with_token:
        return encoded[1:], encoded[0]
    return encoded, encoded.mean(axis=0)


def video_transformer(params, clip, attention_kind, kind="tanh"):
    """(tokens [N D], summary [D]) of one normalised clip [T H W 3]."""
    x = tubelets(params["tubelets"], clip)
    if attention_kind == "factorised_encoder":
        space = params["space"]
        slots = [summarise(encode_sequence(space, s, kind), "class_token" in space)[1] for s in x]
        slots = np.stack(slots)
        if "time" not in params:
            return slots, slots.mean(axis=0)
        time = params["time"]
        return summarise(encode_sequence(time, slots, kind), "class_token" in time)
    if attention_kind == "factorised_encoder_by_place":
        x = np.stack([encode_sequence(params["space"], slot, kind) for slot in x])
        if "time" in params:
            places = [encode_sequence(params["time"], x[:, s], kind) for s in range(x.shape[1])]
            x = np.stack(places, axis=1)
        return summarise(x.reshape(-1, x.shape[-1]), with_token=False)
    p = params["blocks"]
    if attention_kind == "joint":
        encoded = encode_sequence(p, x.reshape(-1, x.shape[-1]), kind)
    elif attention_kind == "space_only":
        slots = [encode_sequence(p, slot, kind, close=False) for slot in x]
        encoded = norm(p["norm"], np.mean(slots, axis=0))
    else:
        encoded = encode_grid(p, x, attention_kind, kind)
    return summarise(encoded, "class_token" in p)


FE: dict[str, Any] = {"attention": "factorised_encoder"}
BY_PLACE: dict[str, Any] = {"attention": "factorised_encoder_by_place", "pool": "mean"}
DIVIDED: dict[str, Any] = {"attention": "divided", "positions": "separable"}
SPACE_ONLY: dict[str, Any] = {"attention": "space_only"}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"pool": "mean"},
        FE,
        FE | {"pool": "mean"},
        FE | {"temporal_depth": 0},
        BY_PLACE,
        BY_PLACE | {"temporal_depth": 0},
        BY_PLACE | {"norm_offset": 1.0},
        {"attention": "factorised_self_attention", "pool": "mean"},
        {"attention": "factorised_dot_product", "pool": "mean"},
        DIVIDED,
        DIVIDED | {"pool": "mean", "gelu": "erf"},
        SPACE_ONLY,
        SPACE_ONLY | {"pool": "mean"},
    ],
    ids=str,
)
def test_features_are_those_of_plain_loops(fields):
    fields = {"size": "mu", "depth": 2, "temporal_depth": 2, "tubelet": (2, 8, 8)} | fields
    model = VideoTransformer(**fields)
    rng = np.random.default_rng(0)
    video = rng.normal(size=(2, 6, 16, 24, 3)).astype(np.float32)  # 3 slots of 2 x 3 tokens
    shapes = jax.eval_shape(model.init, jax.random.key(0), video)
    params = jax.tree.map(lambda s: rng.normal(0, 0.2, s.shape).astype(s.dtype), shapes)
    features = jax.jit(model.apply)(params, jnp.asarray(video))
    exact = jax.tree.map(lambda x: x.astype(np.float64), params["params"])
    exact = jax.tree.map_with_path(
        lambda keys, x: x + model.norm_offset * (keys[-1].key == "scale"), exact
    )
    for i, clip in enumerate(video.astype(np.float64)):
        tokens, summary = video_transformer(exact, clip, model.attention, model.gelu)
        np.testing.assert_allclose(features.tokens[i], tokens, atol=1e-5)
        np.testing.assert_allclose(features.summary[i], summary, atol=1e-5)
