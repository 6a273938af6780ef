"""Copies are told from takes of the same scene, among many."""

import base64

import numpy as np

from vivit_jax.data.duplicates import CELLS, MOMENTS, find_groups, signature
from vivit_jax.data.repeats import Shown, find_repeats

RNG = np.random.default_rng(0)


def videos(count: int) -> np.ndarray:
    """Returns signatures of videos that each move over a scene of their own."""
    scenes = RNG.normal(128, 40, (count, 1, CELLS, CELLS))
    moved = RNG.normal(0, 15, (count, MOMENTS, CELLS, CELLS))
    return (scenes + moved).clip(0, 255)


def text(codes: np.ndarray) -> list[str]:
    codes = np.rint(codes).astype(np.uint8)
    return [base64.b64encode(code.tobytes()).decode() for code in codes]


def digests(count: int) -> list[str]:
    return [f"{i}" for i in range(count)]


def test_another_encoding_is_found_among_many_and_another_take_is_not():
    codes = videos(2000)
    again = (codes[:50] + RNG.normal(3, 1.5, codes[:50].shape)).clip(0, 255)  # and lighter
    takes = codes[50:100].mean(1, keepdims=True) + RNG.normal(0, 15, codes[50:100].shape)
    groups, pairs = find_groups(digests(2100), text(np.concatenate([codes, again, takes])))
    assert groups == []
    assert [(i, j) for i, j, _ in pairs] == [(i, 2000 + i) for i in range(50)]
    assert all(1 < levels < 2.5 for _, _, levels in pairs)


def test_two_moments_beside_a_cut_do_not_hide_a_copy():
    codes = videos(2)
    again = codes[:1].copy()
    again[0, 2:4] = videos(1)[0, 2:4]
    _, pairs = find_groups(digests(3), text(np.concatenate([codes, again])))
    assert [(i, j) for i, j, _ in pairs] == [(0, 2)]


def test_what_shows_nothing_is_like_nothing():
    grey = np.full((3, MOMENTS, CELLS, CELLS), 128.0)
    assert find_groups(digests(3), text(grey)) == ([], [])
    assert find_groups(["", ""], ["", ""]) == ([], [])


def test_a_signature_takes_the_probes_nearest_to_its_moments():
    times = np.arange(40) / 4  # 10 s
    cells = np.broadcast_to(np.arange(40.0)[:, None, None], (40, CELLS, CELLS))
    found = signature(times, cells, 10.0)[:, 0, 0]
    np.testing.assert_array_equal(found, [2, 7, 12, 17, 22, 27, 32, 37])


def test_the_one_that_is_trained_on_is_at_fault_and_within_a_split_the_later_one():
    a, b = text(videos(2))
    shown = [
        Shown("train/0", "train", 0, "x", a),
        Shown("train/1", "train", 1, "x", a),
        Shown("train/2", "train", 0, "y", b),
        Shown("eval/3", "eval", 0, "x", a),
        Shown("eval/4", "eval", 0, "z", b),
    ]
    found = find_repeats(shown, "eval")
    assert {i: [finding.cause for finding in findings] for i, findings in found.items()} == {
        0: ["leak"],
        1: ["duplicate", "leak"],
        2: ["leak"],
    }
    assert found[0][0].found == "the pictures of eval/3 (eval)"
    assert found[1][0].found == "the pictures of train/0 (train), and has another label"
    assert found[2][0].found == "looks like eval/4 (eval), 0.0 of 255 levels apart"


def test_a_copy_of_a_look_alike_leaks_too():
    (a,) = text(videos(1))
    shown = [
        Shown("train/0", "train", 0, "x", a),
        Shown("eval/0", "eval", 0, "x", a),
        Shown("train/1", "train", 0, "y", a),
    ]
    found = find_repeats(shown, "eval")
    assert [finding.cause for finding in found[2]] == ["near_duplicate", "leak"]
