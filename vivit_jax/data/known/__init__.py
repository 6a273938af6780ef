"""Data sets that the field knows, by name: `data.dataset=NAME data.root=DIR`.

    python -m vivit_jax.data.known              # which there are
    python -m vivit_jax.data.known NAME         # where to get it, and how it lies on disk

Their annotation files are read as they are published. Nothing is ever downloaded.
"""

from vivit_jax.data.known.ava_kinetics import AVA_KINETICS
from vivit_jax.data.known.charades import CHARADES
from vivit_jax.data.known.diving48 import DIVING48
from vivit_jax.data.known.epic_kitchens import EPIC_KITCHENS
from vivit_jax.data.known.howto100m import HOWTO100M
from vivit_jax.data.known.kinetics import KINETICS
from vivit_jax.data.known.moments import MOMENTS
from vivit_jax.data.known.something import SOMETHING
from vivit_jax.data.known.splits import HMDB51, UCF101

KNOWN = {
    known.name: known
    for known in (
        *KINETICS,
        *(SOMETHING, UCF101, HMDB51, EPIC_KITCHENS, MOMENTS, DIVING48, CHARADES),
        *(AVA_KINETICS, HOWTO100M),
    )
}
