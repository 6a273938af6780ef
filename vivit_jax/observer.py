"""A trained model that looks at clips: what every command on videos asks of one.

It is opened from a run or from published weights, knows how its clips are made, and gives a row for
each clip that it is shown, on all devices of this host. Any number of clips may come: they are run
in groups of two sizes, of which each is compiled once: as many as the devices are given at once, or
one a device where that will do.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
from einops import rearrange
from jaxtyping import Float, UInt8

from vivit_jax import config, recipe, sharding, trained
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.windows import GROUP, Rate
from vivit_jax.digest import digests
from vivit_jax.errors import InputError
from vivit_jax.evals.multi_view import view_scores
from vivit_jax.text import letters_of

AT_ONCE = 8  # clips of a device, at most
Clips = UInt8[np.ndarray, "n V T H W 3"]  # V crops of each


class Observer:
    """A model, its parameters, and how its clips are made.

    Attributes:
      saved: where it is from.
      experiment: what it was trained by.
      mesh: the devices that it runs on.
    """

    def __init__(self, source: str, at_once: int = AT_ONCE):
        """Finds a model; its parameters are read when they are first needed.

        Args:
          source: see trained.find.
          at_once: clips that a device is given at once, at most.

        Raises:
          InputError: there is no such checkpoint.
        """
        self.saved = trained.find(source)
        self.experiment = self.saved.experiment
        self.mesh = sharding.make_mesh(config.Mesh(), jax.local_devices())
        self._at_once = at_once

    @property
    def frames(self) -> int:
        """T, frames of a clip."""
        return self.experiment.data.frames

    @property
    def spread(self) -> bool:
        """Whether it was trained on frames spread over whole videos."""
        return self.experiment.data.sampling in ("segments", "key_frames")

    def read(self, whole: bool = True) -> None:
        """Reads the parameters now; a fault of theirs is then told once, and as no video's.

        Args:
          whole: of the objective; False for those of the encoder alone.

        Raises:
          InputError: they cannot be read.
        """
        _ = self.objective if whole else self.encoder

    def rate(self, seconds: float = 0.0) -> Rate:
        """Returns the rate of a clip's frames.

        Args:
          seconds: of a clip; 0 for what it was trained on.

        Raises:
          InputError: it was trained on whole videos, so that it must be told.
        """
        data = self.experiment.data
        if not seconds and self.spread:
            raise InputError(
                f"{self.saved.where} was trained on frames spread over whole videos "
                f"(data.sampling = {data.sampling!r}), so a window has no length of its own: give "
                "--window."
            )
        return Rate(seconds, data.fps, data.stride)

    def geometry(self, crops: int = 1) -> Geometry:
        """Returns which part of the picture is seen: 1 crop or 3, as where it was judged."""
        data = self.experiment.data
        return Geometry(data.image_size, resize=self.experiment.eval.resize, test_crops=crops)

    @functools.cached_property
    def label_maps(self) -> tuple[tuple[str, ...], ...]:
        """The names of the classes, a map for each head."""
        return self.saved.label_maps()

    @functools.cached_property
    def objective(self) -> tuple[nn.Module, Any]:
        """The objective that trained it, and all parameters."""
        data = self.experiment.data
        maps = self.label_maps if data.labels != "none" else ((),)
        objective = recipe.build_objective(self.experiment, maps)
        shapes = recipe.param_shapes(objective, data, maps)
        return objective, trained.read_params(self.saved, shapes, sharding.replicated(self.mesh))

    @functools.cached_property
    def encoder(self) -> tuple[nn.Module, Any]:
        """The encoder and its parameters, whatever trained it."""
        if "objective" in self.__dict__:  # which has them
            objective, params = self.objective
            return objective.encoder, params["encoder"]  # type: ignore[attr-defined]
        return trained.read_encoder(self.saved, sharding.replicated(self.mesh))

    def check_predicts(self) -> None:
        """Refuses a model that knows no classes.

        Raises:
          InputError: it is one.
        """
        from vivit_jax.objectives import OBJECTIVES

        name = self.experiment.objective["name"]
        if not hasattr(OBJECTIVES[name], "predict"):
            raise InputError(
                f"{self.saved.where} holds a model of config.objective.name = {name!r}, which "
                "predicts nothing of labels; python -m vivit_jax.features gives what its encoder "
                "makes of videos."
            )

    def scores(self, clips: Clips) -> Float[np.ndarray, "n K"]:
        """Returns the probabilities of clips, mean over their crops, head after head.

        Raises:
          InputError: the model knows no classes.
        """
        return self._rows(self._score, clips)

    def summaries(self, clips: Clips) -> Float[np.ndarray, "n D"]:
        """Returns what the encoder makes of clips, mean over their crops."""
        return self._rows(self._summarise, clips)

    @functools.cached_property
    def _score(self) -> Callable[[Any], jax.Array]:
        self.check_predicts()
        objective, params = self.objective
        options = self.experiment.eval
        return self._compiled(lambda p, clips: view_scores(objective, p, clips, options), params)

    @functools.cached_property
    def _summarise(self) -> Callable[[Any], jax.Array]:
        encoder, params = self.encoder

        def summaries(params: Any, clips: jax.Array) -> jax.Array:
            views = rearrange(clips, "n v t h w c -> (n v) t h w c")
            summary: Any = encoder.apply({"params": params}, views)
            return rearrange(summary.summary, "(n v) d -> n v d", v=clips.shape[1]).mean(axis=1)

        return self._compiled(summaries, params)

    def _compiled(self, function: Callable[..., Any], params: Any) -> Callable[[Any], Any]:
        """Returns a function of parameters and clips as one of clips alone."""
        compiled = jax.jit(function, out_shardings=sharding.replicated(self.mesh))

        def run(clips: Any) -> Any:
            with jax.set_mesh(self.mesh):
                return compiled(params, clips)

        return run

    def _rows(self, function: Callable[[Any], Any], clips: Clips, at_once: int = 0) -> np.ndarray:
        """Returns a row for each clip; groups are filled up with black ones.

        Args:
          function: gives the rows of as many clips as a group has.
          clips: any number.
          at_once: clips of a device, at most; 0 for the observer's.
        """
        devices = self.mesh.size
        size = devices  # where clips are few, as of a stream: nobody waits for black ones
        if len(clips) > devices:  # and no more than come at once
            size *= min(at_once or self._at_once, math.ceil(GROUP / devices))
        place = sharding.batch_sharding(self.mesh)
        made = []
        for first in range(0, len(clips), size):
            some = clips[first : first + size]
            rest = np.zeros((size - len(some), *some.shape[1:]), np.uint8)
            given = jax.device_put(np.concatenate([some, rest]), place)
            made.append(np.asarray(function(given))[: len(some)])
        return np.concatenate(made)

    def seeing(
        self, function: Callable[[Any, jax.Array], jax.Array], params: Any, at_once: int = AT_ONCE
    ) -> Callable[[Clips], np.ndarray]:
        """Returns a function of parameters and clips as one of any number of clips, compiled.

        Args:
          function: gives a row for each clip.
          params: of the objective or the encoder.
          at_once: clips that a device is given at once, at most.
        """
        compiled = self._compiled(function, params)
        return lambda clips: self._rows(compiled, clips, at_once)

    @functools.cached_property
    def fingerprint(self) -> str:
        """What changes where the encoder, or how its clips are made, is another's."""
        data = self.experiment.data
        clip = [data.frames, data.stride, data.fps, data.sampling, data.image_size]
        model = {k: v for k, v in self.experiment.model.items() if k != "attention_kernel"}
        of_weights = digests(self.encoder[1])[0]
        return letters_of([model, clip, self.experiment.eval.resize, of_weights])

    @functools.cached_property
    def fingerprint_of_scores(self) -> str:
        """What changes where the fingerprint does, or what makes scores of features."""
        params = {part: x for part, x in self.objective[1].items() if part != "encoder"}
        return letters_of([self.fingerprint, self.experiment.eval.average, digests(params)[0]])
