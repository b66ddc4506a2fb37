"""Windows against one long list of rows, also when they are taken up again in the middle."""

import pytest
import torch

from sternpost.activations.windows import Group, Mark, Windows

LENGTHS = [3, 0, 7, 1, 12, 5]
ROWS = torch.arange(28 * 2.0).reshape(28, 2)


def read(cursor):
    """Groups of these lengths, endlessly; the second layer's rows are the first's, negated."""
    at = cursor["group"] % len(LENGTHS)
    start = sum(LENGTHS[:at])
    rows = ROWS[start:start + LENGTHS[at]]
    return Group([rows, -rows], {"group": cursor["group"] + 1})


def windows(size=8, start=None, number=0):
    return Windows(read, size, 3, start or Mark({"group": 0}, 0), number)


@pytest.mark.parametrize("size", [1, 5, 8, 28, 40])
def test_windows_are_the_rows_one_after_the_other(size):
    held, endless = windows(size), ROWS.repeat(20, 1)
    for number in range(6):
        first, second = held.rows(number)
        assert torch.equal(first, endless[number * size:(number + 1) * size])
        assert torch.equal(second, -first)


def test_batches_are_a_shuffle_of_their_window_and_layers_stay_together():
    held = windows()
    batches = [held.batch(step, 4) for step in range(10)]
    for number in range(5):
        together = torch.cat([batches[2 * number][0], batches[2 * number + 1][0]])
        want = ROWS.repeat(4, 1)[8 * number:8 * number + 8]
        assert sorted(together[:, 0].tolist()) == sorted(want[:, 0].tolist())
    assert all(torch.equal(first, -second) for first, second in batches)
    assert any(not torch.equal(torch.cat([batches[2 * n][0], batches[2 * n + 1][0]]),
                               ROWS.repeat(4, 1)[8 * n:8 * n + 8]) for n in range(5))


@pytest.mark.parametrize("stop", range(1, 9))
def test_a_walk_is_taken_up_where_it_was(stop):
    straight, first = windows(), windows()
    want = [straight.batch(step, 4) for step in range(12)]
    for step in range(stop):
        first.batch(step, 4)
    again = windows(start=first.start, number=first.number)  # only this is left of the first
    for step in range(stop - stop % 2, 12):
        for one, other in zip(again.batch(step, 4), want[step], strict=True):
            assert torch.equal(one, other)


def test_rows_are_kept_in_one_place():
    held = windows()
    place = held.rows(0)[0].data_ptr()
    assert held.rows(3)[0].data_ptr() == place


def test_a_walk_that_gives_nothing_ends():
    nothing = Windows(lambda cursor: Group([torch.empty(0, 2)], cursor), 4, 0, Mark({}, 0))
    with pytest.raises(ValueError, match="gave no token"):
        nothing.rows(0)


def test_of_the_last_window_only_what_is_wanted_is_read():
    asked = []
    held = Windows(lambda cursor: asked.append(cursor) or read(cursor), 28, 3,
                   Mark({"group": 0}, 0))
    held.rows(0)
    before = len(asked)
    last = held.rows(1, 4)
    assert torch.equal(last[0], ROWS[:4])
    assert len(asked) - before == 3  # of 3, of none, of 7 rows
