"""The order of an epoch, by itself: numbers of rows and row groups, no files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foretaste.errors import FeedError
from foretaste.feed.order import Order, Read, remainder, share, steps_per_epoch
from foretaste.feed.snapshot import Pin
from tests.feed.files import pinned

tables = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=4).filter(lambda files: any(map(any, files)))


def pin_of(files: list[list[int]]) -> Pin:
    return pinned([(f"file:///part-{index}", tuple(groups)) for index, groups in enumerate(files)])


def taken(order: Order, rank: int, size: int, drop_uneven: bool = True) -> list[list[int]]:
    """The places in the order of a rank's rows, step by step."""
    steps = []
    for section in order.sections(rank=rank, size=size, drop_uneven=drop_uneven):
        for step in range(section.num_steps):
            rows = [lane.row(np.arange(step * lane.width, (step + 1) * lane.width)) for lane in section.lanes]
            steps.append(np.concatenate(rows).tolist())
    return steps


@given(files=tables, size=st.integers(1, 6), batch_size=st.integers(1, 30), drop_uneven=st.booleans(), data=st.data())
@settings(max_examples=100, deadline=None)
def test_every_row_once(files: list[list[int]], size: int, batch_size: int, drop_uneven: bool, data: st.DataObject) -> None:
    pin = pin_of(files)
    order = Order(pin, batch_size=batch_size, epoch=data.draw(st.integers(0, 5)), seed=-3, shuffle=True)
    assert sorted(zip(order.file.tolist(), order.group.tolist(), strict=True)) == [
        (file, group) for file, groups in enumerate(files) for group, rows in enumerate(groups) if rows
    ]

    seen = sorted(row for rank in range(size) for step in taken(order, rank, size, drop_uneven) for row in step)

    wanted = pin.num_rows - remainder(pin, batch_size) if drop_uneven else pin.num_rows
    assert seen == list(range(wanted))


@given(files=tables, size=st.integers(2, 6), batch_size=st.integers(6, 30))
@settings(max_examples=100, deadline=None)
def test_a_step_is_the_same_set_of_rows_on_any_number_of_ranks(files: list[list[int]], size: int, batch_size: int) -> None:
    order = Order(pin_of(files), batch_size=batch_size, epoch=2, seed=1, shuffle=True)
    alone = taken(order, 0, 1)
    ranks = [taken(order, rank, size) for rank in range(size)]
    for step, rows in enumerate(alone):
        parts = [rank[step] for rank in ranks]
        assert [row for part in parts for row in part] == rows
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@given(files=tables, size=st.integers(1, 5), batch_size=st.integers(5, 30), steps_at_once=st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_reads_are_the_row_groups_of_each_lane(files: list[list[int]], size: int, batch_size: int, steps_at_once: int) -> None:
    order = Order(pin_of(files), batch_size=batch_size, epoch=2, seed=1, shuffle=True)
    for rank in range(size):
        for section in order.sections(rank=rank, size=size, drop_uneven=False):
            reads = [Read(*read) for read in order.reads(section, steps_at_once).tolist()]
            assert [(read.block, read.lane) for read in reads] == sorted((read.block, read.lane) for read in reads)
            assert [read.block for read in reads] == [read.first // section.lanes[read.lane].width // steps_at_once for read in reads]
            for number, lane in enumerate(section.lanes):
                mine = [read for read in reads if read.lane == number]
                assert [ordinal for read in mine for ordinal in range(read.first, read.last)] == list(range(lane.width * section.num_steps))
                for read in mine:
                    rows = lane.row(np.arange(read.first, read.last))
                    assert (order.bounds[read.place] <= rows).all()
                    assert (rows < order.bounds[read.place + 1]).all()


def num_reads(order: Order, size: int) -> list[int]:
    """The row groups that each rank reads."""
    return [sum(len(order.reads(part, 1)) for part in order.sections(rank=rank, size=size, drop_uneven=True)) for rank in range(size)]


@pytest.mark.parametrize(("size", "most"), [(1, 1032), (2, 516), (8, 129), (32, 33), (3, 12 * 33), (5, 8 * 33)])
def test_a_rank_reads_its_part_of_a_large_table(size: int, most: int) -> None:
    """1000 row groups in 32 streams of 31¼: a stream touches 32 or 33. Three and five ranks share the streams at their borders."""
    order = Order(pin_of([[1024] * 250] * 4), batch_size=256, epoch=0, seed=0, shuffle=True)
    assert order.num_streams == 32
    assert max(num_reads(order, size)) <= most


def test_fewer_streams_where_row_groups_are_large() -> None:
    assert Order(pin_of([[8192] * 200]), batch_size=256, epoch=0, seed=0, shuffle=True).num_streams == 8
    assert Order(pin_of([[10**6] * 200]), batch_size=256, epoch=0, seed=0, shuffle=True).num_streams == 4
    assert Order(pin_of([[10] * 20]), batch_size=256, epoch=0, seed=0, shuffle=True).num_streams == 5


def test_few_files_are_open_at_a_time() -> None:
    order = Order(pin_of([[4] * 8] * 5), batch_size=20, epoch=1, seed=0, shuffle=True)
    assert np.count_nonzero(np.diff(order.file)) == 4


def test_the_order_changes_with_epoch_and_seed_only() -> None:
    pin = pin_of([[4] * 8] * 5)

    def groups(epoch: int, seed: int) -> list[int]:
        return Order(pin, batch_size=8, epoch=epoch, seed=seed, shuffle=True).first_row.tolist()

    assert groups(0, 0) == groups(0, 0)
    assert len({tuple(groups(epoch, seed)) for epoch in range(3) for seed in range(3)}) == 9
    table_order = Order(pin, batch_size=8, epoch=4, seed=9, shuffle=False)
    assert table_order.first_row.tolist() == list(range(0, 160, 4))
    assert table_order.permutation(3).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("files", [[[5] * 9, [5] * 4], [[1, 9, 3], [2, 7, 7, 7], [9]]])
@pytest.mark.parametrize("batch_size", [7, 11])
def test_the_remainder_is_in_other_row_groups_in_the_next_epoch(files: list[list[int]], batch_size: int) -> None:
    pin = pin_of(files)
    assert remainder(pin, batch_size) > 0

    def last_groups(epoch: int) -> set[int]:
        order = Order(pin, batch_size=batch_size, epoch=epoch, seed=6, shuffle=True)
        return set(order.first_row[order.bounds[1:] > order.num_steps * batch_size].tolist())

    for epoch in range(8):
        assert not last_groups(epoch) & last_groups(epoch + 1)


def test_shares_differ_by_a_row_and_cover_the_batch() -> None:
    assert [share(10, rank, 3) for rank in range(3)] == [(0, 3), (3, 6), (6, 10)]


def test_steps_per_epoch() -> None:
    pin = pin_of([[4, 4], [4, 3]])
    assert steps_per_epoch(pin, 1, 4) == 3
    assert [steps_per_epoch(pin, size, 4, epoch, seed=2) for size in (1, 2, 3, 4) for epoch in (0, 1)] == [3] * 8
    assert remainder(pin, 4) == 3


def test_more_ranks_than_row_groups() -> None:
    with pytest.raises(
        FeedError, match=r"^5 ranks cannot share 4 row groups \(sequences version 3.*training\.workers.* sequences\.rows_per_group below 4"
    ) as caught:
        steps_per_epoch(pin_of([[4, 4, 0], [4, 3]]), 5, 8)
    assert "below 4" in caught.value.fix


def test_more_ranks_than_rows_in_a_batch() -> None:
    with pytest.raises(FeedError, match=r"3 ranks cannot share a global batch of 2 rows.*batch_size"):
        steps_per_epoch(pin_of([[4] * 9]), 3, 2)


def test_fewer_rows_than_a_batch() -> None:
    with pytest.raises(FeedError, match=r"only 8 rows, less than one batch of 9.*Lower fit\.batch_size"):
        steps_per_epoch(pin_of([[4] * 2]), 1, 9)
