"""When a run goes back, to which step, and in which order of its videos."""

import json
import pathlib

import pytest

from vivit_jax import sanity
from vivit_jax.errors import Fault, NotFinite


def bad(step, taken):
    return sanity.GoBack(step, taken, "why")


def test_updates_left_out_one_after_another_are_counted():
    left_out = sanity.LeftOut(3)
    for step, why in enumerate(("", "spike", "not finite", "", "spike", "not finite"), 1):
        left_out.see(step, why)
    assert (left_out.taken, left_out.row) == (4, 2)
    with pytest.raises(sanity.GoBack, match="3 updates in a row left out, last: spike") as caught:
        left_out.see(7, sanity.SPIKE)
    assert (caught.value.step, caught.value.taken) == (7, 4)


def test_a_batch_of_which_nothing_could_be_read_says_nothing():
    left_out = sanity.LeftOut(2)
    for step, why in enumerate((sanity.SPIKE, *[sanity.NO_VIDEO] * 9), 1):
        left_out.see(step, why)
    with pytest.raises(sanity.GoBack):
        left_out.see(11, sanity.SPIKE)


def test_no_limit_is_none():
    left_out = sanity.LeftOut(0)
    for step in range(1, 500):
        left_out.see(step, sanity.NOT_FINITE)


@pytest.mark.parametrize("stop", range(6))
def test_a_run_that_was_stopped_counts_as_if_it_had_not_been(stop):
    whys = ["", "spike", "no video could be read", "not finite", "not finite", ""]
    straight = sanity.LeftOut(10)
    for step, why in enumerate(whys[:stop], 1):
        straight.see(step, why)
    lines = [{"step": step, "why": why} for step, why in enumerate(whys, 1) if why and step <= stop]
    resumed = sanity.LeftOut(10, stop, lines)
    assert (resumed.taken, resumed.row) == (straight.taken, straight.row)


@pytest.mark.parametrize(
    ("step", "taken", "steps", "tried", "expected"),
    [
        (250, 190, [100, 150, 200, 240], [], 150),  # the newest before the trouble
        (250, 200, [100, 150, 200, 240], [], 200),
        (250, 190, [200, 240], [], 200),  # in the trouble, and no older one is left
        (240, 239, [100, 240], [], 100),  # itself is bad
        (240, 239, [240], [], None),
        (30, 10, [], [], 0),  # nothing was saved yet
        (250, 190, [100, 150], [150], 100),  # did not help before
        (250, 190, [150], [150], 150),
    ],
)
def test_it_goes_back_to_the_newest_step_before_the_trouble(step, taken, steps, tried, expected):
    assert sanity.target(bad(step, taken), steps, tried) == expected


class Steps:
    """Stands for the checkpoints of a workdir."""

    folder = pathlib.Path("WORKDIR/checkpoints")

    def __init__(self, *steps):
        self.left = list(steps)

    def steps(self):
        return self.left

    def wait(self):
        """All that there is lies on the disk."""

    def roll_back(self, step):
        self.left = [s for s in self.left if s <= step]


def test_going_back_is_written_down_and_read_again(tmp_path):
    rollbacks, steps = sanity.Rollbacks(tmp_path, 2), Steps(10, 20, 30)
    undone = {"step": 26, "why": "spike", "examples": ["a"]}
    (tmp_path / "skipped_updates.jsonl").write_text('{"step": 3}\n' + json.dumps(undone))
    assert rollbacks.orders == ()
    rollbacks.go_back(bad(35, 25), steps)
    assert steps.left == [10, 20]
    with (tmp_path / "rollbacks.jsonl").open("a") as file:
        file.write('{"step": 28, "t')  # as a crash leaves it
    rollbacks.go_back(bad(28, 12), steps)
    lines = [json.loads(line) for line in (tmp_path / "rollbacks.jsonl").read_text().splitlines()]
    assert lines == [
        {"step": 35, "to": 20, "reason": "why", "order": 1, "skipped": [undone]},
        {"step": 28, "to": 10, "reason": "why", "order": 2, "skipped": [undone]},
    ]
    again = sanity.Rollbacks(tmp_path, 2)
    assert again.orders == rollbacks.orders == ((10, 2),)  # what came after step 20 was undone
    with pytest.raises(Fault, match=r"went back 2 times.*max_rollbacks = 2.*checkpoints/10"):
        again.go_back(bad(15, 12), steps)
    assert steps.left == [10]


def test_orders_follow_one_another(tmp_path):
    rollbacks = sanity.Rollbacks(tmp_path, 3)
    rollbacks.go_back(bad(35, 25), Steps(20))
    rollbacks.go_back(bad(95, 92), Steps(20, 90))
    assert rollbacks.orders == ((20, 1), (90, 2))


def test_without_a_good_checkpoint_it_ends(tmp_path):
    with pytest.raises(Fault, match="no good checkpoint"):
        sanity.Rollbacks(tmp_path, 2).go_back(bad(20, 19), Steps(20))
    assert not (tmp_path / "rollbacks.jsonl").exists()


def test_a_state_that_is_not_finite_makes_a_run_go_back():
    with (
        pytest.raises(sanity.GoBack, match="the state is not finite: params/a") as caught,
        sanity.going_back(7, "the state"),
    ):
        raise NotFinite("not finite: params/a")
    assert (caught.value.step, caught.value.taken) == (7, 6)
