"""Training a part of a model: what stays as it is, and what that saves."""

import functools
import logging
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import experiment, noise_video

from vivit_jax import config, metrics, optim, run, sharding, train, trained
from vivit_jax.data.augment import make_augment
from vivit_jax.errors import InputError
from vivit_jax.freeze import frozen_of
from vivit_jax.models.lora import fold
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.objectives.classify import Classify
from vivit_jax.train_step import init_state, train_step
from vivit_jax.trees import as_tree, by_path

SHAPE = (8, 4, 16, 16, 3)
WIDE = {"width": 128, "mlp_dim": 256, "depth": 3, "tubelet": (2, 4, 4)}


def make_batch(seed=0):
    rng = np.random.default_rng(seed)
    return {
        "video": jnp.asarray(rng.integers(0, 256, SHAPE, np.uint8)),
        "label": jnp.arange(8, dtype=jnp.int32) % 3,
        "valid": jnp.ones(8, bool),
        "position": jnp.arange(8, dtype=jnp.uint32),
        "index": jnp.arange(8, dtype=jnp.int32),
    }


def make(freeze=(), average=0.0, accumulate=1, options=None, **model):
    """Returns an objective, its first state, and a step that learns what is not frozen."""
    fields = {"size": "mu", "tubelet": (2, 8, 8), "temporal_depth": 1, **model}
    objective = Classify(VideoTransformer(attention="factorised_encoder", **fields), (3,))
    clip = {k: v[:1] for k, v in make_batch().items()}
    params = jax.jit(objective.init)(jax.random.key(0), clip)["params"]
    params = jax.tree.map(lambda x: x + 0.01, params)  # the head too, so that all have gradients
    chosen = config.Optim(freeze=freeze, **(options or {}))
    optimizer = optim.make_optimizer(chosen, lambda step: jnp.float32(1e-2), params)
    frozen = frozen_of(freeze, by_path(params))
    step = functools.partial(
        train_step,
        objective=objective,
        optimizer=optimizer,
        augment=make_augment(config.Augment(flip=0.0), (0.5,) * 3, (0.5,) * 3),
        seed=0,
        accumulate=accumulate,
        average=average,
        frozen=frozen,
    )
    return objective, init_state(params, optimizer, average > 0, frozen), jax.jit(step), frozen


def values(tree):
    return {path: np.asarray(x) for path, x in by_path(tree).items()}


def changed(before, after):
    before, after = values(before), values(after)
    return {path for path in before if (before[path] != after[path]).any()}


def test_what_is_frozen_stays_bit_for_bit_and_all_else_learns():
    options = {"weight_decay": 0.1, "layer_decay": 0.75}
    _, before, step, frozen = make(("space",), average=0.9, accumulate=2, options=options)
    assert frozen == {p for p in by_path(before.params) if re.match("encoder/[st][pu]", p)}
    after, info = step(before, make_batch())
    after, info = step(after, make_batch(1))
    for name in ("params", "average"):
        kept = changed(getattr(before, name), getattr(after, name))
        assert kept == by_path(before.params).keys() - frozen
    assert np.isfinite(float(info.metrics["grad_norm"]))


@pytest.mark.slow
def test_learning_a_part_moves_it_as_learning_all_does_where_nothing_is_clipped():
    (_, whole, step, _), (_, part, step_of_part, frozen) = make(), make(("space",))
    whole, part = step(whole, make_batch())[0], step_of_part(part, make_batch())[0]
    for path, value in values(part.params).items():
        if path not in frozen:
            np.testing.assert_allclose(value, values(whole.params)[path], atol=1e-5, err_msg=path)


@pytest.mark.slow
def test_clipping_sees_what_is_learnt_alone():
    _, before, step, frozen = make(("space",), options={"clip": 1e-3, "optimizer": "sgd"})
    after, _ = step(before, make_batch())
    moved = [values(after.params)[p] - values(before.params)[p] for p in values(after.params)]
    norm = np.sqrt(sum((x**2).sum() for x in moved))
    assert norm == pytest.approx(1e-2 * 1e-3, rel=1e-2)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_optimiser_holds_only_what_is_learnt(optimizer):
    _, state, _, frozen = make(("space",), options={"optimizer": optimizer})
    learnt = {p: x for p, x in by_path(state.params).items() if p not in frozen}
    held = {p: x for p, x in by_path(state.opt_state).items() if x.ndim}
    slots = 2 if optimizer == "adamw" else 1
    assert len(held) == slots * len(learnt)
    size = sum(x.nbytes for x in learnt.values())
    assert sum(x.nbytes for x in held.values()) == slots * size
    assert not any(p.endswith(f"/{path}") for p in held for path in frozen)


def flops(freeze=(), **model):
    """Of a compiled step, over those of a forward pass."""
    objective, state, step, _ = make(freeze, **WIDE, **model)

    def forward(params, batch):
        return objective.apply({"params": params}, batch).losses

    programs = step.lower(state, make_batch()), jax.jit(forward).lower(state.params, make_batch())
    whole, once = (program.compile().cost_analysis()["flops"] for program in programs)
    return whole / once


@pytest.mark.slow
@pytest.mark.parametrize(
    ("freeze", "model", "times"),
    [
        ((), {}, 3.0),
        # The stack over time sees 2 tokens of a clip's 32.
        (("space",), {"adapter": 16, "remat": "full"}, 1.09),
        (("encoder/.*",), {}, 1.0),
        # What passes back to the lowest update is as much as the forward pass, and no kernel's.
        (("all_but_lora",), {"lora_rank": 4}, 1.92),
        # Below the lowest block that learns, nothing passes back.
        (("space", r"!encoder/space/block_2/.*"), {}, 1.71),
    ],
)
def test_a_step_costs_the_forward_pass_and_what_is_learnt(freeze, model, times):
    assert flops(freeze, **model) == pytest.approx(times, rel=0.03)


@pytest.mark.slow
def test_eight_devices_learn_a_part_as_one_does():
    _, alone, step, frozen = make(("all_but_lora",), lora_rank=2)
    mesh = sharding.make_mesh(config.Mesh(data=2, fsdp=2, tensor=2))
    places = sharding.shardings(alone, mesh)
    spread = jax.device_put(alone, places)
    batch = make_batch()
    alone, one = step(alone, batch)
    spread, many = step(spread, sharding.to_devices(jax.device_get(batch), mesh))
    assert float(one.metrics["loss"]) == pytest.approx(float(many.metrics["loss"]), rel=1e-5)
    for path, value in values(alone.params).items():
        np.testing.assert_allclose(values(spread.params)[path], value, atol=3e-4)


def paths(**model):
    encoder = VideoTransformer(size="mu", tubelet=(2, 8, 8), **model)
    video = jax.ShapeDtypeStruct(SHAPE, jnp.uint8)
    tree = jax.eval_shape(encoder.init, jax.random.key(0), video)["params"]
    return by_path({"encoder": tree, "head": {"kernel": jnp.ones(1), "bias": jnp.ones(1)}})


def test_the_last_pattern_that_matches_decides():
    every = paths(depth=2)
    block = {p for p in every if "/block_1/" in p}
    bias = {p for p in block if p.endswith("bias")}
    release = ("encoder/.*", "!.*/block_1/.*")
    encoder = {p for p in every if p.startswith("encoder/")}
    assert frozen_of(release, every) == encoder - block
    assert frozen_of((*release, ".*/block_1/.*/bias"), every) == encoder - block | bias
    assert frozen_of((), every) == frozenset()


def test_all_but_lora_learns_updates_and_what_fine_tuning_brings_along():
    every = paths(
        attention="factorised_encoder", lora_rank=2, adapter=4, norm_summary=True, pool="mean"
    )
    learnt = every.keys() - frozen_of(("all_but_lora",), every)
    ours = r"head/.*|.*/lora_[ab]|encoder/adapter/.*|encoder/time/summary_norm/.*"
    assert learnt == {p for p in every if re.fullmatch(ours, p)}


@pytest.mark.parametrize(
    ("freeze", "message"),
    [
        (("encoder/spce/.*",), r"freeze: 'encoder/spce/\.\*' matches no parameter; .*/space/"),
        (("encoder",), r"'encoder' matches no parameter; expected a regular expression of whole"),
        (("encoder/.*", "!hed/.*"), r"'hed/\.\*' matches no parameter; .* such as head/bias"),
        (("all_but_lora",), r"for 'all_but_lora', matches no .*on by config\.model\.lora_rank"),
        ((".*",), r"freezes all \d+ parameters; expected some to be left, .*head/kernel"),
        (("encoder/(",), r"'encoder/\(' is no regular expression .*or a name: space, frames"),
    ],
)
def test_a_pattern_that_does_nothing_is_refused_with_near_paths(freeze, message):
    with pytest.raises(InputError, match=message):
        frozen_of(freeze, paths(attention="factorised_encoder"))


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for i in range(16):
        noise_video(root / f"{'train' if i < 8 else 'val'}/{'ab'[i % 2]}/{i}.mp4", i)
    return root


def given(videos, steps=2, **sections):
    model = {"attention": "factorised_encoder", "temporal_depth": 1, "dropout": 0.1}
    return experiment(
        **{
            **sections,
            "data": {"root": str(videos)},
            "model": {**model, **sections.get("model", {})},
            "optim": {"learning_rate": 0.01, "average": 0.5, **sections.get("optim", {})},
            "train": {"steps": steps, "log_every": 1, "checkpoint_every": 1, "evaluate": False},
        }
    )


@pytest.fixture(scope="module")
def few_frames(videos, tmp_path_factory):
    """Returns the workdir of a run that learnt all of a plain model."""
    workdir = tmp_path_factory.mktemp("few_frames")
    train.run(given(videos), workdir)
    return workdir


ADAPTED = {
    "model": {"lora_rank": 2, "lora_targets": ("query", "out"), "adapter": 4},
    "optim": {"freeze": ("all_but_lora",)},
}


def saved(workdir, step, name="params"):
    with restore.Checkpoints(workdir, read_only=True) as checkpoints:
        shapes = checkpoints.shapes(step)
        return by_path(checkpoints.read(step, {name: shapes[name]})[name])


@pytest.mark.slow
def test_an_adapted_run_starts_from_a_plain_one_and_stopped_ends_as_if_it_had_not_been(
    videos, few_frames, tmp_path, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, "vivit_jax")
    adapted = given(videos, init_from=str(few_frames), **ADAPTED)
    train.run(adapted, tmp_path / "straight")
    text = caplog.text
    assert "lora_a: LoRA starts as no change" in text
    assert "encoder/adapter/down/kernel: the adapter starts as the identity" in text
    assert "stays as random" not in text
    learnt, fixed = re.search(r"([\d,]+) values are learnt, ([\d,]+) are frozen", text).groups()

    def stop_here(self, name, record, write=metrics.Writer.write):
        if record["step"] == 2:
            raise KeyboardInterrupt
        write(self, name, record)

    with monkeypatch.context() as patched:
        patched.setattr(metrics.Writer, "write", stop_here)
        with pytest.raises(KeyboardInterrupt):
            train.run(adapted, tmp_path / "stopped")
    train.run(adapted, tmp_path / "stopped")
    for name in ("params", "average", "opt_state"):
        straight, stopped = (saved(tmp_path / x, 2, name) for x in ("straight", "stopped"))
        assert straight.keys() == stopped.keys()
        assert all((straight[path] == stopped[path]).all() for path in straight)

    source, ours = saved(few_frames, 2, "average"), saved(tmp_path / "straight", 2)
    frozen = frozen_of(("all_but_lora",), ours)
    assert all((ours[path] == source[path]).all() for path in frozen)
    assert sum(x.size for p, x in ours.items() if p in frozen) == int(fixed.replace(",", ""))
    assert sum(x.size for p, x in ours.items() if p not in frozen) == int(learnt.replace(",", ""))

    # What is published of it, and what another run starts from, is a model without LoRA.
    found = trained.to_publish(trained.find(str(tmp_path / "straight")))
    assert not any("lora" in path for path in found.params)
    plain, params = found.build()
    assert plain.encoder.lora_rank == 0
    video = {"video": make_batch()["video"]}
    ours = jax.tree.map(jnp.asarray, as_tree(saved(tmp_path / "straight", 2, "average")))
    with_lora = Classify(plain.encoder.clone(**ADAPTED["model"]), plain.class_splits)
    logits = with_lora.apply({"params": ours}, video, method="predict")
    assert float(jnp.abs(logits).max()) > 1e-4
    merged = plain.apply({"params": params}, video, method="predict")
    np.testing.assert_allclose(merged, logits, atol=1e-6)
    again = given(videos, init_from=str(tmp_path / "straight"), model={"adapter": 4})
    state = run.prepare(again, tmp_path / "again").init()
    for path, value in by_path(state.params["encoder"]).items():
        np.testing.assert_array_equal(value, found.params[f"encoder/{path}"])


@pytest.mark.slow
def test_what_is_frozen_without_having_been_learnt_is_warned_of(videos, tmp_path, caplog):
    run.prepare(given(videos, optim={"freeze": ("space",)}), tmp_path).init()
    assert "What is frozen stays as random as it starts:\n  frozen   encoder/" in caplog.text
    assert "encoder/space/block_*/mlp_in/kernel: is in nothing that config.init" in caplog.text


@pytest.mark.slow
def test_a_run_may_freeze_more_as_it_goes_on_but_no_less(videos, tmp_path):
    train.run(given(videos, steps=1), tmp_path)
    train.run(given(videos, optim={"freeze": ("space",)}), tmp_path)
    assert changed(saved(tmp_path, 1), saved(tmp_path, 2)) == {
        p for p in saved(tmp_path, 1) if not re.match(r"encoder/(tubelets|space)", p)
    }
    with pytest.raises(InputError, match=r"or more frozen\?\n  it has no opt_state/.*encoder/"):
        train.run(given(videos, steps=3), tmp_path)


@pytest.mark.slow
def test_lora_starts_as_the_model_without_it_and_folds_into_it():
    targets = ("query", "key", "value", "out")
    plain = VideoTransformer(size="mu", tubelet=(2, 8, 8), depth=2)
    adapted = plain.clone(lora_rank=3, lora_alpha=6.0, lora_targets=targets)
    video = make_batch()["video"]
    one, other = (jax.jit(x.init)(jax.random.key(0), video)["params"] for x in (plain, adapted))
    assert all((x == by_path(other)[path]).all() for path, x in by_path(one).items())
    added = by_path(other).keys() - by_path(one).keys()
    assert {path.split("/")[-2] for path in added} == set(targets)
    assert len(added) == 2 * 2 * len(targets)

    encode = jax.jit(lambda model, params: model.apply({"params": params}, video), static_argnums=0)
    np.testing.assert_array_equal(encode(plain, one).tokens, encode(adapted, other).tokens)
    rng = np.random.default_rng(0)
    random = {p: x + 0.1 * rng.normal(size=x.shape).astype("f") for p, x in values(other).items()}
    folded = fold(random, 6.0)
    assert folded.keys() == by_path(one).keys()
    found = encode(adapted, as_tree(random)).tokens
    np.testing.assert_allclose(found, encode(plain, as_tree(folded)).tokens, atol=2e-5)
    without = as_tree({path: random[path] for path in folded})
    assert np.abs(found - encode(plain, without).tokens).max() > 0.05


@pytest.mark.slow
def test_an_adapter_starts_as_the_identity():
    plain = VideoTransformer(size="mu", tubelet=(2, 8, 8), attention="factorised_encoder")
    video, adapted = make_batch()["video"], plain.clone(adapter=4)
    one, other = (jax.jit(x.init)(jax.random.key(0), video)["params"] for x in (plain, adapted))
    assert {k.split("/")[0] for k in by_path(other).keys() - by_path(one).keys()} == {"adapter"}
    features = (jax.jit(x.apply)({"params": p}, video) for x, p in ((plain, one), (adapted, other)))
    np.testing.assert_array_equal(*(x.summary for x in features))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lora_rank": -1}, r"model\.lora_rank = -1 is below 0"),
        ({"lora_rank": 2, "lora_targets": ("q",)}, r"lora_targets = \('q',\); .*query, key, value"),
        ({"lora_rank": 2, "lora_targets": ()}, r"lora_targets = \(\); expected one or more of"),
        ({"adapter": 8}, r"model\.adapter = 8 lies between space and time, and .*'joint' has no"),
    ],
)
def test_impossible_adaptations_are_refused(fields, message):
    with pytest.raises(InputError, match=message):
        VideoTransformer(size="mu", **fields)
