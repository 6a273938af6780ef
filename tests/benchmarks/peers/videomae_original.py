"""VideoMAE's own pretraining, in PyTorch, as a peer of a config of masked pixels.

    git clone https://github.com/MCG-NJU/VideoMAE DIR
    pip install torch
    PYTHONPATH=DIR python -m vivit_jax.benchmark step --config configs/videomae_pretrain.py:k400_B \
        --peer tests/benchmarks/peers/videomae_original.py

Its module as it stands, uncompiled, as its scripts run it, on all cores or a GPU. Its loop is no
function of one batch, so that the targets, which it takes by einops, and the loss are written here
once more. Tried with commit 14ef8d8 of April 2023. Of timm it imports four functions, by names that
timm has given up; they stand here.
"""

import functools
import importlib
import sys
import types

import torch
from einops import rearrange

from vivit_jax.benchmarks import parts
from vivit_jax.benchmarks.peers import hidden
from vivit_jax.errors import InputError
from vivit_jax.options import choose

NAME = "VideoMAE's own"
FRAMES = 16  # its table of positions is made for as many
EPS = 1e-6  # added to the deviation that targets are divided by


def rows(run):
    """Returns the original's forward pass, gradient and step of the run's model."""
    refuse_others(run)
    original = import_original()
    encoder, objective, data = run.objective.encoder, run.objective, run.experiment.data
    width, depth, heads, mlp_dim = encoder.dims
    frames, side, _ = encoder.tubelet
    device = parts.torch_device()
    model = original.PretrainVisionTransformer(
        img_size=data.image_size,
        patch_size=side,
        tubelet_size=frames,
        encoder_embed_dim=width,
        encoder_depth=depth,
        encoder_num_heads=heads,
        decoder_num_classes=3 * frames * side**2,
        decoder_embed_dim=objective.decoder_width,
        decoder_depth=objective.decoder_depth,
        decoder_num_heads=objective.decoder_heads,
        mlp_ratio=mlp_dim / width,
        qkv_bias=True,
        norm_layer=functools.partial(torch.nn.LayerNorm, eps=encoder.norm_eps),
        drop_path_rate=encoder.drop_path,
    ).to(device)
    parts.check_values(NAME, sum(x.numel() for x in model.parameters()), run)
    shape = (data.batch_size, 3, data.frames, data.image_size, data.image_size)
    video, mask = torch.rand(shape, device=device) * 2 - 1, hidden(run).to(device)
    std, mean = (
        torch.tensor(x, device=device).reshape(1, 3, 1, 1, 1) for x in (encoder.std, encoder.mean)
    )

    def loss():
        with torch.no_grad():
            pixels = rearrange(
                video * std + mean,
                "b c (t f) (h i) (w j) -> b (t h w) (f i j) c",
                f=frames,
                i=side,
                j=side,
            )
            deviation, centre = torch.std_mean(pixels, dim=2, keepdim=True)
            wanted = ((pixels - centre) / (deviation + EPS)).flatten(2)
            wanted = wanted[mask].reshape(len(video), -1, wanted.shape[2])
        return torch.nn.functional.mse_loss(model(video, mask), wanted)

    return parts.in_torch(NAME, model, loss, run)


def refuse_others(run):
    """Refuses what the original has not."""
    choose(f"{NAME}: objective.name", run.experiment.objective["name"], ["masked_pixels"])
    encoder, objective = run.objective.encoder, run.objective
    ratio = encoder.dims.mlp_dim / encoder.dims.width
    width = objective.decoder_width
    for what, given, has in (
        ("data.frames", run.experiment.data.frames, FRAMES),
        ("model.attention", encoder.attention, "joint"),
        ("model.pool", encoder.pool, "mean"),
        ("model.positions", encoder.positions, "sincos_1d"),
        ("model.gelu", encoder.gelu, "erf"),
        ("model.key_bias", encoder.key_bias, False),
        ("model.tubelet's columns", encoder.tubelet[2], encoder.tubelet[1]),
        ("model.mlp_dim over the width", ratio, (objective.decoder_mlp_dim or 4 * width) / width),
        ("objective.decoder_positions", objective.decoder_positions, "sincos_1d"),
        ("objective.decoder_mask_ratio", objective.decoder_mask_ratio, 0.0),
        ("objective.target_frames", objective.target_frames, "all"),
        ("objective.target_normalised", objective.target_normalised, "colour"),
    ):
        if given != has:
            raise InputError(f"{NAME}: {what} = {given!r}; it has only {has!r}.")


def import_original():
    """Returns the original's module, which finds what it imports of timm."""
    layers, registry = types.ModuleType("timm.models.layers"), types.ModuleType("registry")
    layers.drop_path = drop_path
    layers.to_2tuple = lambda x: x if isinstance(x, tuple) else (x, x)
    layers.trunc_normal_ = torch.nn.init.trunc_normal_
    registry.register_model = lambda function: function
    made = {
        "timm": types.ModuleType("timm"),
        "timm.models": types.ModuleType("timm.models"),
        "timm.models.layers": layers,
        "timm.models.registry": registry,
    }
    before = {name: sys.modules.get(name) for name in made}
    sys.modules.update(made)
    try:
        return importlib.import_module("modeling_pretrain")
    finally:  # transformers looks whether timm is there
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def drop_path(x, rate=0.0, training=False):
    """Returns a residual that some examples skip, and that of the others scaled up for it."""
    if not rate or not training:
        return x
    keep = torch.rand((len(x), *[1] * (x.ndim - 1)), device=x.device) >= rate
    return x * keep / (1 - rate)
