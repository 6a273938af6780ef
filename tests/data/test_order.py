"""Orders are permutations, each of its own, and a new one loses no video of its epoch."""

import numpy as np
import pytest

from vivit_jax.data.order import epoch_order, order_within

VIDEOS = 10


def test_an_order_is_one_of_many_and_the_first_is_as_it_always_was():
    first = np.random.default_rng([5, 3]).permutation(VIDEOS)
    np.testing.assert_array_equal(epoch_order(5, 3, VIDEOS), first)
    np.testing.assert_array_equal(epoch_order(5, 3, VIDEOS, order=0), first)
    orders = {tuple(epoch_order(5, 3, VIDEOS, order)) for order in range(10)}
    assert len(orders) == 10
    assert {tuple(sorted(order)) for order in orders} == {tuple(range(VIDEOS))}


@pytest.mark.parametrize("orders", [(), ((25, 1),), ((12, 1), (25, 2), (27, 4)), ((20, 3),)])
def test_every_epoch_has_every_video_once_whatever_order_begins_in_it(orders):
    begin, size = 20, VIDEOS
    found = order_within(5, 2, size, orders)
    assert sorted(found) == list(range(size))
    within = [(first - begin, order) for first, order in orders if first > begin]
    before = [order for first, order in orders if first <= begin]
    place = 0
    for until, order in [*within, (size, None)]:
        expected = epoch_order(5, 2, size, before[-1] if before else 0)
        rest = expected[~np.isin(expected, found[:place])]
        np.testing.assert_array_equal(found[place:until], rest[: until - place])
        place, before = until, [order]
