"""The analytic count of a train step against the matrix products of its traced program."""

import math
import pathlib

import jax
import numpy as np
import pytest
import tiny

from vivit_jax import run, sharding
from vivit_jax.benchmarks import steps
from vivit_jax.compiling import compiler_options, step_function
from vivit_jax.data.examples import Example, Listed, Sources

SPACE = {"attention": "factorised_encoder", "temporal_depth": 2, "depth": 2}
PIXELS = {
    "name": "masked_pixels",
    **{"decoder_width": 16, "decoder_depth": 2, "decoder_heads": 2, "mask_ratio": 0.5},
}
LATENT = {"name": "latent_prediction", "predictor_width": 24, "predictor_depth": 1}
LATENT |= {"predictor_heads": 2, "blocks": (1, 1), "block_scales": (0.2, 0.4)}
LORA = {"lora_rank": 3, "lora_targets": ("query", "out")}
CASES = {
    "everything is learnt": {},
    "two blocks as one scan": {"model": {"depth": 2, "scan": True}},
    "three parts": {"optim": {"accumulate": 2}},
    "divided": {"model": {"attention": "divided", "depth": 2}},
    "half and half": {"model": {"attention": "factorised_dot_product", "pool": "mean"}},
    "space only": {"model": {"attention": "space_only", "depth": 2}},
    "space is frozen": {"model": SPACE, "optim": {"freeze": ("space",)}},
    "space is frozen, in scans": {
        "model": SPACE | {"scan": True},
        "optim": {"freeze": ("space",), "accumulate": 2},
    },
    "frozen but for the first block": {
        "model": {"depth": 3},
        "optim": {"freeze": ("encoder/.*", "!encoder/blocks/block_0/.*")},
    },
    "frozen but for the last MLP's bias": {
        "model": {"depth": 3},
        "optim": {"freeze": ("encoder/.*", "!encoder/blocks/block_2/mlp_in/bias")},
    },
    "only the head": {"optim": {"freeze": ("encoder/.*",)}},
    "low rank": {"model": {"depth": 2, **LORA}, "optim": {"freeze": ("all_but_lora",)}},
    "low rank and an adapter": {
        "model": SPACE | LORA | {"adapter": 4},
        "optim": {"freeze": ("all_but_lora",)},
    },
    "pixels": {"model": {"pool": "mean"}, "objective": PIXELS},
    "pixels, a frozen encoder": {
        "model": {"pool": "mean"},
        "objective": PIXELS,
        "optim": {"freeze": ("encoder/.*",)},
    },
    "pixels, in two scans and two parts": {
        "model": {"pool": "mean", "scan": True, "depth": 2},
        "objective": PIXELS,
        "optim": {"accumulate": 2},
    },
    "latents": {
        "model": {"pool": "mean"},
        "objective": LATENT,
        "data": {"image_size": 48},
        "optim": {"average": 0.9},
    },
    "an attentive pooler": {
        "data": {"batch_size": 1},
        "objective": {"name": "classify", "pooling": "attentive", "pooler_depth": 1},
    },
    "an attentive pooler on a frozen encoder": {
        "data": {"batch_size": 1},
        "objective": {"name": "classify", "pooling": "attentive", "pooler_heads": 2},
        "optim": {"freeze": ("encoder/.*",)},
    },
}


def products(jaxpr, times=1) -> int:
    """Multiply-accumulates of every matrix product of a program, each loop as often as it runs."""
    total = 0
    for eqn in jaxpr.eqns:
        if eqn.primitive.name == "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            depth = math.prod(eqn.invars[0].aval.shape[axis] for axis in contracted)
            total += times * math.prod(eqn.outvars[0].aval.shape) * depth
        inside = times * (eqn.params["length"] if eqn.primitive.name == "scan" else 1)
        for value in eqn.params.values():
            inner = getattr(value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += products(inner, inside)
    return total


def prepare(case: str, **sections) -> run.Run:
    """Returns the run of a case, on one device."""
    experiment = tiny.experiment(train={"evaluate": False}, **sections, **CASES[case])
    mesh = sharding.make_mesh(experiment.mesh, jax.devices()[:1])
    sources = Sources(Listed([Example("", "", 0)] * 8), Listed([]), (("a", "b", "c"),))
    return run.assemble(experiment, pathlib.Path(), sources, mesh)


@pytest.mark.parametrize("case", CASES)
def test_a_step_costs_what_runs(case):
    prepared = prepare(case, augment={"flip": 0.0})
    batch = run.batch_shapes(prepared)
    traced = jax.jit(step_function(prepared)).trace(prepared.state, batch)

    data, objective = prepared.experiment.data, prepared.objective
    learnt = run.learnt_paths(prepared.state, prepared.frozen)
    costs = objective.costs(data.frames, data.image_size, learnt)  # type: ignore
    assert data.batch_size * costs.step == products(traced.jaxpr.jaxpr)


@pytest.mark.slow
@pytest.mark.parametrize(
    "case",
    [pytest.param(x, marks=() if x == "everything is learnt" else pytest.mark.slow) for x in CASES],
)
def test_what_a_cpu_s_compiler_is_asked_for_saves_memory_and_changes_no_bit(case):
    prepared = prepare(case)
    batch, step = steps.batch_of(prepared), jax.jit(step_function(prepared), donate_argnums=0)

    def after_three(options):
        state = prepared.init()
        compiled = step.lower(state, batch).compile(options)
        for _ in range(3):
            state, _ = compiled(state, batch)
        return state, steps.temporary(compiled)

    (plain, most), (asked, least) = after_three({}), after_three(compiler_options())
    jax.tree.map(np.testing.assert_array_equal, plain, asked)
    assert least <= most
