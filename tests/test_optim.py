import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vivit_jax import optim
from vivit_jax.config import Optim, Train
from vivit_jax.errors import InputError
from vivit_jax.freeze import frozen_of
from vivit_jax.models.video_transformer import CHOICES, VideoTransformer
from vivit_jax.trees import path_of, split

CLIP = jax.ShapeDtypeStruct((1, 4, 32, 32, 3), jnp.uint8)
TABLES = {
    "learned": {"position"},
    "separable": {"position_space", "position_time"},
    "sincos_1d": set(),
    "none": set(),
}
BOTH, MEAN = ("class_token", "mean"), ("mean",)
ARRANGEMENTS = {  # to its pools and positions
    "joint": (BOTH, tuple(TABLES)),
    "factorised_encoder": (BOTH, ("learned", "sincos_1d", "none")),
    "factorised_encoder_by_place": (MEAN, ("learned", "sincos_1d", "none")),
    "factorised_self_attention": (MEAN, tuple(TABLES)),
    "factorised_dot_product": (MEAN, tuple(TABLES)),
    "divided": (BOTH, tuple(TABLES)),
    "space_only": (BOTH, ("learned", "sincos_1d", "none")),
}


def shapes_of(**fields):
    """The parameters of a small classifier, as shapes."""
    model = VideoTransformer(size="mu", **fields)
    encoder = jax.eval_shape(model.init, jax.random.key(0), CLIP)["params"]
    kernel, bias = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((32, 5), (5,)))
    return {"encoder": encoder, "head": {"kernel": kernel, "bias": bias}}


def by_path(tree):
    return {path_of(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def ones_of(shapes):
    return jax.tree.map(lambda x: jnp.ones(x.shape), shapes)


def rates(options, steps, steps_per_epoch=1.0):
    schedule = optim.make_schedule(options, steps, steps_per_epoch)
    values = [schedule(step) for step in range(steps + 1)]
    assert {(x.dtype, x.shape) for x in values} == {(jnp.dtype("float32"), ())}
    return np.array(values)


def test_a_run_by_epochs_is_not_cut_at_batch_borders():
    by_epochs = Train(steps=-1, epochs=2.5)
    assert optim.total_steps(by_epochs, examples=10, batch_size=4) == 6  # not 2.5 * (10 // 4) = 5
    assert optim.total_steps(by_epochs, examples=11, batch_size=4) == 7  # of 6.875
    assert optim.total_steps(by_epochs, examples=1, batch_size=100) == 1
    assert optim.total_steps(Train(steps=7), examples=10, batch_size=4) == 7
    assert optim.total_steps(Train(steps=0), examples=10, batch_size=4) == 0


@pytest.mark.parametrize(
    ("unit", "warmup", "steps_per_epoch", "warmup_steps"),
    [("steps", 8, 3.7, 8), ("epochs", 2.5, 3.75, 9.375), ("epochs", 0, 3.75, 0)],
)
def test_cosine_is_the_published_formula(unit, warmup, steps_per_epoch, warmup_steps):
    top, end, steps = 3e-4, 1e-5, 40
    options = Optim(learning_rate=top, end_learning_rate=end, warmup=warmup, unit=unit)
    expected = [
        top * step / warmup_steps
        if step < warmup_steps
        else end
        + (top - end) * 0.5 * (1 + np.cos(np.pi * (step - warmup_steps) / (steps - warmup_steps)))
        for step in range(steps + 1)
    ]
    np.testing.assert_allclose(rates(options, steps, steps_per_epoch), expected, rtol=1e-5)


def test_rates_are_right_within_jit_and_at_counts_of_a_long_run():
    options = Optim(learning_rate=0.5, warmup=2.5, unit="epochs")
    steps, steps_per_epoch = 1_000_000, 20_000.5
    warmup = 2.5 * steps_per_epoch
    schedule = jax.jit(optim.make_schedule(options, steps, steps_per_epoch))
    for step in (0, 1, 50_001, 50_002, 123_457, 999_999, 1_000_000):
        done = (step - warmup) / (steps - warmup)
        expected = 0.5 * (step / warmup if done < 0 else 0.5 * (1 + np.cos(np.pi * done)))
        np.testing.assert_allclose(schedule(jnp.int32(step)), expected, rtol=1e-5, atol=1e-7)


def test_cosine_stays_at_its_end_after_the_run():
    schedule = optim.make_schedule(Optim(end_learning_rate=1e-5), 10, 1.0)
    np.testing.assert_allclose([schedule(10), schedule(10**6)], 1e-5, rtol=1e-6)


def test_constant_stays_at_the_top_after_its_warmup():
    options = Optim(schedule="constant", learning_rate=2.0, warmup=4, unit="steps")
    np.testing.assert_allclose(rates(options, 6), [0, 0.5, 1, 1.5, 2, 2, 2])


def test_a_warmup_may_fill_the_run():
    np.testing.assert_allclose(
        rates(Optim(learning_rate=1.0, warmup=4), 4), [0, 0.25, 0.5, 0.75, 1]
    )


def test_a_warmup_may_fill_a_run_whose_epochs_were_rounded_down():
    steps = optim.total_steps(Train(epochs=2.5), examples=10, batch_size=4)
    rate = optim.make_schedule(Optim(learning_rate=1.0, warmup=2.5), steps, 10 / 4)(steps)
    np.testing.assert_allclose(rate, 6 / 6.25, rtol=1e-6)


@pytest.mark.parametrize("steps", [0, 3])
def test_a_run_that_was_shortened_ends_within_its_warmup(steps):
    found = rates(Optim(learning_rate=1.0, warmup=10), steps)
    np.testing.assert_allclose(found, np.arange(steps + 1) / 10, rtol=1e-6)


def test_steps_decay_is_counted_from_the_start_of_the_run():
    options = Optim(
        schedule="steps",
        learning_rate=1.0,
        warmup=1,
        decay_at=(2, 3.5),
        decay_factor=0.1,
        unit="epochs",
    )
    expected = [0, 0.5, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01]  # of an epoch of two steps
    np.testing.assert_allclose(rates(options, 8, steps_per_epoch=2.0), expected, rtol=1e-6)


def run_beside_torch(options, make, clip=None, steps=12):
    """Returns the largest difference between both after the same random gradients.

    Args:
      make: an optimiser of torch, given the kernel and the bias.
    """
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    shapes = {"kernel": (5, 2, 4), "bias": (2, 4)}
    start = {name: random.normal(size=shape).astype("float32") for name, shape in shapes.items()}
    theirs = {name: torch.nn.Parameter(torch.tensor(x)) for name, x in start.items()}
    params = {"head": jax.tree.map(jnp.asarray, start)}
    schedule = optim.make_schedule(options, steps, 1.0)
    chain = optim.make_optimizer(options, schedule, params)
    state, other = chain.init(params), make(torch, theirs["kernel"], theirs["bias"])
    for step in range(steps):
        scale = 10 ** random.uniform(-2, 1)  # some gradients are clipped, some are not
        grads = {k: (scale * random.normal(size=s)).astype("float32") for k, s in shapes.items()}
        updates, state = chain.update({"head": jax.tree.map(jnp.asarray, grads)}, state, params)
        params = optax.apply_updates(params, updates)
        for name, x in theirs.items():
            x.grad = torch.tensor(grads[name])
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs.values(), clip)
        for group in other.param_groups:
            group["lr"] = float(schedule(step))
        other.step()
    assert np.abs(params["head"]["kernel"] - start["kernel"]).max() > 1e-2
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    return max(np.abs(params["head"][k] - x.detach().numpy()).max() for k, x in theirs.items())


def test_adamw_is_torchs_where_biases_are_not_decayed():
    options = Optim(
        optimizer="adamw", learning_rate=1e-2, weight_decay=0.5, b1=0.9, b2=0.95, warmup=3
    )

    def make(torch, kernel, bias):
        groups = [{"params": [kernel]}, {"params": [bias], "weight_decay": 0.0}]
        return torch.optim.AdamW(groups, weight_decay=0.5, betas=(0.9, 0.95))

    assert run_beside_torch(options, make) < 1e-6


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_is_torchs(nesterov):
    options = Optim(optimizer="sgd", learning_rate=1e-2, nesterov=nesterov, warmup=3)

    def make(torch, kernel, bias):
        return torch.optim.SGD([kernel, bias], lr=1.0, momentum=0.9, nesterov=nesterov)

    assert run_beside_torch(options, make) < 1e-6


def test_clip_is_torchs_and_comes_before_momentum():
    options = Optim(optimizer="sgd", learning_rate=1e-2, clip=1.0)

    def make(torch, kernel, bias):
        return torch.optim.SGD([kernel, bias], lr=1.0, momentum=0.9)

    assert run_beside_torch(options, make, clip=1.0) < 1e-6
    assert run_beside_torch(options, make) > 1e-2


def test_sgds_decay_is_the_learning_rate_times_the_weights_and_skips_momentum():
    params = {"head": {"kernel": jnp.ones((2, 3)), "bias": jnp.ones((3,))}}
    options = Optim(optimizer="sgd", weight_decay=0.5)
    chain = optim.make_optimizer(options, lambda step: jnp.float32(0.1), params)
    state = chain.init(params)
    for _ in range(3):
        updates, state = chain.update(jax.tree.map(jnp.zeros_like, params), state, params)
        np.testing.assert_allclose(updates["head"]["kernel"], -0.05, rtol=1e-6)
        assert not updates["head"]["bias"].any()


def test_the_table_of_arrangements_is_whole():
    assert set(ARRANGEMENTS) == set(CHOICES["attention"])


@pytest.mark.parametrize(
    ("arrangement", "pool", "positions"),
    [(a, x, y) for a, (pools, kinds) in ARRANGEMENTS.items() for x in pools for y in kinds],
)
def test_only_kernels_are_decayed(arrangement, pool, positions):
    shapes = shapes_of(attention=arrangement, positions=positions, pool=pool, temporal_depth=1)
    spared = {path for path, x in by_path(shapes).items() if not optim.decays(path, x.ndim)}
    tokens = {"class_token"} if pool == "class_token" else set()
    names = {path.split("/")[-1] for path in spared}
    assert names == {"bias", "scale"} | TABLES[positions] | tokens
    assert {path.split("/")[-1] for path in by_path(shapes).keys() - spared} == {"kernel"}


def test_names_and_axes_both_spare_from_decay():
    spared = [
        ("encoder/blocks/block_0/attention_0/query/bias", 2),
        ("encoder/time/position", 3),
        ("decoder/mask_token", 3),
        ("predictor/mask_tokens", 4),
        ("encoder/norm/scale", 2),
        ("pooler/attention/value_bias", 2),
        ("head/kernel", 1),
        ("temperature", 0),
    ]
    assert not any(optim.decays(path, ndim) for path, ndim in spared)
    assert optim.decays("encoder/bias_table", 2)
    assert optim.decays("predictor/mask_tokens_in/kernel", 2)
    assert optim.decays("encoder/position_mixer/kernel", 2)


def test_a_step_without_gradient_moves_what_is_decayed_and_no_more():
    shapes = shapes_of(attention="factorised_encoder", temporal_depth=1)
    options = Optim(weight_decay=0.1)
    chain = optim.make_optimizer(options, lambda step: jnp.float32(0.5), shapes)
    params = ones_of(shapes)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = chain.update(zeros, chain.init(params), params)
    for path, x in by_path(updates).items():
        np.testing.assert_allclose(x, -0.05 if path.endswith("kernel") else 0, rtol=1e-6)


def published_layer(name, num_layers):
    """BEiT's get_num_layer_for_vit, which VideoMAE copies; in timm's names."""
    if name in ("cls_token", "mask_token", "pos_embed") or name.startswith("patch_embed"):
        return 0
    if name.startswith("blocks"):
        return int(name.split(".")[1]) + 1
    return num_layers - 1


@pytest.mark.parametrize(
    ("depth", "options", "norm"),
    [(1, {}, "norm"), (12, {}, "norm"), (12, {"norm_summary": True}, "summary_norm")],
)
def test_layers_of_a_plain_vit_are_the_published_ones(depth, options, norm):
    shapes = shapes_of(attention="joint", depth=depth, **options)
    theirs = {
        "encoder/tubelets": "patch_embed.proj",
        "encoder/blocks/position": "pos_embed",
        "encoder/blocks/class_token": "cls_token",
        f"encoder/blocks/{norm}": "fc_norm",
        "head": "head",
    } | {f"encoder/blocks/block_{i}": f"blocks.{i}.mlp.fc1" for i in range(depth)}
    num_layers = depth + 2
    values = [0.75 ** (num_layers - 1 - i) for i in range(num_layers)]
    scales = by_path(optim.layer_scales(shapes, 0.75))
    seen = set()
    for path, scale in scales.items():
        (prefix,) = (x for x in theirs if path == x or path.startswith(x + "/"))
        assert scale == values[published_layer(theirs[prefix], num_layers)], path
        seen.add(prefix)
    assert seen == set(theirs)
    assert set(scales.values()) == set(values)


def test_layers_of_the_factorised_encoder_count_on_through_time():
    adapted = {"adapter": 8, "lora_rank": 2}
    shapes = shapes_of(attention="factorised_encoder", depth=3, temporal_depth=2, **adapted)
    shapes["decoder"] = {"blocks": {"block_7": {"kernel": jax.ShapeDtypeStruct((2, 2), "float32")}}}
    expected = {
        "encoder/tubelets/kernel": 0,
        "encoder/space/position": 0,
        "encoder/space/class_token": 0,
        "encoder/space/block_0/mlp_in/kernel": 1,
        "encoder/space/block_2/mlp_norm/scale": 3,
        "encoder/space/norm/bias": 3,
        "encoder/space/block_1/attention_0/query/lora_a": 2,
        "encoder/adapter/up/kernel": 4,
        "encoder/time/position": 4,
        "encoder/time/class_token": 4,
        "encoder/time/block_0/attention_0/query/bias": 4,
        "encoder/time/block_1/mlp_out/bias": 5,
        "encoder/time/norm/scale": 6,
        "head/kernel": 6,
        "decoder/blocks/block_7/kernel": 6,
    }
    scales = by_path(optim.layer_scales(shapes, 0.5))
    for path, layer in expected.items():
        assert scales[path] == 0.5 ** (6 - layer), path
    assert {optim.layer_of(path, 3, 2) for path in scales} == set(range(7))


def test_a_norm_of_the_summary_is_the_top_after_time_too():
    options = {"depth": 2, "temporal_depth": 1, "norm_summary": True}
    scales = by_path(optim.layer_scales(shapes_of(attention="factorised_encoder", **options), 0.5))
    assert scales["encoder/time/summary_norm/scale"] == 1
    assert scales["encoder/space/norm/scale"] == 0.25


def test_the_norm_of_space_is_the_top_where_no_time_follows():
    shapes = shapes_of(attention="factorised_encoder", depth=2, temporal_depth=0)
    scales = by_path(optim.layer_scales(shapes, 0.5))
    assert scales["encoder/space/norm/scale"] == 1
    assert scales["encoder/space/block_1/mlp_in/kernel"] == 0.5


def test_layers_do_not_depend_on_how_the_stack_is_compiled():
    unrolled, scanned = (shapes_of(depth=3, scan=scan) for scan in (False, True))
    assert optim.layer_scales(unrolled, 0.5) == optim.layer_scales(scanned, 0.5)


def test_a_frozen_stack_still_counts_for_the_layers_above_it():
    shapes = shapes_of(attention="factorised_encoder", depth=3, temporal_depth=2)
    scales = by_path(optim.layer_scales(shapes, 0.5))
    options = Optim(optimizer="sgd", momentum=0.0, layer_decay=0.5, freeze=("space",))
    chain = optim.make_optimizer(options, lambda step: jnp.float32(1.0), shapes)
    learnt, _ = split(ones_of(shapes), frozen_of(("space",), by_path(shapes)))
    for path, x in by_path(chain.update(learnt, chain.init(learnt), learnt)[0]).items():
        np.testing.assert_allclose(x, -scales[path], rtol=1e-6, err_msg=path)


def test_layer_decay_scales_the_step_and_the_decay():
    shapes = shapes_of(depth=2)
    params = ones_of(shapes)
    updates = []
    for layer_decay in (1.0, 0.5):
        options = Optim(weight_decay=0.1, layer_decay=layer_decay)
        chain = optim.make_optimizer(options, lambda step: jnp.float32(0.1), shapes)
        updates.append(chain.update(params, chain.init(params), params)[0])
    expected = jax.tree.map(lambda x, scale: x * scale, updates[0], optim.layer_scales(shapes, 0.5))
    for path, x in by_path(updates[1]).items():
        np.testing.assert_allclose(x, by_path(expected)[path], rtol=1e-6, err_msg=path)
        assert x.dtype == jnp.float32


@pytest.mark.parametrize(("name", "slots"), [("adamw", ("mu", "nu")), ("sgd", ("trace",))])
def test_optimiser_state_holds_float32_under_the_paths_of_parameters(name, slots):
    shapes = shapes_of()
    chain = optim.make_optimizer(Optim(optimizer=name), lambda step: jnp.float32(1), shapes)
    state = by_path(jax.eval_shape(chain.init, shapes))
    for path, x in by_path(shapes).items():
        for slot in slots:
            (found,) = (s for p, s in state.items() if p.endswith(f"{slot}/{path}"))
            assert (found.shape, found.dtype) == (x.shape, jnp.float32)


def test_optimiser_state_has_one_tree_whatever_is_switched_on():
    shapes = shapes_of()
    plain, full = (
        jax.eval_shape(
            optim.make_optimizer(options, lambda step: jnp.float32(1), shapes).init, shapes
        )
        for options in (Optim(), Optim(clip=1.0, weight_decay=0.1, layer_decay=0.5))
    )
    assert jax.tree.structure(plain) == jax.tree.structure(full)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, r"config\.optim\.optimizer = 'adam'.*Did you mean 'adamw'"),
        ({"clip": -1.0}, r"config\.optim\.clip = -1\.0"),
        ({"weight_decay": -0.1}, r"config\.optim\.weight_decay = -0\.1"),
        ({"layer_decay": 0.0}, r"config\.optim\.layer_decay = 0\.0"),
        ({"layer_decay": 1.1}, r"config\.optim\.layer_decay = 1\.1"),
        ({"layer_decay": float("nan")}, r"config\.optim\.layer_decay = nan"),
        ({"average": 1.0}, r"config\.optim\.average = 1\.0"),
        ({"average": -0.1}, r"config\.optim\.average = -0\.1"),
        ({"momentum": 1.0}, r"config\.optim\.momentum = 1\.0"),
        ({"b2": 1.0}, r"config\.optim\.b2 = 1\.0"),
    ],
)
def test_impossible_optimisers_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        optim.make_optimizer(Optim(**options), lambda step: jnp.float32(1), shapes_of())


def test_layer_decay_is_refused_without_blocks():
    params = {"encoder": {"conv": {"kernel": jnp.ones((2, 2))}}}
    with pytest.raises(InputError, match=r"config\.optim\.layer_decay = 0\.5 .*blocks"):
        optim.make_optimizer(Optim(layer_decay=0.5), lambda step: jnp.float32(1), params)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"schedule": "cosin"}, r"config\.optim\.schedule = 'cosin'.*Did you mean 'cosine'"),
        ({"warmup": -1.0}, r"config\.optim\.warmup = -1\.0"),
        ({"decay_at": (3.0, 2.0)}, r"config\.optim\.decay_at = \(3\.0, 2\.0\)"),
        ({"decay_at": (2.0, 2.0)}, r"config\.optim\.decay_at"),
        ({"decay_at": (0.0, 2.0)}, r"config\.optim\.decay_at"),
    ],
)
def test_impossible_schedules_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        optim.make_schedule(Optim(**options), steps=10, steps_per_epoch=3.0)


def test_rates_are_scaled_by_videos_over_those_they_are_for():
    options = Optim(learning_rate=1.5e-4, end_learning_rate=1e-5, warmup_from=1e-6, per_videos=256)
    scaled = optim.scaled(options, 2048)
    assert scaled.learning_rate == pytest.approx(1.2e-3)
    assert scaled.end_learning_rate == pytest.approx(8e-5)
    assert scaled.warmup_from == pytest.approx(8e-6)
    assert optim.scaled(Optim(learning_rate=0.3), 2048).learning_rate == 0.3


def test_v_jepa_s_schedules_end_before_their_horizon():
    options = Optim(
        learning_rate=6.25e-4,
        warmup_from=2e-4,
        end_learning_rate=1e-6,
        warmup=12.0,
        unit="steps",
        horizon=1.25,
        weight_decay=0.04,
        weight_decay_end=0.4,
        average=0.998,
        average_end=1.0,
    )
    found = rates(options, 90)
    np.testing.assert_allclose(found[:13], np.linspace(2e-4, 6.25e-4, 13), rtol=1e-5)
    done = (90 - 12) / (90 * 1.25 - 12)
    expected = 1e-6 + (6.25e-4 - 1e-6) * 0.5 * (1 + np.cos(np.pi * done))
    assert found[90] == pytest.approx(expected, rel=1e-5)
    decay, average = optim.make_weight_decay(options, 90), optim.make_average(options, 90)
    assert callable(decay)
    assert callable(average)
    half = 0.4 + (0.04 - 0.4) * 0.5 * (1 + np.cos(np.pi * 0.4))  # step 45 of 112.5
    assert [float(decay(step)) for step in (0, 45, 200)] == pytest.approx([0.04, half, 0.4])
    assert [float(average(step)) for step in (0, 45, 200)] == pytest.approx([0.998, 0.9988, 1.0])


def test_a_weight_decay_that_changes_is_applied_as_it_changes():
    options = Optim(learning_rate=1.0, schedule="constant", weight_decay=0.1, weight_decay_end=0.3)
    params = {"encoder": {"mlp_in": {"kernel": jnp.ones((2, 2))}}}
    optimizer = optim.make_optimizer(options, lambda step: jnp.float32(1.0), params, steps=2)
    state, zeros = optimizer.init(params), jax.tree.map(jnp.zeros_like, params)
    found = []
    for _ in range(3):
        updates, state = optimizer.update(zeros, state, params)
        found.append(-float(jax.tree.leaves(updates)[0][0, 0]))
    assert found == pytest.approx([0.1, 0.2, 0.3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"average_end": 1.0}, r"average_end = 1\.0; expected 0, or .*average = 0\.0"),
        ({"clip_per": "device", "clip": 1.0}, r"clip_per = 'device'; expected one of step, part"),
        ({"clip_per": "part", "clip": 1.0}, r"accumulate = 1 parts to .*expected at least 2 parts"),
        ({"clip_per": "part", "accumulate": 4}, r"accumulate = 4 parts to config\.optim\.clip = 0"),
        ({"horizon": 0.5}, r"config\.optim\.horizon = 0\.5 is below 1"),
        ({"per_videos": -1}, r"config\.optim\.per_videos = -1 is below 0"),
        ({"warmup_from": -1.0}, r"config\.optim\.warmup_from = -1\.0 is below 0"),
        ({"spike": 0.5}, r"spike = 0\.5 and spike_window = 128; expected above 1, or 0"),
        ({"spike": 9.0, "spike_window": 8}, r"spike_window = 8; .*over at least 16 steps"),
    ],
)
def test_impossible_schedules_of_pretraining_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        optim.check(Optim(**options))
