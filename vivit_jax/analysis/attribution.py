"""How much each tubelet of a clip counts for what a model says of it.

    rollout                what the model looked at, by its attention alone; needs no class
    gradient_attention     the same for a class: weights count by what they add to its logit
    integrated_gradients   what pixels add to the class's logit, on the way from a black clip

The class is the one that is asked for, or each clip's most probable one (of the first head, where
there are several). The first two are above or at zero; integrated gradients has tubelets that argue
against the class, below zero, and sums to the logit less the black clip's.

Sources: Abnar & Zuidema 2020; Chefer et al. 2021, "Generic attention-model explainability",
equations 5 and 6 (the mean over heads of the positive part of gradient times weight); Sundararajan
et al. 2017, here by the midpoint rule.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange, reduce
from jaxtyping import Array, Float

from vivit_jax.analysis import rollout
from vivit_jax.errors import InputError
from vivit_jax.evals.multi_view import probabilities
from vivit_jax.models.layers import NUDGES, WEIGHTS
from vivit_jax.models.positions import Axes
from vivit_jax.models.video_transformer import VideoTransformer, normalise
from vivit_jax.observer import AT_ONCE, Clips, Observer

STEPS = 32  # of integrated gradients
HELD = 1_000_000_000  # bytes of weights and their gradients that a device is to hold, about
_CELL = 16  # pixels: a side of what takes a tubelet's place where an encoder has none
NO_CLASS = -1.0


class Attributed(NamedTuple):
    """How much the tubelets of n clips count.

    Attributes:
      classes: int [n], for which class; -1 where the model knows none.
      scores: [n], its probability; NaN where the model knows none.
      gaps: [n], how far integrated gradients are from summing to what they should, as a share of
        it; NaN for other methods.
      tubelets: [n slots rows columns].
    """

    classes: np.ndarray
    scores: np.ndarray
    gaps: np.ndarray
    tubelets: np.ndarray


def attribute(
    observer: Observer, method: str, chosen: int | None = None, steps: int = STEPS
) -> Callable[[Clips], Attributed]:
    """Returns what tells how much each tubelet of clips counts.

    Args:
      observer: the model.
      method: one of choices.METHODS.
      chosen: class, counted over all heads; None for each clip's most probable.
      steps: of integrated gradients.

    Raises:
      InputError: the model has no such attention, or no classes where they are needed.
    """
    data = observer.experiment.data
    if method != "integrated_gradients" and not attends(observer):
        name = observer.experiment.model["name"]
        raise InputError(
            f"{observer.saved.where} holds a model of config.model.name = {name!r}, whose "
            "attention cannot be followed down to the pixels: use --method integrated_gradients."
        )
    if knows_classes(observer):
        objective, params = observer.objective
        objective = _plain(objective)
        encoder = objective.encoder
    else:
        if method != "rollout":
            observer.check_predicts()
        encoder, params = observer.encoder
        objective, encoder = None, _plain_encoder(encoder)
    axes = axes_of(encoder, data.frames, data.image_size)
    at_once = AT_ONCE

    def rows(params: Any, clips: jax.Array) -> jax.Array:
        video = normalise(clips[:, 0], encoder.mean, encoder.std)
        if objective is None:
            found = _summary_rollout(encoder, params, video, axes)
            told = jnp.tile(jnp.asarray([[NO_CLASS, jnp.nan, jnp.nan]]), (len(video), 1))
        else:
            found, told = _classified(objective, params, video, axes, method, chosen, steps)
        return jnp.concatenate([told, rearrange(found, "b t h w -> b (t h w)")], axis=1)

    if method != "integrated_gradients":
        at_once = _that_fit(objective or encoder, params, data.frames, data.image_size)
    see = observer.seeing(rows, params, at_once)

    def attributed(clips: Clips) -> Attributed:
        made = see(clips)
        tubelets = made[:, 3:].reshape(len(made), *axes)
        return Attributed(made[:, 0].astype(int), made[:, 1], made[:, 2], tubelets)

    return attributed


def knows_classes(observer: Observer) -> bool:
    """Returns whether a model predicts classes."""
    from vivit_jax.objectives import OBJECTIVES

    return hasattr(OBJECTIVES[observer.experiment.objective["name"]], "predict")


def attends(observer: Observer) -> bool:
    """Returns whether a model's attention can be followed down to the pixels."""
    from vivit_jax.models import MODELS

    return issubclass(MODELS[observer.experiment.model["name"]], VideoTransformer)


def axes_of(encoder: Any, frames: int, size: int) -> Axes:
    """Returns (slots, rows, columns) of a clip's tubelets.

    An encoder that has none, such as one that sees frame by frame, has cells of a frame.
    """
    if hasattr(encoder, "grid"):
        return encoder.grid(frames, size, size)
    side = size // math.gcd(size, _CELL)
    return frames, side, side


def shares(tubelets: np.ndarray) -> np.ndarray:
    """Returns what argues for the class as shares that sum to one in each clip [n t h w]."""
    positive = np.maximum(tubelets, 0)
    total = positive.sum(axis=(1, 2, 3), keepdims=True)
    return np.where(total > 0, positive / np.where(total > 0, total, 1), 1 / positive[0].size)


def _classified(
    objective: Any,
    params: Any,
    video: jax.Array,
    axes: Axes,
    method: str,
    chosen: int | None,
    steps: int,
) -> tuple[jax.Array, jax.Array]:
    """Returns [B t h w] of a classifier, and (class, probability, gap) of each clip [B 3]."""

    def logits_of(video: jax.Array, **nudges: Any) -> Any:
        variables, asked = {"params": params, **nudges}, [WEIGHTS] if nudges else False
        return objective.apply(variables, {"video": video}, method="predict", mutable=asked)

    logits = logits_of(video)
    best = logits[:, : objective.class_splits[0]].argmax(axis=1)
    classes = best if chosen is None else jnp.full(len(video), chosen)

    def score(video: jax.Array, **nudges: Any) -> Any:
        found = logits_of(video, **nudges)
        out, state = found if nudges else (found, None)
        mine = jnp.take_along_axis(out, classes[:, None], axis=1)[:, 0]
        return (mine, state) if nudges else mine

    gaps = jnp.full(len(video), jnp.nan)
    if method == "integrated_gradients":
        pixels, gaps = integrate(score, video, black(objective.encoder), steps)
        t, h, w = axes
        cells = "b (t f) (i r) (j c) ch -> b t i j"
        found = reduce(pixels, cells, "sum", t=t, i=h, j=w)
    else:

        def of_all(nudges: Any) -> tuple[jax.Array, Any]:
            mine, state = score(video, **{NUDGES: nudges})
            return mine.sum(), state[WEIGHTS]

        nudges = _zeros(objective, params, video)
        if method == "rollout":
            found = _walk(objective, of_all(nudges)[1], len(video), axes, rollout.half)
        else:
            slopes, weights = jax.grad(of_all, has_aux=True)(nudges)
            weights = _counted(weights, slopes)
            found = _walk(objective, weights, len(video), axes, rollout.both)
            # What would lie there without any attention is the same for every class.
            found -= _walk(objective, weights, len(video), axes, rollout.stay)
    scores = jnp.take_along_axis(probabilities(objective, logits), classes[:, None], axis=1)[:, 0]
    return found, jnp.stack([classes.astype(jnp.float32), scores, gaps], axis=1)


def integrate(
    score: Callable[[jax.Array], jax.Array],
    video: Float[Array, "B T H W 3"],
    start: Float[Array, "1 1 1 1 3"],
    steps: int,
) -> tuple[Float[Array, "B T H W 3"], Float[Array, " B"]]:
    """Returns what each value adds to a score on the straight way to a clip, and what is missing.

    What is missing is how far the sum is from the score less that of the start, as a share of the
    larger of this difference and 1e-3.

    Args:
      score: of clips, each apart; [B].
      video: normalised.
      start: of the way: a colour.
      steps: of the way; the gradient is taken in the middle of each.
    """
    way = video - start

    def add(total: jax.Array, place: jax.Array) -> tuple[jax.Array, None]:
        return total + jax.grad(lambda x: score(x).sum())(start + place * way), None

    places = (jnp.arange(steps) + 0.5) / steps
    total, _ = jax.lax.scan(add, jnp.zeros_like(video), places)
    added = way * total / steps
    wanted = score(video) - score(jnp.broadcast_to(start, video.shape))
    missing = jnp.abs(added.sum(axis=(1, 2, 3, 4)) - wanted)
    return added, missing / jnp.maximum(jnp.abs(wanted), 1e-3)


def black(encoder: Any) -> Float[Array, "1 1 1 1 3"]:
    """Returns black as an encoder sees it."""
    return normalise(jnp.zeros((1, 1, 1, 1, 3), jnp.uint8), encoder.mean, encoder.std)


def _summary_rollout(encoder: Any, params: Any, video: jax.Array, axes: Axes) -> jax.Array:
    """Returns the rollout of an encoder's summary."""
    _, state = encoder.apply({"params": params}, video, mutable=[WEIGHTS])
    weights = state.get(WEIGHTS, {})
    return rollout.of_summaries(encoder, weights, len(video), axes, rollout.half)


def _walk(objective: Any, weights: Any, clips: int, axes: Axes, rule: rollout.Rule) -> jax.Array:
    """Returns the shares of tubelets in what a classifier's head sees."""
    encoder, inner = objective.encoder, weights.get("encoder", {})
    if objective.pooling == "summary":
        return rollout.of_summaries(encoder, inner, clips, axes, rule)
    pooler = weights["pooler"]
    gathered = pooler["attention"]["weights"][0].mean(axis=1)
    # The pooler's one query has no place among the tokens: all that it sees is handed on, or stays.
    first = gathered if rule is not rollout.stay else jnp.zeros_like(gathered)
    first = rollout.through(first, pooler, "joint", (1, first.shape[1]), rule)
    return rollout.of_tokens(encoder, inner, axes, rule, first)


def _counted(weights: Any, slopes: Any) -> Any:
    """Returns the positive part of gradient times weight, in the form of the weights."""
    if isinstance(weights, tuple):  # by call; their gradients are named by its number
        return tuple(
            jnp.maximum(slopes[f"weights_{i}"] * given, 0) for i, given in enumerate(weights)
        )
    return {
        name: _counted(inner, slopes if name == "weights" else slopes[name])
        for name, inner in weights.items()
    }


def _zeros(objective: Any, params: Any, video: jax.Array) -> Any:
    """Returns what is added to all weights of attention: nothing."""
    asked = [WEIGHTS, NUDGES]

    def shapes(params: Any, video: jax.Array) -> Any:
        found = objective.apply(
            {"params": params}, {"video": video}, method="predict", mutable=asked
        )
        return found[1][NUDGES]

    wanted = jax.eval_shape(shapes, params, video)
    return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), wanted)


def _plain(objective: Any) -> Any:
    """Returns an objective that gives its weights away."""
    return objective.clone(encoder=_plain_encoder(objective.encoder))


def _plain_encoder(encoder: Any) -> Any:
    """Returns an encoder whose blocks are run one by one; a scan would keep what they give away."""
    return encoder.clone(scan=False, remat="none") if hasattr(encoder, "scan") else encoder


def _that_fit(module: Any, params: Any, frames: int, size: int) -> int:
    """Returns how many clips at once a device is to be given, by what their weights take."""
    clip = jax.ShapeDtypeStruct((1, frames, size, size, 3), jnp.float32)

    def weights(params: Any, clip: jax.Array) -> Any:
        given = clip if isinstance(module, VideoTransformer) else {"video": clip}
        method = None if isinstance(module, VideoTransformer) else "predict"
        return module.apply({"params": params}, given, method=method, mutable=[WEIGHTS])[1]

    held = jax.tree.leaves(jax.eval_shape(weights, params, clip))
    each = 3 * sum(math.prod(x.shape) * x.dtype.itemsize for x in held)
    return int(np.clip(HELD // max(each, 1), 1, AT_ONCE))
