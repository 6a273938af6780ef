"""The folded attention of one query is what the keys and values of all tokens would give."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import rearrange

from vivit_jax.models.attentive_pooler import AttentivePooler

TOKENS = np.random.default_rng(0).normal(size=(3, 10, 24)).astype(np.float32)


def weights(linear):
    return {"kernel": linear.weight.T.numpy(force=True), "bias": linear.bias.numpy(force=True)}


def norm(module):
    return {"scale": module.weight.numpy(force=True), "bias": module.bias.numpy(force=True)}


def split(linear, heads):
    kernel, bias = weights(linear).values()
    return {
        "kernel": rearrange(kernel, "d (h k) -> d h k", h=heads),
        "bias": rearrange(bias, "(h k) -> h k", h=heads),
    }


def pooler_params(model, heads) -> dict[str, Any]:
    """Our parameters, from Hugging Face's pooler."""
    cross = model.cross_attention_layer
    attend, tokens = cross.cross_attn, norm(cross.layer_norm1)
    query, key, value = (split(getattr(attend, f"{x}_proj"), heads) for x in "qkv")
    params: dict[str, Any] = {
        "query_token": model.query_tokens[0].numpy(force=True),
        "attention": {
            "query": query,
            "key_kernel": key["kernel"],  # its bias changes nothing
            "value_kernel": value["kernel"],
            "value_bias": value["bias"],
            "norm_scale": tokens["scale"],
            "norm_bias": tokens["bias"],
        },
        "mlp_norm": norm(cross.layer_norm2),
        "mlp_in": weights(cross.mlp.fc1),
        "mlp_out": weights(cross.mlp.fc2),
    }
    for i, layer in enumerate(model.self_attention_layers):
        out = weights(layer.self_attn.out_proj)
        out["kernel"] = rearrange(out["kernel"], "(h k) d -> h k d", h=heads)
        names = {"query": "q_proj", "key": "k_proj", "value": "v_proj"}
        linears = {n: split(getattr(layer.self_attn, x), heads) for n, x in names.items()}
        params[f"block_{i}"] = {
            "attention_norm_0": norm(layer.layer_norm1),
            "attention_0": {**linears, "key": {"kernel": linears["key"]["kernel"]}, "out": out},
            "mlp_norm": norm(layer.layer_norm2),
            "mlp_in": weights(layer.mlp.fc1),
            "mlp_out": weights(layer.mlp.fc2),
        }
    return params


@pytest.mark.parametrize("depth", [0, 2])
def test_it_pools_as_hugging_faces_does(depth):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    transformers = pytest.importorskip("transformers", reason="parity needs the extra `parity`")
    vjepa2 = pytest.importorskip("transformers.models.vjepa2.modeling_vjepa2")
    config = transformers.VJEPA2Config(
        hidden_size=24,
        num_attention_heads=3,
        num_pooler_layers=depth,
        layer_norm_eps=1e-5,
        attn_implementation="eager",
    )
    generator = torch.Generator().manual_seed(0)
    model = vjepa2.VJEPA2AttentivePooler(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    given = torch.from_numpy(TOKENS).requires_grad_()
    wanted = model(given)
    wanted.square().sum().backward()

    pooler = AttentivePooler(heads=3, depth=depth)
    params = jax.tree.map(jnp.asarray, pooler_params(model, 3))
    made = jax.eval_shape(pooler.init, jax.random.key(0), TOKENS)["params"]
    assert jax.tree.map(np.shape, made) == jax.tree.map(np.shape, params)

    def energy(tokens):
        found: Any = pooler.apply({"params": params}, tokens)
        return jnp.square(found).sum(), found

    gradient, found = jax.jit(jax.grad(energy, has_aux=True))(jnp.asarray(TOKENS))
    np.testing.assert_allclose(found, wanted.numpy(force=True), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(gradient, given.grad, rtol=1e-4, atol=2e-5)


def test_it_knows_no_order_of_the_tokens():
    pooler = AttentivePooler(heads=3)
    params = jax.jit(pooler.init)(jax.random.key(0), jnp.asarray(TOKENS))
    mixed = TOKENS[:, np.random.default_rng(1).permutation(10)]
    pool = jax.jit(pooler.apply)
    np.testing.assert_allclose(pool(params, TOKENS), pool(params, mixed), atol=1e-5)
    assert np.abs(np.diff(np.asarray(pool(params, TOKENS)), axis=0)).max() > 0.01


def test_biases_of_keys_are_kept_and_change_nothing():
    plain, biased = (AttentivePooler(heads=3, depth=1, key_bias=kept) for kept in (False, True))
    tokens = jnp.asarray(TOKENS)
    shapes = jax.eval_shape(biased.init, jax.random.key(0), tokens)["params"]
    rng = np.random.default_rng(1)
    params: Any = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), shapes)
    places = (params["attention"], "key_bias"), (params["block_0"]["attention_0"]["key"], "bias")
    found = jax.jit(biased.apply)({"params": params}, tokens)
    for part, name in places:
        del part[name]
    wanted = jax.jit(plain.apply)({"params": params}, tokens)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
