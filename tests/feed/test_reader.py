import dataclasses
import threading
import warnings
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from foretaste.contract import Batch
from foretaste.errors import FeedError
from foretaste.feed import blocks, reader
from foretaste.feed.blocks import Columns
from foretaste.feed.groups import RowGroups
from foretaste.feed.reader import batches
from foretaste.feed.snapshot import Pin, divided, joined
from tests.feed import files
from tests.feed.files import FIRST_NUMBER, left_out, numbers, read, read_all

UNEVEN = [[4, 4, 1, 4, 2], [4] * 6, [3], [7, 5, 4, 4, 4, 4], [4, 2]]  # 76 rows in 20 row groups of 5 files


@pytest.fixture
def pin(tmp_path: Path) -> Pin:
    return files.write(tmp_path, UNEVEN)


def flat(steps: list[list[int]]) -> list[int]:
    return [number for step in steps for number in step]


ALL = list(range(FIRST_NUMBER, FIRST_NUMBER + 76))


def test_joined_pins_are_read_as_one(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    one, two = files.write(tmp_path / "one", [[4, 2], [3]]), files.write(tmp_path / "two", [[5]])
    both = joined(one, dataclasses.replace(two, split="valid"))
    assert (both.split, both.num_rows) == ("train + valid", 14)
    steps = read(both, batch_size=3, shuffle=True, drop_uneven=False)
    assert sorted(flat(steps)) == sorted([*range(100, 109), *range(100, 105)])
    with pytest.raises(FeedError, match="pins of different versions or cuts cannot be joined"):
        joined(one, dataclasses.replace(two, version=4))


def test_a_divided_pin_has_each_row_on_one_side(tmp_path: Path) -> None:
    most, least = divided(files.write(tmp_path, [[4, 2], [3], [5], [1]]), 3)
    sides = [flat(read(part, batch_size=2, shuffle=False, drop_uneven=False)) for part in (most, least)]
    assert [part.num_rows for part in (most, least)] == [len(side) for side in sides] == [8, 7]  # files 2 and 3; 1 and 4
    with pytest.raises(FeedError, match="all rows lie in one file"):
        divided(least, 1)


def test_a_batch(pin: Pin) -> None:
    batch: Batch[torch.Tensor] = next(batches(pin, batch_size=10, features=["event", "item"], labels=["returns", "next_items"], seed=1))
    n = batch.item[:, -1]
    assert torch.equal(batch.features["item"], torch.stack([n * 0, n * 0, n], dim=1))
    assert torch.equal(batch.features["event"], torch.stack([n * 0, n * 0, n % 7], dim=1))
    assert torch.equal(batch.recency, n)
    assert torch.equal(batch.length, torch.ones_like(n))
    assert torch.equal(batch.fresh, torch.ones_like(n))
    assert torch.equal(batch.labels["returns"], n % 2)
    assert torch.equal(batch.labels["next_items"], torch.stack([n, n * 0], dim=1))
    assert list(batch.features) == ["event", "item"]
    for array in (*batch.features.values(), batch.length, batch.fresh, batch.recency, *batch.labels.values()):
        assert array.dtype == torch.int32
        assert array.is_contiguous()
        assert len(array) == 10


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_an_epoch_is_every_row_once_in_equal_steps(pin: Pin, size: int) -> None:
    ranks = read_all(pin, size, batch_size=10, epoch=1, seed=4)
    seen = sorted(number for rank in ranks for number in flat(rank))
    assert len(seen) == len(set(seen)) == 70
    assert set(seen) < set(ALL)
    assert [len(rank) for rank in ranks] == [7] * size


def test_the_remainder_is_seen_in_the_next_epoch(pin: Pin) -> None:
    left = [left_out(pin, 3, 10, epoch) for epoch in range(4)]
    assert [len(rows) for rows in left] == [6] * 4
    assert not left[0] & left[1]
    assert not left[1] & left[2]
    assert not left[2] & left[3]


@pytest.mark.parametrize("size", [2, 3, 5])
def test_a_step_over_all_ranks_is_the_single_process_s_step(pin: Pin, size: int) -> None:
    alone = read(pin, batch_size=10, epoch=2, seed=4)
    ranks = read_all(pin, size, batch_size=10, epoch=2, seed=4)
    for step, rows in enumerate(alone):
        assert [number for rank in ranks for number in rank[step]] == rows
    assert {len(rank[0]) for rank in ranks} <= {10 // size, 10 // size + 1}


@pytest.mark.parametrize("size", [1, 3, 30])
def test_validation_sees_every_row_once(pin: Pin, size: int) -> None:
    ranks = read_all(pin, size, batch_size=16, shuffle=False, drop_uneven=False)
    assert sorted(number for rank in ranks for number in flat(rank)) == ALL


def test_validation_with_less_than_a_batch(pin: Pin) -> None:
    assert read(pin, batch_size=1000, shuffle=False, drop_uneven=False) == [ALL]


def test_steps_of_many_row_groups_and_row_groups_of_many_steps(tmp_path: Path) -> None:
    pin = files.write(tmp_path, [[1] * 40, [60], [1] * 40])
    for batch_size in (1, 7, 50):
        assert sorted(flat(read(pin, batch_size=batch_size, drop_uneven=False))) == list(range(FIRST_NUMBER, FIRST_NUMBER + 140))


def test_the_same_seed_gives_the_same_batches_with_any_number_of_threads(pin: Pin) -> None:
    first = read(pin, batch_size=6, epoch=1, seed=8, num_threads=1)
    for num_threads in (1, 2, 2, 4, 4, 7):
        assert read(pin, batch_size=6, epoch=1, seed=8, num_threads=num_threads) == first
    assert read(pin, batch_size=6, epoch=2, seed=8) != first
    assert read(pin, batch_size=6, epoch=1, seed=9) != first


def test_row_groups_that_arrive_in_another_order_or_after_a_false_end(pin: Pin, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Petastorm's thread pool does when its threads run dry: pairs arrive swapped, and each pair after a StopIteration."""
    expected = read(pin, batch_size=6, epoch=1, seed=8)
    arrived: list[object] = []
    ends = iter([True, False] * 100)

    def swapped(self: reader._PinnedReader) -> object:
        if not arrived and next(ends):
            raise StopIteration
        while len(arrived) < 2:
            try:
                arrived.append(reader.Reader.__next__(self))
            except StopIteration:
                break
        return arrived.pop()

    monkeypatch.setattr(reader._PinnedReader, "__next__", swapped, raising=False)
    assert read(pin, batch_size=6, epoch=1, seed=8) == expected


def test_rows_of_a_row_group_are_shuffled_too(tmp_path: Path) -> None:
    pin = files.write(tmp_path, [[30]])
    assert flat(read(pin, batch_size=10)) != sorted(flat(read(pin, batch_size=10)))
    assert flat(read(pin, batch_size=10, shuffle=False)) == list(range(FIRST_NUMBER, FIRST_NUMBER + 30))


def test_a_batch_keeps_its_rows_when_later_ones_come(pin: Pin) -> None:
    kept = list(batches(pin, batch_size=10, features=["item"]))
    assert [numbers(batch) for batch in kept] == read(pin, batch_size=10)


def test_closing_early_ends_the_threads(pin: Pin) -> None:
    before = threading.active_count()
    feed = batches(pin, batch_size=2, features=["item"], num_threads=3)
    next(feed)
    assert threading.active_count() > before
    feed.close()
    assert threading.active_count() == before


def test_an_iterator_that_is_read_to_its_end_leaves_no_thread(pin: Pin) -> None:
    before = threading.active_count()
    read(pin, batch_size=2)
    assert threading.active_count() == before


def test_no_warning_reaches_people(pin: Pin) -> None:
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        read(pin, batch_size=10)
    assert [str(warning.message) for warning in heard] == []


def test_memory_is_bounded_by_row_groups_and_not_by_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Row groups that are read and not yet used up, when a step is taken every few milliseconds, as in training."""
    loaded, load = [0], RowGroups.load

    def counted(self: RowGroups, place: int) -> Columns:
        loaded[0] += 1
        return load(self, place)

    monkeypatch.setattr(RowGroups, "load", counted)
    monkeypatch.setattr(blocks, "BLOCK_ROWS", 64)
    pin = files.write(tmp_path, [[8] * 400])
    most = 0
    for step, batch in enumerate(batches(pin, batch_size=64, features=["item"]), start=1):
        most = max(most, loaded[0] - step * len(batch.length) // 8)
        threading.Event().wait(0.002)
    assert 32 - 8 < most <= 32 + 16 + 2  # one for each stream, but for what the first step took; read ahead; in the threads' hands


def refused(pin: Pin, match: str, **options: object) -> FeedError:
    with pytest.raises(FeedError, match=match) as caught:
        read(pin, **({"batch_size": 10} | options))
    assert "\n" not in str(caught.value)
    return caught.value


def test_more_ranks_than_row_groups_is_refused_before_the_first_batch(pin: Pin) -> None:
    with pytest.raises(FeedError, match="21 ranks cannot share 20 row groups"):
        batches(pin, rank=0, size=21, batch_size=30, features=["item"])


def path_of(pin: Pin, index: int) -> Path:
    return Path(pin.files[index][0].removeprefix("file://"))


@pytest.mark.parametrize("index", range(5))
def test_a_file_that_is_gone(pin: Pin, index: int) -> None:
    path_of(pin, index).unlink()
    assert pin.files[index][0] == refused(pin, "a file of the pinned version is gone .*VACUUM.*train again").where


@pytest.mark.parametrize("length", [0, 3, 300])
def test_a_file_that_is_cut_short(pin: Pin, length: int) -> None:
    path = path_of(pin, 1)
    path.write_bytes(path.read_bytes()[:length])
    assert pin.files[1][0] == refused(pin, "cut short or unreadable.*Restore the file").where


def test_a_file_with_broken_pages(pin: Pin) -> None:
    path = path_of(pin, 1)
    whole = path.read_bytes()
    path.write_bytes(b"PAR1" + b"\xff" * 2000 + whole[2004:])
    refused(pin, "cut short or unreadable")


def test_a_file_that_was_written_again(pin: Pin) -> None:
    pq.write_table(files.rows(range(24)), path_of(pin, 1), row_group_size=6)
    refused(pin, "has changed since")


def test_an_error_leaves_no_thread(pin: Pin) -> None:
    before = threading.active_count()
    path_of(pin, 3).unlink()
    refused(pin, "is gone")
    assert threading.active_count() == before


def test_a_column_that_the_table_lacks(pin: Pin) -> None:
    refused(pin, "no column churns .*Write sequences again", labels=["churns"])


@pytest.mark.parametrize(
    ("lists", "match"),
    [
        ([[1, 2], [3]], "lists of column next_items are not all of one length"),
        ([[1, 2], [3, 4, 5], [6]], "lists of column next_items are not all of one length"),
        ([[1, 2], None], "column next_items has nulls"),
        ([[1, 2], [3, None]], "column next_items has nulls"),
    ],
)
def test_lists_that_make_no_matrix(tmp_path: Path, lists: list[list[int]], match: str) -> None:
    table = files.rows(range(len(lists))).set_column(6, "next_items", pa.array(lists, pa.list_(pa.int32())))
    pq.write_table(table, tmp_path / "a.parquet")
    refused(files.pinned([(f"file://{tmp_path}/a.parquet", (len(lists),))]), match, batch_size=1, labels=["next_items"])


def test_row_groups_with_lists_of_another_length(tmp_path: Path) -> None:
    narrow = files.rows(range(4))
    wide = narrow.set_column(6, "next_items", pa.array([[1, 2, 3]] * 4, pa.list_(pa.int32())))
    for name, table in (("a", narrow), ("b", wide)):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    pin = files.pinned([(f"file://{tmp_path}/{name}.parquet", (4,)) for name in "ab"])
    refused(pin, "not all of one length", batch_size=1, labels=["next_items"])


def test_nulls_in_a_number(tmp_path: Path) -> None:
    table = files.rows(range(2)).set_column(7, "returns", pa.array([1, None], pa.int32()))
    pq.write_table(table, tmp_path / "a.parquet")
    refused(files.pinned([(f"file://{tmp_path}/a.parquet", (2,))]), "column returns has nulls", batch_size=1, labels=["returns"])


def test_other_file_systems_are_read_through_fsspec(tmp_path: Path) -> None:
    """`memory://` stands for any scheme that Arrow does not know."""
    import fsspec

    memory = fsspec.filesystem("memory")
    local = files.write(tmp_path, [[4, 4], [4]])
    for index in range(2):
        memory.pipe(f"/bucket/a b/part-{index}", path_of(local, index).read_bytes())
    remote = files.pinned([(f"memory://bucket/a%20b/part-{index}", groups) for index, (_, groups) in enumerate(local.files)])
    try:
        assert read(remote, batch_size=4) == read(local, batch_size=4)
    finally:
        memory.rm("/bucket", recursive=True)


def test_a_scheme_that_nothing_here_reads() -> None:
    refused(files.pinned([("nfs7://a/b.parquet", (20,))]), "no library here reads nfs7:// files .*fsspec")
