import numpy as np
import pytest

from foretaste.feed.blocks import Blocks, _runs
from foretaste.feed.order import Order, Read
from tests.feed import files


@pytest.mark.parametrize(
    ("first", "last", "runs"),
    [  # a lane of 2 rows in each step, at positions 6 and 7; blocks of 2 steps
        (0, 8, [(0, 0, 2, 6, 8), (1, 0, 2, 6, 8)]),
        (1, 9, [(0, 0, 1, 7, 8), (0, 1, 2, 6, 8), (1, 0, 2, 6, 8), (2, 0, 1, 6, 7)]),
        (5, 6, [(1, 0, 1, 7, 8)]),
        (6, 7, [(1, 1, 2, 6, 7)]),
    ],
)
def test_runs_of_a_read(first: int, last: int, runs: list[tuple[int, ...]]) -> None:
    """Block, steps in it, positions in each: in this order, and rows one after another."""
    found = list(_runs(Read(place=0, lane=0, block=0, first=first, last=last), offset=6, width=2, steps_at_once=2))
    assert [(block, steps.start, steps.stop, at.start, at.stop) for block, (steps, at), _ in found] == runs
    rows = [number for *_, taken in found for number in range(taken.start, taken.stop)]
    assert rows == list(range(last - first))


@pytest.mark.parametrize("block_rows", [1, 6, 20])
def test_steps_are_the_same_in_blocks_of_any_size_and_whichever_of_its_reads_comes_first(
    block_rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 rows: five steps, each of 3 rows from either stream, and the 2 rows that are left."""
    monkeypatch.setattr("foretaste.feed.blocks.BLOCK_ROWS", block_rows)
    pin = files.pinned([("file:///a", (4, 6, 4, 5)), ("file:///b", (3, 4, 2, 4))])
    order = Order(pin, batch_size=6, epoch=0, seed=3, shuffle=True)
    blocks = Blocks(order, order.sections(rank=0, size=1, drop_uneven=False))
    random = np.random.default_rng(block_rows)
    steps, num_placed = [], 0
    for block_number, block in enumerate(blocks.blocks):
        for number in num_placed + random.permutation(block.num_reads - num_placed):
            place = blocks.group(int(number))
            blocks.place(int(number), {"row": order.first_row[place] + np.arange(order.rows[place])})
        num_placed = block.num_reads
        steps += [step["row"].tolist() for step in blocks.take(block_number)]
    rows = np.concatenate([order.first_row[place] + order.permutation(place) for place in range(len(order.rows))])
    width = 6 // order.num_streams
    streams = rows[: order.num_steps * 6].reshape(order.num_streams, order.num_steps, width)
    assert steps == [*streams.transpose(1, 0, 2).reshape(-1, 6).tolist(), rows[order.num_steps * 6 :].tolist()]
    assert order.num_streams == 2
