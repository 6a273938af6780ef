"""TimeSformer's own files, against goldens.

Each is of facebookresearch/TimeSformer at a5ef29a: its VisionTransformer inside of a module as in
`TimeSformer`, with all weights random (temporal_fc too, which starts at zero), and saved with what
its utils/checkpoint.py saves.
timesformer_divided: width 24, depth 3, 3 heads, MLPs of 72, 4 x 16 x 16 in patches of 4 x 4, 5
classes.
timesformer_divided_wide: width 36, depth 2, 9 heads, MLPs of 36, 3 x 12 x 12 in patches of 3 x 3, 7
classes, in PyTorch's older form of file.
timesformer_joint: as that, with width 40, 5 heads, MLPs of 60.
timesformer_space_only: as the first, with MLPs of 96, and 8 frames.
"""

import pytest
from goldens import compare
from peers import MOST


@pytest.mark.parametrize(
    ("name", "attention", "clip"),
    [
        ("timesformer_divided", "divided", (4, 16)),
        ("timesformer_divided_wide", "divided", (3, 12)),
        ("timesformer_joint", "joint", (3, 12)),
        ("timesformer_space_only", "space_only", (8, 16)),
    ],
)
def test_a_file_gives_the_originals_logits(name, attention, clip):
    difference, found = compare("timesformer", name)
    assert difference < MOST
    assert found.experiment.model["attention"] == attention
    assert (found.experiment.data.frames, found.experiment.data.image_size) == clip
