"""V-JEPA's own checkpoints: from files that its own code saved to ours.

Made on 2026-11-21 with torch 2.13.0 in float32: facebookresearch/jepa at 51c59d5 (vjepa_*) and
facebookresearch/vjepa2 at c2963a4 (vjepa2_*). `VisionTransformer` twice and
`VisionTransformerPredictor` at the shapes of CASES, uniform_power=True and norms of an epsilon of
1e-6, every weight N(0, 0.2²) and the scales of norms around 1 (seeds 0 to 3); in the repository's
wrappers of masks and in PyTorch's for several processes, saved with torch.save as train.py does,
beside a fresh AdamW's state. The files "b" have no target encoder, and "vjepa2_b" has the tables of
positions of the same modules without rotary positions beside, as released ones do.

Each .npz is what a module with the file's weights loaded as the evaluation does gives: `tokens` of
`video`, and for two masks (`visible_i`, `masked_i`) `predicted_i` from the tokens of the visible
places, with mask token i (V-JEPA 1) or 0 (V-JEPA 2), and the `loss` of both: the mean over masks of
the L1 distance to the layer-normalised `tokens`.
"""

import pathlib

import jax.numpy as jnp
import numpy as np
import pytest
from peers import MOST, difference, run

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.objectives.masking import Mask
from vivit_jax.pretrained import vjepa
from vivit_jax.pretrained.torch_file import read_torch

GOLDEN = pathlib.Path(__file__).parent / "golden"
CASES = {  # file, heads of encoder and predictor, clips as told or assumed, options found
    "vjepa_a": ("vjepa_a.pth.tar", 2, 2, (4, 20), {"width": 24, "depth": 2, "mlp_dim": 36}),
    "vjepa_b": ("vjepa_b.pth.tar", 4, 4, (6, 24), {"width": 32, "depth": 3, "tubelet": (3, 4, 4)}),
    "vjepa2_a": ("vjepa2_a.pt", 2, 2, (64, 256), {"width": 28, "depth": 1, "mlp_dim": 35}),
    "vjepa2_b": ("vjepa2_b.pt", 1, 1, (4, 30), {"width": 24, "depth": 3, "tubelet": (2, 6, 6)}),
}


@pytest.fixture
def read(monkeypatch):
    """Reads a case's file, with the numbers of heads known that no file tells."""

    def read(name, path=None):
        file, heads, predictor_heads, _, options = CASES[name]
        monkeypatch.setitem(vjepa.HEADS, options["width"], heads)
        monkeypatch.setattr(vjepa, "PREDICTOR_HEADS", predictor_heads)
        return pretrained.read(f"vjepa:{path or GOLDEN / file}")

    return read


def masks(golden):
    return [Mask(*(jnp.asarray(golden[f"{x}_{i}"]) for x in ("visible", "masked"))) for i in (0, 1)]


@pytest.mark.parametrize(
    "name", [pytest.param(c, marks=[pytest.mark.slow] * (c[-1] == "b")) for c in CASES]
)
def test_tokens_predictions_and_loss_are_the_originals(name, read):
    found = read(name)
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = dict(file)
    (objective, params), drawn = found.build(), masks(golden)

    def everything(module, params, video):
        token = 0 if module.shared_mask_token else 1
        axes = module.encoder.grid(*video.shape[1:4])
        seen = module.encoder(video, drawn[1].visible).tokens
        predicted = module.predictor(seen, *drawn[1], axes, token)
        loss = module.losses(video, drawn, params["encoder"]).mean()
        return module.encoder(video).tokens, predicted, loss

    ours = run(objective, params, params, golden["video"], method=everything)
    theirs = [golden[x] for x in ("tokens", "predicted_1", "loss")]
    assert max(difference(x, y) for x, y in zip(ours, theirs, strict=True)) < MOST


@pytest.mark.parametrize("name", CASES)
def test_shapes_clips_and_positions_are_read_from_the_file(name, read):
    _, heads, predictor_heads, clip, options = CASES[name]
    experiment = read(name).experiment
    assert (experiment.data.frames, experiment.data.image_size) == clip
    rotary = name.startswith("vjepa2")
    options = {**options, "heads": heads}
    options["positions"] = "rotary_3d_tiled" if rotary else "sincos_3d"
    assert {key: experiment.model[key] for key in options} == options
    found = experiment.objective
    assert found["predictor_positions"] == options["positions"]
    assert found["predictor_heads"] == predictor_heads
    assert found["shared_mask_token"] == rotary
    assert found["mask_tokens"] == {"vjepa2_a": 10, "vjepa2_b": 6}.get(name, 2)


def test_the_target_encoder_is_taken_where_there_is_one_and_told(read):
    found = read("vjepa_a")
    theirs = read_torch(GOLDEN / "vjepa_a.pth.tar")["target_encoder"]
    bias = theirs["module.backbone.norm.bias"]
    np.testing.assert_array_equal(found.params["encoder/blocks/norm/bias"], bias)
    assert "the encoder is target_encoder, as in" in "\n".join(found.account)
    assert "the encoder is encoder." in "\n".join(read("vjepa_b").account)


def test_what_no_array_tells_is_noted(read):
    account = "\n".join(read("vjepa2_a").account)
    assert "2 heads, as published encoders of width 28 have: no array tells" in account
    assert "clips of 64 frames of 256 x 256, for which V-JEPA 2 is loaded unless told" in account


def test_an_encoder_of_unknown_width_is_refused():
    with pytest.raises(InputError, match=r"an encoder of width 24; .* 192, 384, 768, 1024"):
        pretrained.read(f"vjepa:{GOLDEN / 'vjepa_a.pth.tar'}")


def changed(name, path, change):
    """A file of theirs in which something is other."""
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    content = torch.load(GOLDEN / CASES[name][0], weights_only=True)
    change(content)
    torch.save(content, path)
    return path


def test_positions_of_another_kind_are_refused(read, tmp_path):
    def turn(content):
        content["encoder"]["module.backbone.pos_embed"][0, 0, 0] += 0.1

    path = changed("vjepa_b", tmp_path / "x.pth", turn)
    with pytest.raises(InputError, match=r"pos_embed \(1, 72, 32\) is none of V-JEPA's tables"):
        read("vjepa_b", path)


def test_an_encoder_alone_is_an_encoder_alone(read, tmp_path):
    path = changed("vjepa2_a", tmp_path / "x.pt", lambda content: content.pop("predictor"))
    found = read("vjepa2_a", path)
    assert found.experiment.objective["name"] == "encode"
    assert all(name.startswith("encoder/") for name in found.params)


def test_a_probe_without_its_encoder_and_what_is_left_over_are_refused(read, tmp_path):
    def probe(content):
        content["classifiers"] = [content.pop("encoder")]
        del content["target_encoder"]

    path = changed("vjepa_a", tmp_path / "x.pth", probe)
    with pytest.raises(InputError, match=r"x.pth holds predictor, opt, .*; expected target_enc"):
        read("vjepa_a", path)

    def rename(content):
        own = content["encoder"]
        own["module.backbone.norm.gain"] = own.pop("module.backbone.norm.weight")

    path = changed("vjepa_b", tmp_path / "y.pth", rename)
    with pytest.raises(InputError) as caught:
        read("vjepa_b", path)
    assert "unknown  encoder.norm.gain: (32,)" in str(caught.value)
    assert "missing  encoder/blocks/norm/scale: (32,)" in str(caught.value)
