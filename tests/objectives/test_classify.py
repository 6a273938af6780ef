"""The classification loss is PyTorch's, for one head, several, and any number of labels."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax.errors import InputError
from vivit_jax.models.attentive_pooler import AttentivePooler
from vivit_jax.models.layers import Features
from vivit_jax.models.video_transformer import VideoTransformer, normalise
from vivit_jax.objectives.classify import Classify

B = 6
RNG = np.random.default_rng(0)
VIDEO = RNG.integers(0, 256, (B, 2, 16, 16, 3), np.uint8)
FLOATS = VIDEO / np.float32(127.5) - 1
SPLITS = {"one": (5,), "two": (5, 3)}
LABELS = {
    "one": RNG.integers(0, 5, B).astype(np.int32),
    "two": RNG.integers(0, (5, 3), (B, 2)).astype(np.int32),
    "multi": RNG.integers(0, 2, (B, 5)).astype(np.float32),
}
SMOOTHING = 0.3


class Patch(nn.Module):
    """An encoder that compiles at once: it sees four pixels."""

    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    @nn.compact
    def __call__(self, video, *, train=False):
        pixels = normalise(video, self.mean, self.std)[:, 0, :2, :2]
        tokens = nn.Dense(8, name="tokens")(pixels.reshape(len(video), 4, 3))
        return Features(tokens, tokens.mean(axis=1))


def classify(splits=(5,), **options) -> Classify:
    return Classify(Patch(), splits, **options)


def batch(label, video=VIDEO):
    return {"video": jnp.asarray(video), "label": jnp.asarray(label), "valid": jnp.ones(B, bool)}


@pytest.fixture(scope="module")
def params():
    """Returns parameters by the number of outputs, with a head that says something."""
    found = {}
    for splits in SPLITS.values():
        label = LABELS["one"] if len(splits) == 1 else LABELS["two"]
        made = classify(splits).init(jax.random.key(0), batch(label))["params"]
        kernel, bias = made["head"]["kernel"], made["head"]["bias"]
        head = {
            "kernel": jnp.asarray(RNG.normal(size=kernel.shape), jnp.float32),
            "bias": jnp.asarray(RNG.normal(size=bias.shape), jnp.float32),
        }
        found[splits] = {**made, "head": head}
    return found


def outcome(objective, params, label, *, train=False, video=VIDEO, seed=0):
    rngs = {name: jax.random.key(seed) for name in ("dropout", "mix")} if train else {}
    return objective.apply({"params": params}, batch(label, video), train=train, rngs=rngs)


def logits_of(objective, params) -> np.ndarray:
    clips = {"video": jnp.asarray(VIDEO)}
    return np.asarray(objective.apply({"params": params}, clips, method="predict"))


def torch_loss(logits, label, smoothing=0.0) -> np.ndarray:
    torch = pytest.importorskip("torch")
    losses = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits.copy()),
        torch.from_numpy(label.astype(np.int64)),
        label_smoothing=smoothing,
        reduction="none",
    )
    return losses.numpy()


@pytest.mark.parametrize(("train", "smoothing"), [(False, 0.0), (True, SMOOTHING)])
def test_loss_is_torchs_cross_entropy_and_smoothed_only_in_training(params, train, smoothing):
    objective = classify(label_smoothing=SMOOTHING)
    found = outcome(objective, params[(5,)], LABELS["one"], train=train).losses
    expected = torch_loss(logits_of(objective, params[(5,)]), LABELS["one"], smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(("train", "smoothing"), [(False, 0.0), (True, SMOOTHING)])
def test_any_number_of_labels_is_torchs_binary_cross_entropy(params, train, smoothing):
    functional = pytest.importorskip("torch").nn.functional
    from torch import from_numpy

    objective = classify(multi_label=True, label_smoothing=SMOOTHING)
    found = outcome(objective, params[(5,)], LABELS["multi"], train=train)
    targets = LABELS["multi"] * (1 - smoothing) + smoothing / 2
    expected = functional.binary_cross_entropy_with_logits(
        from_numpy(logits_of(objective, params[(5,)]).copy()),
        from_numpy(targets.astype(np.float32)),
        reduction="none",
    )
    np.testing.assert_allclose(found.losses, expected.numpy().mean(axis=1), rtol=1e-5)
    assert found.metrics == {}


def test_two_heads_are_the_mean_of_two_losses_the_first_heads_columns_first(params):
    objective = classify((5, 3), label_smoothing=SMOOTHING)
    logits, label = logits_of(objective, params[(5, 3)]), LABELS["two"]
    nouns = torch_loss(logits[:, :5], label[:, 0], SMOOTHING)
    verbs = torch_loss(logits[:, 5:], label[:, 1], SMOOTHING)
    found = outcome(objective, params[(5, 3)], label, train=True).losses
    np.testing.assert_allclose(found, (nouns + verbs) / 2, rtol=1e-5)


def test_recognised_is_every_heads_highest_class(params):
    one, two = classify(), classify((5, 3))
    highest = logits_of(one, params[(5,)]).argmax(axis=1)
    label = np.where(np.arange(B) < 2, highest, (highest + 1) % 5).astype(np.int32)
    found = outcome(one, params[(5,)], label).metrics["top1"]
    assert found.tolist() == [1, 1, 0, 0, 0, 0]

    logits = logits_of(two, params[(5, 3)])
    label = np.stack([logits[:, :5].argmax(axis=1), logits[:, 5:].argmax(axis=1)], axis=1)
    label[1, 0] = (label[1, 0] + 1) % 5
    label[2, 1] = (label[2, 1] + 1) % 3
    found = outcome(two, params[(5, 3)], label.astype(np.int32)).metrics["top1"]
    assert found.tolist() == [1, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("kind", ["one", "two", "multi"])
def test_a_new_head_gives_every_class_the_same(kind):
    splits = SPLITS["two"] if kind == "two" else SPLITS["one"]
    objective = classify(splits, multi_label=kind == "multi", head_bias=-2.0)
    made = objective.init(jax.random.key(0), batch(LABELS[kind]))["params"]
    assert set(made) == {"encoder", "head"}
    np.testing.assert_array_equal(logits_of(objective, made), -2.0)
    if kind == "multi":
        share = 1 / (1 + np.exp(2.0))
        expected = -np.log(np.where(LABELS["multi"], share, 1 - share)).mean(axis=1)
    else:
        expected = np.log(splits).mean()
    found = outcome(objective, made, LABELS[kind]).losses
    np.testing.assert_allclose(found, np.broadcast_to(expected, B), rtol=1e-5)


def test_parameters_are_the_encoders_own_and_a_head():
    encoder = VideoTransformer(size="mu", tubelet=(2, 8, 8))
    clips = batch(LABELS["one"])
    made = jax.eval_shape(Classify(encoder, (5,)).init, jax.random.key(0), clips)["params"]
    alone = jax.eval_shape(encoder.init, jax.random.key(0), clips["video"])["params"]
    assert jax.tree.map(lambda x: x.shape, made) == {
        "encoder": jax.tree.map(lambda x: x.shape, alone),
        "head": {"kernel": (32, 5), "bias": (5,)},
    }


@pytest.mark.parametrize("option", ["mixup", "cutmix"])
def test_clips_are_mixed_in_training_only(params, option):
    plain, mixed = classify(), classify(**{option: 1.0})
    given = params[(5,)], LABELS["one"]
    for train in (False, True):
        a = outcome(plain, *given, train=train, video=FLOATS).losses
        b = outcome(mixed, *given, train=train, video=FLOATS).losses
        assert np.allclose(a, b) == (not train)


def test_a_mixed_clips_loss_is_of_both_labels_in_their_shares(params):
    same = np.broadcast_to(FLOATS[:1], FLOATS.shape)  # so that mixing changes labels alone
    first = np.zeros(B, np.int32)
    label = np.where(np.arange(B) < B // 2, 0, 1).astype(np.int32)
    zero, one = (
        outcome(classify(), params[(5,)], x, video=same).losses for x in (first, first + 1)
    )
    mixed = outcome(classify(mixup=1.0), params[(5,)], label, train=True, video=same).losses
    share = (mixed - one) / (zero - one)
    np.testing.assert_allclose(share[: B // 2], 1 - share[B // 2 :], atol=1e-4)
    np.testing.assert_allclose(share[: B // 2], np.broadcast_to(share[0], B // 2), atol=1e-4)
    assert 0.001 < share[0] < 0.999


def test_dropout_of_the_summary_is_drawn_in_training_only(params):
    objective, given = classify(head_dropout=0.5), (params[(5,)], LABELS["one"])
    judged = [outcome(objective, *given).losses, outcome(classify(), *given).losses]
    np.testing.assert_array_equal(*judged)
    drawn = [outcome(objective, *given, train=True, seed=seed).losses for seed in (0, 1)]
    assert not np.allclose(*drawn)


def test_logits_and_losses_are_float32_over_an_encoder_in_bfloat16():
    encoder = VideoTransformer(size="mu", tubelet=(2, 8, 8), dtype="bfloat16")
    objective, clips = Classify(encoder, (5,)), batch(LABELS["one"])
    made = jax.eval_shape(objective.init, jax.random.key(0), clips)
    logits = jax.eval_shape(lambda p: objective.apply(p, clips, method="predict"), made)
    losses = jax.eval_shape(lambda p: objective.apply(p, clips), made).losses
    assert (logits.dtype, losses.dtype) == (jnp.float32, jnp.float32)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("label_smoothing", 1.0),
        ("label_smoothing", -0.1),
        ("head_dropout", 1.0),
        ("mixup", -0.5),
        ("cutmix", -1.0),
    ],
)
def test_an_impossible_option_is_refused_by_name(option, value):
    with pytest.raises(InputError, match=f"objective.{option} = {value}"):
        classify(**{option: value})


def pooling(**fields) -> Classify:
    encoder = VideoTransformer(size="mu", tubelet=(2, 4, 4), pool="mean", **fields)
    return Classify(encoder, (5,), pooling="attentive", pooler_depth=1, pooler_heads=4)


@pytest.mark.parametrize("attention", ["joint", "factorised_encoder"])
def test_an_attentive_pooler_gives_the_head_what_it_gathers_from_every_place(attention):
    objective = pooling(attention=attention, temporal_depth=1)
    clips = {"video": jnp.asarray(VIDEO[:2])}
    shapes = jax.eval_shape(lambda: objective.init(jax.random.key(0), clips, method="predict"))
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda x: jnp.asarray(rng.normal(0, 0.3, x.shape), x.dtype), shapes)
    params = params["params"]
    assert set(params) == {"encoder", "pooler", "head"}
    every = jnp.broadcast_to(jnp.arange(16)[None], (2, 16))

    @jax.jit
    def both(params):
        encoder = {"params": params["encoder"]}
        tokens = objective.encoder.apply(encoder, clips["video"], every).tokens
        gathered = AttentivePooler(4, 1).apply({"params": params["pooler"]}, tokens)
        found = objective.apply({"params": params}, clips, method="predict")
        return found, gathered @ params["head"]["kernel"] + params["head"]["bias"][None]

    np.testing.assert_allclose(*both(params), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "maximal"}, "objective.pooling = 'maximal'; expected one of summary, att"),
        ({"pooler_depth": -1}, "objective.pooler_depth = -1 is below 0"),
        ({"pooler_heads": 5}, "objective.pooler_heads = 5 does not divide the model's width of 32"),
    ],
)
def test_an_impossible_pooler_is_refused_by_name(options, message):
    with pytest.raises(InputError, match=message):
        pooling().clone(**options)


def test_a_pooler_of_tokens_without_a_closing_norm_is_refused():
    with pytest.raises(InputError, match=r"model.norm_summary = True leaves without a closing"):
        pooling(norm_summary=True)
