"""VideoMAE's and VideoMAE v2's own files, against goldens.

videomae_pretrained: MCG-NJU/VideoMAE at 14ef8d8, PretrainVisionTransformer of width 24, depth 3, 3
heads, decoder 12, 1, 3; 16 x 16 x 16 in tubelets of 2 x 4 x 4; loss as in engine_for_pretraining.py
with normalised targets; saved by utils.save_model with its arguments.
videomae_finetuned: the same repository's VisionTransformer, 4 x 16 x 16, 5 classes, saved so too.
videomae_v2_pretrained: OpenGVLab/VideoMAEv2 at 29eab1e, width 40, depth 2, 5 heads, MLPs as wide
as the tokens, decoder 20, 2, 5; 6 x 12 x 12 in tubelets of 2 x 3 x 3; running cells hide half of
the places from the decoder; targets not normalised.
videomae_v2_finetuned: the same repository's VisionTransformer, MLPs of 60, 6 x 12 x 12 in tubelets
of 3 x 3 x 3, 7 classes; saved under "module" in PyTorch's older form of file, without arguments, as
DeepSpeed does.
"""

import pytest
from goldens import compare, file_of
from peers import MOST, equal

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.pretrained.originals import heads_of


@pytest.mark.parametrize(
    "name",
    [
        "videomae_pretrained",
        "videomae_finetuned",
        "videomae_v2_pretrained",
        "videomae_v2_finetuned",
    ],
)
def test_a_file_gives_the_originals_numbers(name):
    difference, found = compare("videomae", name)
    assert difference < MOST
    account = "\n".join(found.account)
    assert "the file does not tell the encoder's heads; taken as" in account


def test_the_arguments_tell_clips_masks_and_targets():
    found = pretrained.read(f"videomae:{file_of('videomae_v2_pretrained')}").experiment
    assert (found.data.frames, found.data.image_size) == (6, 12)
    objective = found.objective
    assert (objective["mask_ratio"], objective["decoder_mask_ratio"]) == (0.75, 0.5)
    assert objective["target_normalised"] == "none"


def test_a_file_without_arguments_is_taken_as_the_papers_and_says_so():
    found = pretrained.read(f"videomae:{file_of('videomae_v2_finetuned')}")
    assert found.experiment.data.frames == 24  # 16 is no multiple of 3
    assert "the file does not tell its clips; taken as 24 x 42 x 42" in "\n".join(found.account)


def test_heads_are_those_of_every_published_width():
    encoders = {384: 6, 768: 12, 1024: 16, 1280: 16, 1408: 16}
    decoders = {192: 3, 384: 6, 512: 8, 640: 8}
    for width, heads in (encoders | decoders).items():
        assert heads_of(width) == heads


def test_what_no_model_here_has_is_listed(tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    content = torch.load(file_of("videomae_finetuned"), weights_only=False)
    content["model"]["blocks.0.gamma_1"] = torch.ones(24)
    del content["model"]["fc_norm.weight"]
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError) as caught:
        pretrained.read(f"videomae:{tmp_path / 'x.pth'}")
    assert "unknown  blocks.0.gamma_1: (24,)" in str(caught.value)
    assert "missing  encoder/blocks/summary_norm/scale: (24,)" in str(caught.value)


def test_weights_alone_are_read_too(tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    file = file_of("videomae_finetuned")
    torch.save(torch.load(file, weights_only=False)["model"], tmp_path / "x.pth")
    alone, whole = (pretrained.read(f"videomae:{path}") for path in (tmp_path / "x.pth", file))
    assert equal(alone.params, whole.params)


def test_a_file_of_another_family_or_kind_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no model\.patch_embed\.proj\.weight; it begins"):
        pretrained.read(f"timesformer:{file_of('slowfast_finetuned')}")
    with pytest.raises(InputError, match="holds epoch, model_state, .* expected weights under mod"):
        pretrained.read(f"videomae:{file_of('timesformer_joint')}")
    (tmp_path / "x.pth").write_bytes(file_of("videomae_finetuned").read_bytes()[:5000])
    with pytest.raises(InputError, match="is truncated or damaged"):
        pretrained.read(f"videomae:{tmp_path / 'x.pth'}")
