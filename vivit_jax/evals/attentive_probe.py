"""Attentive probe: how well a small head that looks at all tokens tells the classes.

V-JEPA's protocol (Bardes et al. 2024; Assran et al. 2025): models/attentive_pooler.py and a linear
layer, on the tokens of a frozen encoder, for a grid of learning rates and weight decays at once.
Here the best of the grid is chosen on training videos held out from it, and not on the videos that
it is judged by; and a video's views are those of evaluation, in training too.

Every batch is encoded once an epoch for the whole grid, or once in all where its tokens fit into
probe.cache. Which videos are a batch is drawn once, and the order of the batches for each epoch, so
both give the same probes.
"""

import contextlib
import logging
import pathlib
import time
from collections.abc import Generator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from einops import rearrange
from jaxtyping import Array, Float

from vivit_jax import config, sharding
from vivit_jax.data.examples import Picked, Source, Sources
from vivit_jax.evals.base import Evaluator, account_for_lost
from vivit_jax.evals.frozen import FrozenEncoder, check, first_head
from vivit_jax.evals.probe_grid import ProbeGrid, Probes, kept_for_choosing, results_of
from vivit_jax.evals.split import Bad, Batch, Pass
from vivit_jax.metrics import Progress
from vivit_jax.models.attentive_pooler import AttentivePooler
from vivit_jax.stopping import STOP

log = logging.getLogger(__name__)
NAME = "attentive_probe"
_BATCHES = 12  # so that nothing else that the seed decides is drawn alike


class Head(nn.Module):
    """Pools the tokens of all views of a video, and tells its class."""

    classes: int
    heads: int
    depth: int

    @nn.compact
    def __call__(self, tokens: Float[Array, "B V N D"]) -> Float[Array, "B K"]:
        """Returns the logits of videos."""
        tokens = rearrange(tokens, "b v n d -> b (v n) d")
        pooled = AttentivePooler(self.heads, self.depth, name="pooler")(tokens)
        return nn.Dense(self.classes, kernel_init=nn.initializers.zeros, name="head")(pooled)


class AttentiveProbe(Evaluator):
    """Judges an encoder by its tokens."""

    results = (f"{NAME}_top1", f"{NAME}_top5")

    def __init__(
        self,
        objective: nn.Module,
        experiment: config.Experiment,
        sources: Sources,
        mesh: jax.sharding.Mesh,
    ):
        """Prepares; compiles nothing yet.

        Args:
          objective: of which only the encoder is used.
          experiment: its data, eval and probe sections and its seed are read.
          sources: the videos.
          mesh: where it runs.

        Raises:
          InputError: the videos have not one label each, a split is empty, or the devices cannot
            share probe.batch_size.
        """
        check(experiment, sources)
        options, encoder = experiment.probe, objective.encoder  # type: ignore[attr-defined]
        sharding.check_batch("config.probe.batch_size", options.batch_size, mesh)
        self._options, self._seed, self._sources = options, experiment.seed, sources
        self._strict, self._whole = experiment.eval.strict, sharding.replicated(mesh)
        videos = Pass(
            experiment.data,
            mesh,
            clips=options.clips,
            crops=options.crops,
            resize=experiment.eval.resize,
            batch_size=options.batch_size,
        )
        self._frozen = FrozenEncoder(encoder, videos, kind="tokens", spread=True)
        choosing = kept_for_choosing(len(sources.train), options.chosen_by, self._seed)
        self._choosing = Picked(sources.train, np.flatnonzero(choosing).tolist())
        drawn = np.random.default_rng([self._seed, _BATCHES]).permutation(np.flatnonzero(~choosing))
        starts = range(0, len(drawn), options.batch_size)
        self._fitted = [drawn[start : start + options.batch_size] for start in starts]
        head = Head(len(sources.label_map), encoder.dims.heads, options.depth)
        steps = len(self._fitted) * options.attentive_epochs
        self._grid = ProbeGrid(head, options, steps, self._seed)
        # Compiled once, however often the encoder is judged.
        self._step = jax.jit(self._train_step, donate_argnums=0, out_shardings=self._whole)
        self._tell = jax.jit(self._scores, out_shardings=self._whole)

    def run(self, params: Any, folder: pathlib.Path, workdir: pathlib.Path) -> dict[str, float]:
        """Returns the results of the best probe, and which it is; writes only bad_videos.jsonl.

        Raises:
          InputError: with eval.strict, a held-out video could not be read.
        """
        del folder
        start = time.perf_counter()
        encoder, source, bad = params["encoder"], self._sources.eval, []
        probes, fitted = self._train(encoder, workdir)
        tried, labels = self._judge(probes.params, encoder, self._choosing, "train", workdir)
        chosen = self._grid.choose(tried, labels)
        best = jax.tree.map(lambda x: x[chosen.place][None], probes.params)
        scores, held_out = self._judge(best, encoder, source, "eval", workdir, bad)
        account_for_lost(bad, len(held_out), len(source), workdir, self._strict)
        return {
            **results_of(NAME, scores[0], held_out, chosen),
            f"{NAME}_coverage": len(held_out) / len(source),
            f"{NAME}_train_coverage": (fitted + len(labels)) / len(self._sources.train),
            f"{NAME}_seconds": round(time.perf_counter() - start, 2),
        }

    def _train_step(self, probes: Probes, batch: Batch) -> tuple[Probes, jax.Array]:
        """Returns the probes after a batch, and how many videos it had."""
        seen = batch["valid"] & (batch["index"] >= 0)
        labels, weights = first_head(batch["label"]), seen.astype(jnp.float32)
        return self._grid.step(probes, batch["features"], labels, weights), seen.sum()

    def _scores(self, params: Any, batch: Batch) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Returns the logits of a batch [G B K], its labels, and which of them count."""
        seen = batch["valid"] & (batch["index"] >= 0)
        return self._grid.logits(params, batch["features"]), first_head(batch["label"]), seen

    def _train(self, encoder: Any, workdir: pathlib.Path) -> tuple[Probes, int]:
        """Returns the trained probes, and how many videos they were trained on."""
        shape = self._frozen.shape(encoder)
        init = jax.jit(lambda: self._grid.init(jnp.zeros((1, *shape))), out_shardings=self._whole)
        probes = init()
        videos = sum(len(batch) for batch in self._fitted)
        needed = 4e-9 * videos * np.prod(shape)
        keep = needed <= self._options.cache
        log.info(
            "Tokens of the %d training videos: %.2g GB, %s.",
            *(videos, needed, "kept" if keep else "encoded anew for each epoch (probe.cache)"),
        )
        kept: dict[int, Batch] = {}
        epochs, counts = self._options.attentive_epochs, []
        progress = Progress("attentive probe, step", epochs * len(self._fitted))
        for epoch in range(epochs):
            read = self._epoch(encoder, epoch, kept if keep else None, workdir)
            with contextlib.closing(read) as batches:
                for batch in batches:
                    STOP.point()
                    probes, count = self._step(probes, batch)
                    jax.block_until_ready(counts[-1:])  # two in flight at most
                    counts.append(count)
                    progress.look(len(counts))
        return probes, sum(int(count) for count in counts[: len(self._fitted)])

    def _epoch(
        self, encoder: Any, epoch: int, kept: dict[int, Batch] | None, workdir: pathlib.Path
    ) -> Generator[Batch]:
        """Yields the batches of an epoch, in an order of its own.

        Args:
          encoder: its parameters.
          epoch: from 0.
          kept: batches by number, where they are kept: filled by the first epoch.
          workdir: for bad_videos.jsonl.
        """
        count = len(self._fitted)
        order = np.random.default_rng([self._seed, _BATCHES, epoch]).permutation(count)
        order = [*order[order != count - 1], count - 1]  # the last may not be full
        if kept:
            yield from (kept[number] for number in order)
            return
        numbers = np.concatenate([self._fitted[number] for number in order])
        source = Picked(self._sources.train, numbers.tolist())
        read = self._frozen.batches(encoder, source, "train", workdir)
        with contextlib.closing(read) as batches:
            for number, batch in zip(order, batches, strict=True):
                if kept is not None:
                    kept[number] = batch
                yield batch

    def _judge(
        self,
        params: Any,
        encoder: Any,
        source: Source,
        split: str,
        workdir: pathlib.Path,
        bad: Bad | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns the logits [G N K] and the labels [N] of the videos that can be read."""
        parts = []
        read = self._frozen.batches(encoder, source, split, workdir, bad)
        with contextlib.closing(read) as batches:
            for batch in batches:
                parts.append([np.asarray(x) for x in self._tell(params, batch)])
        scores = np.concatenate([part[0] for part in parts], axis=1)
        labels, seen = (np.concatenate([part[i] for part in parts]) for i in (1, 2))
        return scores[:, seen], labels[seen]
