"""What `python -m vivit_jax.events --anomaly` does: tells when a video is like no normal one."""

import argparse
import json
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from vivit_jax import command_line
from vivit_jax.analysis import anomaly, truth
from vivit_jax.analysis.bars import write_scores
from vivit_jax.analysis.scored import HOP, Scored, scored
from vivit_jax.analysis.segments import Segment, segments
from vivit_jax.analysis.timelines import moment
from vivit_jax.command_line import Answer
from vivit_jax.errors import InputError, some
from vivit_jax.features import named, own
from vivit_jax.measures.ranking import roc_auc

if TYPE_CHECKING:
    from vivit_jax.observer import Observer
    from vivit_jax.watching import Watched

_SEED = 0  # of which normal videos are looked at


class Judge(NamedTuple):
    """How unusual windows are.

    Attributes:
      see: from clips to rows.
      score: from rows to how unusual each is.
      threshold: above which a window is.
    """

    see: anomaly.See
    score: anomaly.Distance | anomaly.Reconstruction
    threshold: float


def tell(given: argparse.Namespace) -> int:
    """Answers for each video; returns the exit code.

    Raises:
      InputError: something that was given cannot be used.
    """
    from vivit_jax.observer import Observer

    check(given)
    videos = command_line.videos(given.videos)
    if given.out:
        command_line.make_folder(given.out)
    true: dict[str, Sequence[truth.Happening]] = {}
    if given.truth:
        true = truth.matched(truth.read_truth(given.truth), given.truth, videos)
    observer = Observer(given.checkpoint)
    judge, pictures = learnt(observer, given), command_line.names(videos)
    frames: list[np.ndarray] = []  # scores, and whether each is unusual
    with command_line.watcher(observer, given, HOP) as watcher:

        def judged(video: str) -> Answer:
            watched = watcher.watch(video, judge.see)
            scores = np.full(len(watched.rows), np.nan)
            scores[watched.there] = judge.score(watched.rows[watched.there])
            seen = scored(watched, scores[:, None], given)
            found = segments(*seen[:3], [judge.threshold], seen.rules, (0.0,))
            spans = [one[:2] for one in true.get(video, ())]
            each = anomaly.by_moment(seen.scores[:, 0], watched.grid)
            frames.append(np.stack([each, anomaly.happens(spans, watched.grid)]))
            if given.out:
                file = given.out / f"{pictures[video]}.unusual.png"
                draw(file, watched, seen, found, judge.threshold, spans if true else None)
            return as_answer(watched, seen, found, judge.threshold, given.by)

        code = command_line.answer(videos, judged, table, given.json)
    if given.truth:
        scores, unusual = np.concatenate([np.zeros((2, 0)), *frames], axis=1)
        known = ~np.isnan(scores)
        area = roc_auc(scores[known], unusual[known] > 0)
        text = (
            "no frame, or every frame, is unusual by the truth" if np.isnan(area) else f"{area:.4f}"
        )
        shown = {"evaluation": {"roc_auc": None if np.isnan(area) else round(area, 6)}}
        print(json.dumps(shown) if given.json else f"area under the ROC curve, by frame: {text}")
    return code


def check(given: argparse.Namespace) -> None:
    """Refuses numbers that cannot be.

    Raises:
      InputError: names the option.
    """
    for name, value, least in (
        ("most", given.most, 2),
        ("nearest", given.nearest, 1),
        ("masks", given.masks, 1),
    ):
        if value < least:
            raise InputError(f"--{name} is {value}; expected at least {least}.")
    if given.quantile > 1:
        raise InputError(f"--quantile is {given.quantile:g}; expected 0 to 1.")


def learnt(observer: "Observer", given: argparse.Namespace) -> Judge:
    """Returns what tells the unusual from what normal videos show.

    Raises:
      InputError: there are none, or the model cannot tell.
    """
    by_error = given.by == "reconstruction"
    videos = normal(observer, given)
    see = anomaly.errors(observer, given.masks) if by_error else observer.summaries
    observer.read(whole=by_error)
    with command_line.watcher(observer, given) as watcher:
        usual = anomaly.look_at(watcher, videos, see)
    if usual.unread:
        command_line.note(f"{len(usual.unread)} of {len(videos)} normal videos were left out:")
        command_line.note(f"  {some(usual.unread, 3)}")
    score = anomaly.Reconstruction(usual) if by_error else anomaly.Distance(usual, given.nearest)
    threshold = float(np.quantile(score.own(), given.quantile))
    command_line.note(
        f"{len(usual.rows)} windows of {len(videos) - len(usual.unread)} normal videos: "
        f"{given.quantile:.1%} are below {threshold:.4f}"
        + (", by whitened features" if score.whitened else "")
    )
    return Judge(see, score, threshold)


def normal(observer: "Observer", given: argparse.Namespace) -> list[anomaly.Normal]:
    """Returns the normal videos, of many some that are drawn.

    Raises:
      InputError: there are none that can be read as files.
    """
    if given.normal:
        found = named([given.normal], "none")
    elif observer.saved.workdir is None:
        raise InputError(
            f"{observer.saved.where} is no run with videos of its own: name normal ones, --normal."
        )
    else:
        found = [video for video in own(observer.saved) if video.split == "train"]
    spans: dict[str, list[tuple[float, float] | None]] = {}  # of a file there may be many parts
    for video in found:
        if isinstance(video.path, str):
            spans.setdefault(video.path, []).append(video.span)
    if not spans:
        raise InputError(
            "The run's training videos are no files (records are not): name some by --normal."
        )
    videos = [
        anomaly.Normal(path, () if None in parts else tuple(filter(None, parts)))
        for path, parts in spans.items()
    ]
    chosen = np.random.default_rng(_SEED).permutation(len(videos))[: given.most]
    return [videos[i] for i in sorted(chosen)]


def as_answer(
    watched: "Watched", seen: Scored, found: Sequence[Segment], threshold: float, by: str
) -> Answer:
    """Returns the answer on a video."""
    timeline = [
        {"begin": round(begin, 3), "end": round(end, 3), "score": round(float(score), 6)}
        for (begin, end), score in zip(seen.spans.tolist(), seen.scores[:, 0], strict=True)
        if not np.isnan(score)
    ]
    events = [
        {"begin": round(one.begin, 3), "end": round(one.end, 3), "score": round(one.score, 6)}
        for one in found
    ]
    about = {**command_line.about(watched), "by": by, "threshold": round(threshold, 6)}
    return {**about, "events": events, "timeline": timeline}


def table(found: Answer) -> str:
    """Returns what is unusual in a video, for people."""
    lines = [f"  {moment(x['begin']):>9} {moment(x['end']):>9}  unusual" for x in found["events"]]
    return "\n".join(lines) or "  nothing unusual"


def draw(
    file: pathlib.Path,
    watched: "Watched",
    seen: Scored,
    found: Sequence[Segment],
    threshold: float,
    spans: Sequence[tuple[float, float]] | None,
) -> None:
    """Writes how unusual a video is, by time."""
    true = None if spans is None else [(*span, 0) for span in spans]
    name, seconds = pathlib.Path(watched.video).name, watched.extent.seconds
    centres = seen.spans.mean(axis=1)
    write_scores(file, seen.scores[:, 0], centres, threshold, found, true, seconds, name)
