"""interest: which items will this user act on next, within the horizon?"""

import numpy as np
from numpy.typing import NDArray

from foretaste.contract import PAD, UNKNOWN, Future, Label
from foretaste.tasks.task import Task, Worth

NUM_NEXT_ITEMS = 64
FIRST_LOOK = 4 * NUM_NEXT_ITEMS  # events of each row
MOST_EVENTS = 1 << 19  # at once, of one row or more


def next_items(future: Future) -> NDArray[np.int32]:
    """(N, NUM_NEXT_ITEMS): the distinct items of the horizon by first appearance, right-padded with PAD.

    One that the vocabulary lacks stays, as UNKNOWN: no model can rank it, and an evaluation that forgot it would flatter them all.
    A row's first events are looked at, and more of them only where they have too few distinct items: a million may follow.
    """
    labels = np.full((len(future.start), NUM_NEXT_ITEMS), PAD, dtype=np.int32)
    rows, look = np.arange(len(labels)), FIRST_LOOK
    while len(rows):
        at_once = max(1, MOST_EVENTS // look)
        for start in range(0, len(rows), at_once):
            some = rows[start : start + at_once]
            labels[some] = _distinct(future, future.start[some], np.minimum(future.stop[some], future.start[some] + look))
        rows = rows[(labels[rows, -1] == PAD) & (future.start[rows] + look < future.stop[rows])]
        look *= 4
    return labels


def _distinct(future: Future, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.int32]:
    """(n, NUM_NEXT_ITEMS): the distinct items of the events [start, stop)."""
    counts = stop - start
    row = np.repeat(np.arange(len(counts)), counts)
    position = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    item = future.item[np.repeat(start, counts) + position]

    given = item != PAD
    row, item = row[given], item[given]
    first = np.sort(np.unique(row * (1 << 32) + item, return_index=True)[1])  # first appearance of each (row, item), in order
    row, item = row[first], item[first]

    rank = np.arange(len(row)) - np.searchsorted(row, row)  # 0 for each row's first distinct item
    kept = rank < NUM_NEXT_ITEMS
    found = np.full((len(counts), NUM_NEXT_ITEMS), PAD, dtype=np.int32)
    found[row[kept], rank[kept]] = np.where(item < 0, UNKNOWN, item)[kept]
    return found


INTEREST = Task(
    name="interest",
    question="Which items will this user act on within the horizon?",
    head="items",
    label=Label(
        name="next_items",
        comment=f"distinct items of the horizon, by first appearance (1 if unknown), at most {NUM_NEXT_ITEMS}, right-padded with 0",
        width=NUM_NEXT_ITEMS,
        compute=next_items,
    ),
    train_cut="window",
    metrics="ranking",
    worth=Worth(
        metric="hits@10",
        times=1000,
        words="items that users then act on, of ten shown at each of 1,000 moments",
        against=("popularity", "own_items"),
    ),
)
