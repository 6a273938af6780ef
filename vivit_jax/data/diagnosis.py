"""What is to be said of every example of a data set, and of all of them together."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from vivit_jax.data.clips import Sampling
from vivit_jax.data.examine import Facts
from vivit_jax.data.findings import CAUSES, Finding, judge
from vivit_jax.data.repeats import Shown, find_repeats
from vivit_jax.data.survey import Subject, Survey
from vivit_jax.metrics import duration

TRAIN, EVAL = "train", "eval"
_NAMED = 6  # most classes that a line names


class Checked(NamedTuple):
    """An example, what was measured of its video, and what is to be said of it.

    Attributes:
      subject: the example.
      facts: of its video.
      findings: the most telling first.
      cause: the first that makes it bad; empty where none does.
      labels: its, in words.
    """

    subject: Subject
    facts: Facts
    findings: Sequence[Finding]
    cause: str
    labels: tuple[str, ...]

    @property
    def message(self) -> str:
        """All that was found, in words."""
        return "; ".join(f"{finding.cause}: {finding.found}" for finding in self.findings)


def diagnose(
    survey: Survey,
    clip: Sampling,
    bad: frozenset[str],
    label_maps: Sequence[Sequence[str]],
    heads: bool,
) -> list[Checked]:
    """Returns every example with what is to be said of it.

    Args:
      survey: that has run.
      clip: that shall be cut from the videos.
      bad: causes that make a video bad.
      label_maps: names of the classes.
      heads: whether each label has a map of its own.
    """
    firsts: dict[tuple[str, int, int], Subject] = {}
    for subject in survey.subjects:
        firsts.setdefault(subject.video, subject)
    shown = [
        Shown(first.id, first.split, first.label, facts.digest, facts.signature)
        for video, first in firsts.items()
        for facts in (survey.facts[video],)
    ]
    found = find_repeats(shown, EVAL)
    repeats = {video: found.get(i, []) for i, video in enumerate(firsts)}
    order = list(CAUSES)
    checked = []
    for subject in survey.subjects:
        facts = survey.facts[subject.video]
        findings = [*judge(facts, clip, subject.span), *repeats[subject.video]]
        findings.sort(key=lambda finding: order.index(finding.cause))
        cause = next((finding.cause for finding in findings if finding.cause in bad), "")
        numbers = [int(label) for label in np.atleast_1d(subject.label)]
        maps = label_maps if heads else [label_maps[0]] * len(numbers)
        labels = tuple(names[i] for names, i in zip(maps, numbers, strict=True))
        checked.append(Checked(subject, facts, findings, cause, labels))
    return checked


def count_classes(checked: Sequence[Checked], label_map: Sequence[str]) -> dict[str, Counter[str]]:
    """Returns {split: videos of each class}; of several heads the first counts.

    Args:
      checked: all examples.
      label_map: names of the classes, of which some may have no video; empty for no labels.
    """
    known = set(label_map)
    counts: dict[str, Counter[str]] = {}
    for one in checked:
        split = counts.setdefault(one.subject.split, Counter(dict.fromkeys(label_map, 0)))
        split.update(known & set(one.labels))
    return counts


def summarise(checked: Sequence[Checked], classes: Mapping[str, Counter[str]]) -> list[str]:
    """Returns a few lines about a data set."""
    count = Counter("bad" if one.cause else "odd" if one.findings else "" for one in checked)
    splits = Counter(one.subject.split for one in checked)
    of = ", ".join(f"{number:,} in {split}" for split, number in splits.items())
    videos = {one.subject.video: one for one in checked}.values()
    seconds = sum(one.facts.seconds for one in videos)
    size = sum(one.subject.size for one in videos)
    lines = [
        f"{len(checked):,} videos ({of}), {duration(seconds)} long, {size / 1e6:,.1f} MB: "
        f"{count['bad']} bad, {count['odd']} with warnings, {count['']} without"
    ]
    for split, counts in classes.items():
        if counts:
            least, most = min(counts.values()), max(counts.values())
            lines.append(f"{split}: {least} to {most} videos in each of {len(counts)} classes")
        for text, number in (("without a video", 0), ("with a single video", 1)):
            names = [name for name in counts if counts[name] == number]
            if names:
                shown = ", ".join(names[:_NAMED]) + ", ..." * (len(names) > _NAMED)
                lines.append(f"{split}: {len(names)} classes {text}: {shown}")
    return lines


def tabulate(checked: Sequence[Checked], bad: frozenset[str]) -> list[str]:
    """Returns a line a cause: how many videos, and what was found of the first."""
    lines = []
    for cause in CAUSES:
        first = [
            (one.subject.id, finding.found)
            for one in checked
            for finding in one.findings
            if finding.cause == cause
        ]
        if first:
            kind = "bad" if cause in bad else "warning"
            identity, found = first[0]
            lines.append(f"{cause:18}{len(first):6}  {kind:8} {identity}: {found}")
    return [f"{'cause':18}{'videos':>6}  {'':8} such as", *lines] if lines else []
