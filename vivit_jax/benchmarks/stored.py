"""Records of the videos that are read, in each of their forms, built for the occasion."""

import pathlib
from collections.abc import Sequence

from vivit_jax import config
from vivit_jax.data import build, record_shards
from vivit_jax.data.catalog import open_dataset
from vivit_jax.data.examples import Source
from vivit_jax.data.pool import cores

FORMS = {
    "records, JPEG": (),
    "records, JPEG of 75, short side 160": ("--quality=75", "--short-side=160"),
    "records, H.264": ("--form=video",),
}
_TIMEOUT = 600.0  # seconds for a video


def built(paths: Sequence[str], folder: pathlib.Path) -> dict[str, tuple[Source, float]]:
    """Returns by form the records of some videos, and the bytes of one, on average.

    Args:
      paths: of the videos.
      folder: for the records; empty.
    """
    listed, found = folder / "videos.txt", {}
    listed.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    for number, (name, flags) in enumerate(FORMS.items()):
        given = [f"--list={listed}", "--labels=none", "--holdout=0", f"--out={folder}"]
        plan = build.make_plan(build.parse([*given, f"--name=form_{number}", *flags])[0])
        record_shards.build(plan, cores(), _TIMEOUT)
        made = pathlib.Path(plan.out)
        size = sum(file.stat().st_size for file in made.rglob("*") if file.is_file())
        data = config.Data(dataset="records", root=str(made), labels="none")
        found[name] = open_dataset(data).train, size / len(paths)
    return found
