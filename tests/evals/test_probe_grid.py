"""Linear probes end where scikit-learn's logistic regression does, and are chosen honestly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from vivit_jax.config import Probe
from vivit_jax.evals import linear_probe
from vivit_jax.evals.frozen import Encoded
from vivit_jax.evals.probe_grid import ProbeGrid, kept_for_choosing

CLASSES, WIDTH = 3, 6
OPTIONS = Probe(learning_rates=(0.03,), weight_decays=(0.0,), batch_size=1000, linear_epochs=400)


def blobs(count: int, spread: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Returns features [N D] around a centre for each class, and labels [N]."""
    random = np.random.default_rng(seed)
    centres = np.random.default_rng(9).normal(size=(CLASSES, WIDTH))
    labels = random.integers(0, CLASSES, count)
    features = centres[labels] + spread * random.normal(size=(count, WIDTH))
    return features.astype(np.float32), labels.astype(np.int32)


def encoded(features: np.ndarray, labels: np.ndarray) -> Encoded:
    return Encoded(features, labels, np.arange(len(labels)), len(labels), [])


def loss(logits: np.ndarray, labels: np.ndarray) -> float:
    shares = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    return float(-shares[np.arange(len(labels)), labels].mean())


@pytest.mark.parametrize("batch_size", [1000, 90])  # the last batch of 90 is not full
def test_a_linear_probe_ends_at_the_logistic_regression(batch_size):
    features, labels = blobs(200, spread=2.0)
    options = dataclasses.replace(OPTIONS, batch_size=batch_size)
    given = jnp.asarray(features), jnp.asarray(labels)
    grid, probes = linear_probe.train(*given, CLASSES, options, seed=0)
    logits = np.asarray(grid.logits(probes.params, given[0]))[0]
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000).fit(features, labels)
    optimum = loss(np.log(model.predict_proba(features)), labels)
    assert 0.2 < optimum < 0.9 * np.log(CLASSES)
    assert loss(logits, labels) == pytest.approx(optimum, abs=2e-3 if batch_size < 200 else 1e-5)
    agree = np.mean(logits.argmax(axis=1) == model.predict(features))
    assert agree >= (0.97 if batch_size < 200 else 1)


def test_a_probe_of_a_grid_is_what_it_would_be_alone():
    features, labels = (jnp.asarray(x) for x in blobs(60, spread=1.0))
    options = dataclasses.replace(
        OPTIONS, learning_rates=(0.1, 0.01), weight_decays=(0.0, 0.5), linear_epochs=5
    )
    grid, probes = linear_probe.train(features, labels, CLASSES, options, seed=3)
    pairs = [(0.1, 0.0), (0.1, 0.5), (0.01, 0.0), (0.01, 0.5)]
    np.testing.assert_allclose(np.stack([grid.rates, grid.decays], axis=1), pairs, rtol=1e-6)
    for place, (rate, decay) in enumerate(pairs):
        alone = dataclasses.replace(options, learning_rates=(rate,), weight_decays=(decay,))
        _, one = linear_probe.train(features, labels, CLASSES, alone, seed=3)
        for many, single in zip(
            jax.tree.leaves(probes.params), jax.tree.leaves(one.params), strict=True
        ):
            np.testing.assert_allclose(many[place], single[0], rtol=1e-5, atol=1e-6)
    kernels = np.asarray(probes.params["kernel"])
    assert np.abs(kernels[1]).sum() < np.abs(kernels[0]).sum()  # what decay is for


def test_held_out_labels_choose_nothing():
    known, held_out = blobs(120, 1.5), blobs(80, 1.5, seed=1)
    options = dataclasses.replace(OPTIONS, learning_rates=(0.1, 1e-5, 1e-3), linear_epochs=20)
    found = linear_probe.judge(encoded(*known), encoded(*held_out), CLASSES, options, 0)
    wrong = (held_out[1] + 1) % CLASSES
    again = linear_probe.judge(encoded(*known), encoded(held_out[0], wrong), CLASSES, options, 0)
    same = {"linear_probe_chosen_by_top1", "linear_probe_learning_rate"}
    assert {name: found[name] for name in same} == {name: again[name] for name in same}
    assert found["linear_probe_top1"] > 0.7 > again["linear_probe_top1"]
    assert set(linear_probe.RESULTS) <= set(found)


def test_standardised_features_have_no_scale_of_their_own():
    known, held_out = blobs(100, 1.0), blobs(50, 1.0, seed=1)
    stretch = np.float32([1e3, 1e-2, 1, 5, 1e2, 1])
    options = dataclasses.replace(OPTIONS, linear_epochs=20, learning_rates=(1e-2,))

    def judge(scale, shift, **changed):
        pairs = [encoded(x * scale + shift, y) for x, y in (known, held_out)]
        return linear_probe.judge(*pairs, CLASSES, dataclasses.replace(options, **changed), 0)

    plain = judge(1, 0)
    assert judge(stretch, 3)["linear_probe_top1"] == pytest.approx(
        plain["linear_probe_top1"], abs=0.03
    )
    assert plain["linear_probe_top1"] > 0.8
    assert judge(stretch, 3, standardise=False)["linear_probe_top1"] < plain["linear_probe_top1"]


def test_a_diverged_probe_is_never_chosen():
    grid = ProbeGrid(None, Probe(learning_rates=(1.0, 0.1, 0.01), weight_decays=(0.0,)), 1, 0)  # type: ignore
    labels = np.array([0, 1, 1])
    right = np.eye(2, dtype=np.float32)[labels]
    logits = np.stack([np.full_like(right, np.nan), right, 5 * right])
    assert grid.choose(logits, labels)[:2] == (2, pytest.approx(0.01))  # the lower loss
    assert grid.choose(logits[:, :, ::-1], labels).place != 0
    assert grid.choose(np.full_like(logits, np.nan), labels).top1 == 0


@pytest.mark.parametrize(("videos", "share", "count"), [(100, 0.1, 10), (2, 0.9, 1), (9, 0.01, 1)])
def test_some_are_trained_on_and_some_are_chosen_by(videos, share, count):
    kept = kept_for_choosing(videos, share, seed=5)
    assert kept.sum() == count
    np.testing.assert_array_equal(kept, kept_for_choosing(videos, share, seed=5))
    if videos == 100:
        assert (kept != kept_for_choosing(videos, share, seed=6)).any()
