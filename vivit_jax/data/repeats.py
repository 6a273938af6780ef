"""What is to be said of videos that show what others show: within a split, and across splits."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from vivit_jax.data.duplicates import find_groups
from vivit_jax.data.findings import Finding


class Shown(NamedTuple):
    """A video, and what tells what it shows; digest and signature as find_groups takes them."""

    id: str
    split: str
    label: int | tuple[int, ...]
    digest: str
    signature: str


def find_repeats(videos: Sequence[Shown], held_out: str) -> dict[int, list[Finding]]:
    """Returns findings by the numbers of the videos that they are about.

    Args:
      videos: of all splits.
      held_out: the split that is judged by: what is elsewhere and shows the same as one of it is
        a leak.
    """
    groups, pairs = find_groups([v.digest for v in videos], [v.signature for v in videos])
    copies = {group[0]: group for group in groups}
    found: dict[int, dict[str, str]] = {}
    for group in groups:
        for number, cause, other in _compare(videos, group, group, held_out):
            text = f"the pictures of {other.id} ({other.split})"
            text += _contradiction(videos[number], other)
            found.setdefault(number, {}).setdefault(cause or "duplicate", text)
    for i, j, levels in pairs:
        members = copies.get(i, [i]), copies.get(j, [j])
        for number, cause, other in _compare(videos, *members, held_out):
            text = f"looks like {other.id} ({other.split}), {levels:.1f} of 255 levels apart"
            text += _contradiction(videos[number], other)
            found.setdefault(number, {}).setdefault(cause or "near_duplicate", text)
    return {
        number: [Finding(cause, text) for cause, text in texts.items()]
        for number, texts in found.items()
    }


def _compare(
    videos: Sequence[Shown], one: Sequence[int], other: Sequence[int], held_out: str
) -> Iterator[tuple[int, str, Shown]]:
    """Yields whose fault it is that members of two groups show the same, and of which it is one.

    Yields:
      A number, "leak" or "" for one of the same split, and the video that it repeats: the first of
      its split or of the held-out.
    """
    for number in sorted({*one, *other}):
        # Within one group a video is compared with its own, across two with the other's.
        others = other if number in one else one
        split = videos[number].split
        first = next((i for i in others if videos[i].split == split), number)
        if first < number:
            yield number, "", videos[first]
        if split != held_out:
            judged = next((i for i in others if videos[i].split == held_out), None)
            if judged is not None:
                yield number, "leak", videos[judged]


def _contradiction(video: Shown, other: Shown) -> str:
    """Returns a remark where two videos that show the same have different labels."""
    return "" if video.label == other.label else ", and has another label"
