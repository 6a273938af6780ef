"""Scores of recognition agree with scikit-learn's, ties included."""

import numpy as np
import pytest
import sklearn.metrics

from vivit_jax.errors import InputError
from vivit_jax.measures import recognition as scores

N, K = 300, 7


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def labels(rng) -> np.ndarray:
    """No video is of the last class."""
    return rng.integers(0, K - 1, N)


def test_a_class_of_several_heads_is_asked_by_its_head_or_by_its_name_alone():
    maps = (("open", "cup"), ("shut", "open", "0:cup"))
    names = scores.class_names(maps)
    assert names == ["0:open", "0:cup", "1:shut", "1:open", "1:0:cup"]
    assert [scores.class_number("--class", name, maps) for name in names] == [0, 1, 2, 3, 4]
    assert scores.class_number("--class", "shut", maps) == 2
    assert scores.class_number("--class", "0:cup", maps) == 1
    with pytest.raises(InputError, match="'open' is a class of several heads: .* 0:open, 1:open"):
        scores.class_number("--class", "open", maps)
    with pytest.raises(InputError, match=r"none of the 5 classes .* nearest: 1:shut"):
        scores.class_number("--class", "1:shot", maps)
    assert scores.class_names(maps[:1]) == ["open", "cup"]
    assert scores.class_number("--class", "cup", maps[:1]) == 1


@pytest.mark.parametrize("k", range(1, K))
def test_top_k_is_scikit_learns_where_nothing_ties(rng, labels, k):
    given = rng.random((N, K)).astype(np.float32)
    expected = sklearn.metrics.top_k_accuracy_score(labels, given, k=k, labels=range(K))
    assert scores.top_k(given, labels, k) == pytest.approx(expected)


def test_of_equal_scores_the_lower_index_comes_first_as_in_argmax(rng, labels):
    given = rng.integers(0, 3, (N, K)).astype(float)
    assert scores.top_k(given, labels, 1) == np.mean(given.argmax(axis=1) == labels)
    equal = np.zeros((K, K))
    for k in range(1, K + 1):
        assert scores.top_k(equal, np.arange(K), k) == pytest.approx(k / K)


def test_top_k_counts_all_classes_where_k_is_above_their_number(rng, labels):
    assert scores.top_k(rng.random((N, K)), labels, K + 5) == 1


def test_top_k_of_no_videos_is_nan_and_of_a_diverged_model_is_0(labels):
    assert np.isnan(scores.top_k(np.zeros((0, K)), np.zeros(0, int), 1))
    assert scores.top_k(np.full((N, K), np.nan), labels, 5) == 0


def test_a_label_that_is_no_class_is_refused_rather_than_counted_from_the_end():
    with pytest.raises(ValueError, match="Labels from -1 to 0; expected 0 to 2"):
        scores.top_k(np.zeros((2, 3)), np.array([-1, 0]), 1)
    with pytest.raises(ValueError, match="Labels from 0 to 3; expected 0 to 2"):
        scores.confusion(np.array([0, 3]), np.array([0, 0]), 3)
    with pytest.raises(ValueError, match="Labels of shape"):
        scores.confusion(np.zeros(3, int), np.zeros(2, int), 3)


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.int8])
def test_confusion_is_scikit_learns_in_every_integer_type(rng, dtype):
    labels, predicted = rng.integers(0, 100, (2, N))
    expected = sklearn.metrics.confusion_matrix(labels, predicted, labels=range(100))
    given = scores.confusion(predicted.astype(dtype), labels.astype(dtype), 100)
    np.testing.assert_array_equal(given, expected)


def test_confusion_of_no_videos_is_0():
    given = scores.confusion(np.zeros(0, int), np.zeros(0, int), K)
    np.testing.assert_array_equal(given, np.zeros((K, K)))


def test_per_class_is_scikit_learns_with_0_for_a_class_nobody_has_or_predicts(rng, labels):
    predicted = np.where(rng.random(N) < 0.5, labels, rng.integers(1, K, N))
    predicted[predicted == 2] = 3
    given = scores.per_class(scores.confusion(predicted, labels, K))
    expected = sklearn.metrics.precision_recall_fscore_support(
        labels, predicted, labels=range(K), zero_division=0
    )
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_allclose(ours, theirs)
    assert given.precision[2] == given.recall[K - 1] == given.f1[K - 1] == 0


def test_per_class_of_many_labels_a_video_is_scikit_learns(rng):
    predicted, targets = rng.random((2, N, K)) < 0.3
    targets[:, 0] = predicted[:, 1] = False
    given = scores.per_class_of_many(predicted, targets)
    expected = sklearn.metrics.precision_recall_fscore_support(targets, predicted, zero_division=0)
    for ours, theirs in zip(given, expected, strict=True):
        np.testing.assert_allclose(ours, theirs)


@pytest.mark.parametrize("average", ["macro", "micro"])
def test_means_are_scikit_learns(rng, average):
    predicted, targets = rng.random((2, N, K)) < 0.3
    expected = sklearn.metrics.precision_recall_fscore_support(
        targets, predicted, average=average, zero_division=0
    )
    if average == "macro":
        given = scores.macro(scores.per_class_of_many(predicted, targets))
    else:
        given = scores.micro(predicted, targets)
    assert given == pytest.approx(expected[:3])


def test_with_one_label_a_video_what_is_decided_together_is_the_accuracy(rng, labels):
    predicted = rng.integers(0, K, N)
    classes = np.eye(K, dtype=bool)
    assert scores.micro(classes[predicted], classes[labels]) == pytest.approx(
        3 * (np.mean(predicted == labels),)
    )


def test_mean_average_precision_is_scikit_learns_over_classes_that_have_a_video(rng):
    given, targets = rng.random((N, K)), rng.random((N, K)) < 0.3
    expected = sklearn.metrics.average_precision_score(targets, given, average="macro")
    each = scores.average_precision(given, targets)
    assert scores.mean_average_precision(each) == pytest.approx(expected)
    assert scores.mean_average_precision(np.array([0.5, np.nan])) == 0.5
    assert np.isnan(scores.mean_average_precision(np.array([np.nan])))


@pytest.mark.parametrize("levels", [2, 5, 40, None])
def test_average_precision_is_scikit_learns_with_any_number_of_ties(rng, levels):
    given = rng.random((N, K)).astype(np.float32)
    if levels:
        given = np.floor(given * levels)
    targets = rng.random((N, K)) < np.linspace(0.01, 1, K)
    targets[0] = True
    expected = [
        sklearn.metrics.average_precision_score(targets[:, i], given[:, i]) for i in range(K)
    ]
    np.testing.assert_allclose(scores.average_precision(given, targets), expected)
    np.testing.assert_allclose(scores.average_precision(given, targets.astype(int)), expected)


def test_average_precision_does_not_depend_on_the_order_of_the_videos(rng):
    given, targets = rng.integers(0, 4, (N, K)).astype(float), rng.random((N, K)) < 0.3
    order = rng.permutation(N)
    np.testing.assert_array_equal(
        scores.average_precision(given, targets),
        scores.average_precision(given[order], targets[order]),
    )


def test_average_precision_is_nan_only_for_a_class_without_a_positive(rng):
    targets = rng.random((N, K)) < 0.5
    targets[:, 3] = False
    given = scores.average_precision(rng.random((N, K)), targets)
    np.testing.assert_array_equal(np.isnan(given), np.arange(K) == 3)
    assert np.isnan(scores.average_precision(np.zeros((0, K)), np.zeros((0, K), bool))).all()


def test_average_precision_ranks_a_score_of_nan_last():
    given = np.array([[np.nan], [0.5], [0.1]])
    targets = np.array([[1], [1], [0]])
    np.testing.assert_allclose(scores.average_precision(given, targets), [(1 + 2 / 3) / 2])


def test_average_precision_refuses_targets_of_another_shape():
    with pytest.raises(ValueError, match="shape"):
        scores.average_precision(np.zeros((3, 2)), np.zeros((3, 1), bool))
