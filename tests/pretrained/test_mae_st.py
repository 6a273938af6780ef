"""MAE-ST's files, by its own code and by PySlowFast, against goldens.

mae_st_pretrained: facebookresearch/mae_st at c5dec1b, MaskedAutoencoderViT of width 24, depth 3, 3
heads, decoder 12, 1, 2; 8 x 16 x 16 in tubelets of 2 x 4 x 4; class tokens, separable positions,
normalised targets of one frame a tubelet; saved by util.misc.save_model with its arguments.
mae_st_finetuned: the same repository's VisionTransformer, 5 classes, saved so too.
slowfast_pretrained: facebookresearch/SlowFast at 287ec00, MaskMViT of width 64, depth 1, 4 heads,
MLPs of 32, decoder 64, 1, 1; 6 x 12 x 12 in tubelets of 3 x 3 x 3; weights rounded to half
precision and stored so, to be small; what utils.checkpoint.save_checkpoint saves.
slowfast_finetuned: the same repository's MViT without pooling, width 40, depth 2, 4 heads, 7
classes; as logits, without the softmax.
"""

import pytest
from goldens import compare, file_of
from peers import MOST

from vivit_jax import pretrained
from vivit_jax.errors import InputError
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.objectives.masked_pixels import MaskedPixels


@pytest.mark.parametrize(
    "name",
    ["mae_st_pretrained", "mae_st_finetuned", "slowfast_pretrained", "slowfast_finetuned"],
)
def test_a_file_gives_the_originals_numbers(name):
    difference, found = compare("mae_st", name)
    assert difference < MOST
    whole = {"mae_st": (8, 16), "slowfast": (6, 12)}[name.rsplit("_", 1)[0]]
    assert (found.experiment.data.frames, found.experiment.data.image_size) == whole


def test_what_the_file_tells_of_heads_comes_before_conventions():
    found = pretrained.read(f"mae_st:{file_of('slowfast_pretrained')}")
    assert found.experiment.model["heads"] == 4  # of width 16, by its cfg
    assert found.experiment.objective["decoder_heads"] == 1
    own = pretrained.read(f"mae_st:{file_of('mae_st_pretrained')}").experiment.objective
    assert own["decoder_heads"] == 2  # by its arguments; 12 is no multiple of 64
    assert own["mask_ratio"] == 0.8


def test_a_file_that_tells_no_decoder_heads_is_taken_as_trained_in_pyslowfast(tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    content = torch.load(file_of("mae_st_pretrained"), weights_only=False)
    torch.save({"model": content["model"]}, tmp_path / "x.pth")
    account = "\n".join(pretrained.read(f"mae_st:{tmp_path / 'x.pth'}").account)
    assert "the decoder's heads; taken as 3, each 4 wide, as PySlowFast has it" in account
    assert "taken as 90 % of the tokens hidden at random" in account


def test_targets_that_are_not_normalised_are_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
    content = torch.load(file_of("mae_st_pretrained"), weights_only=False)
    content["args"].norm_pix_loss = False
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="trained on targets that are not normalised"):
        pretrained.read(f"mae_st:{tmp_path / 'x.pth'}")


def test_a_decoder_has_one_class_token_at_most():
    with pytest.raises(InputError, match="needs the encoder's class token"):
        MaskedPixels(VideoTransformer(pool="mean"), decoder_keeps_class_token=True)
    with pytest.raises(InputError, match="the decoder has one class token"):
        MaskedPixels(VideoTransformer(), decoder_keeps_class_token=True, decoder_class_token=True)
