"""Parameters of PyTorch's modules, under our names and in our shapes.

`part` picks what is taken of each of them: itself, or its gradient.
"""

from einops import rearrange


def randomised(model):
    """The torch model with no weight left at zero or one, in evaluation mode."""
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


def weights(module, part=lambda x: x):
    """{"kernel", "bias"} of a Linear; the bias only where it has one."""
    found = {"kernel": part(module.weight).T.numpy(force=True)}
    return found if module.bias is None else found | {"bias": part(module.bias).numpy(force=True)}


def tubelets(projection, part=lambda x: x):
    """The same of a convolution over clips."""
    kernel = rearrange(part(projection.weight).numpy(force=True), "d c t h w -> t h w c d")
    return {"kernel": kernel, "bias": part(projection.bias).numpy(force=True)}


def norm(module, part=lambda x: x):
    """{"scale", "bias"} of a LayerNorm."""
    scale, bias = part(module.weight), part(module.bias)
    return {"scale": scale.numpy(force=True), "bias": bias.numpy(force=True)}


def attention(query, key, value, out, heads):
    """An attention's parameters from four Linears' {"kernel", "bias"}."""
    split = {"kernel": "d (h k) -> d h k", "bias": "(h k) -> h k"}
    steps = zip(("query", "key", "value"), (query, key, value), strict=True)
    params = {name: {n: rearrange(x, split[n], h=heads) for n, x in p.items()} for name, p in steps}
    out = {"kernel": rearrange(out["kernel"], "(h k) d -> h k d", h=heads), "bias": out["bias"]}
    return params | {"out": out}
