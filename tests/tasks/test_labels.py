"""Labels by hand: three users' futures cut from one flat list of events."""

import numpy as np

from foretaste.contract import Future
from foretaste.tables.sequences import SEQUENCES
from foretaste.tasks import TASKS
from foretaste.tasks.interest import NUM_NEXT_ITEMS, next_items
from foretaste.tasks.returns import returns


def future(start: list[int], stop: list[int], item: list[int]) -> Future:
    items = np.array(item, dtype=np.int32)
    return Future(start=np.array(start, dtype=np.int64), stop=np.array(stop, dtype=np.int64), item=items, event=np.ones_like(items))


def test_next_items_are_distinct_and_in_the_order_of_appearance() -> None:
    #                     0  1  2  3  4  5  6
    found = next_items(future([0, 4, 4], [4, 4, 7], [9, 5, 9, 7, 0, 3, 3]))  # 0: an event without an item
    assert found.shape == (3, NUM_NEXT_ITEMS)
    assert found[:, :4].tolist() == [[9, 5, 7, 0], [0, 0, 0, 0], [3, 0, 0, 0]]
    assert not found[:, 4:].any()


def test_next_items_that_the_vocabulary_lacks_stay_unknown_in_their_places() -> None:
    found = next_items(future([0, 3], [4, 6], [-9, 5, -7, -9, 2, 5]))  # -9 and -7 are two of them
    assert found[:, :4].tolist() == [[1, 5, 1, 0], [1, 2, 5, 0]]
    assert not found[:, 4:].any()


def test_next_items_keeps_the_first_of_too_many() -> None:
    many = list(range(2, 2 + 2 * NUM_NEXT_ITEMS))
    assert next_items(future([0], [len(many)], many))[0].tolist() == many[:NUM_NEXT_ITEMS]


def test_rows_that_share_events_have_labels_of_their_own() -> None:
    assert next_items(future([0, 1, 2], [2, 3, 3], [4, 5, 4]))[:, :2].tolist() == [[4, 5], [5, 4], [4, 0]]


def test_no_rows_at_all() -> None:
    assert next_items(future([], [], [])).shape == (0, NUM_NEXT_ITEMS)


def test_returns_if_anything_followed() -> None:
    assert returns(future([0, 2, 2], [2, 2, 3], [4, 5, 6])).tolist() == [1, 0, 1]


def test_every_task_has_its_label_in_sequences() -> None:
    assert {task.label.name for task in TASKS.values()} <= set(SEQUENCES.names)
