"""What Spark and Delta do to a table, and what the feed then sees. A row's number is the last item of its history."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from foretaste.contract import FACTS, FEATURES
from foretaste.errors import FeedError, TableError
from foretaste.feed import pin as module
from foretaste.feed.pin import pin
from foretaste.feed.snapshot import Pin
from foretaste.settings import WarehouseSettings
from foretaste.tables import Warehouse
from foretaste.tables.sequences import LABELS, SEQUENCES
from tests.feed.files import read

UUIDS = [f"{letter * 8}-5af1-4e2b-9a1c-0123456789ab" for letter in "abc"]


def append(warehouse: Warehouse, first: int, last: int, *, split: str = "train", cut: str = "window", files: int = 2) -> None:
    """Rows first to last - 1, in row groups of four."""
    arrays = [f"array(0, cast({'id' if name == 'item' else 1} AS int)) AS {name}" for name in FEATURES]
    labels = [f"{'array(1, 0)' if label.width else '1'} AS {label.name}" for label in LABELS]
    facts = [f"1 AS {name}" for name in FACTS]
    rows = warehouse.spark.range(first, last, numPartitions=files).selectExpr(
        "concat('u', id) AS user_id", f"'{split}' AS split", f"'{cut}' AS cut", "timestamp'2024-01-01' AS as_of",
        "1 AS length", "1 AS fresh", "1 AS recency", *arrays, *facts, *labels, "CAST(NULL AS string) AS campaign_id",
    )  # fmt: skip
    with warehouse.rows_per_group(4):
        warehouse.append(SEQUENCES, SEQUENCES.select(rows))


def run(warehouse: Warehouse, statement: str) -> None:
    warehouse.spark.sql(statement.replace("TABLE_NAME", warehouse.identifier(SEQUENCES)))


def rows_of(pinned: Pin) -> list[int]:
    """All that the feed sees, in order."""
    return sorted(number for step in read(pinned, batch_size=3, shuffle=False, drop_uneven=False) for number in step)


def test_one_split_and_cut_of_the_newest_version(warehouse: Warehouse) -> None:
    append(warehouse, 0, 22)
    append(warehouse, 30, 33, cut="calendar")
    append(warehouse, 40, 45, split="valid", cut="event")

    train = pin(warehouse, "train", "window")

    assert (train.table, train.version, train.split, train.cut, train.num_rows) == ("sequences", 3, "train", "window", 22)
    assert [groups for _, groups in train.files] == [(4, 4, 3), (4, 4, 3)]
    assert train.num_row_groups == 6
    assert rows_of(train) == list(range(22))
    assert rows_of(pin(warehouse, "train", None)) == [*range(22), 30, 31, 32]
    assert rows_of(pin(warehouse, "valid", "event")) == [40, 41, 42, 43, 44]
    assert Pin.from_json(train.to_json()) == train


def test_update_delete_and_overwrite_leak_no_stale_rows(warehouse: Warehouse) -> None:
    append(warehouse, 0, 20)  # version 1; 0 made the table
    run(warehouse, "UPDATE TABLE_NAME SET item = array(0, 100 + item[1]) WHERE item[1] < 3")  # 2
    run(warehouse, "DELETE FROM TABLE_NAME WHERE item[1] IN (5, 102)")  # 3
    append(warehouse, 50, 52)  # 4
    warehouse.overwrite(SEQUENCES, warehouse.read(SEQUENCES, 4).where("item[1] IN (19, 51)"))  # 5

    after_update = [*range(3, 20), 100, 101, 102]
    after_delete = [number for number in after_update if number not in (5, 102)]
    for version, expected in [
        (1, list(range(20))),
        (2, after_update),
        (3, after_delete),
        (4, sorted([*after_delete, 50, 51])),
        (5, [19, 51]),
    ]:
        pinned = pin(warehouse, "train", "window", version)
        assert (pinned.version, rows_of(pinned)) == (version, expected)
    assert pin(warehouse, "train", "window").version == 5


def test_a_replaced_split_leaves_the_others_files_alone(warehouse: Warehouse) -> None:
    append(warehouse, 0, 8)
    append(warehouse, 20, 24, split="valid")
    before = pin(warehouse, "train", "window")
    newer = warehouse.read(SEQUENCES).where("split = 'valid' AND item[1] > 21")
    warehouse.replace_where(SEQUENCES, newer, "split = 'valid'")
    assert pin(warehouse, "train", "window").files == before.files
    assert rows_of(pin(warehouse, "valid", "window")) == [22, 23]


def test_deletion_vectors_are_refused_until_they_are_purged(warehouse: Warehouse) -> None:
    append(warehouse, 0, 20)
    run(warehouse, "ALTER TABLE TABLE_NAME SET TBLPROPERTIES ('delta.enableDeletionVectors' = 'true')")
    run(warehouse, "DELETE FROM TABLE_NAME WHERE item[1] = 7")
    with pytest.raises(
        FeedError, match=r"holds 10 rows of which 9 are left: deletion vectors.*REORG TABLE delta.*APPLY \(PURGE\)"
    ) as caught:
        pin(warehouse, "train", "window")
    assert "delta.enableDeletionVectors=false" in caught.value.fix

    run(warehouse, "REORG TABLE TABLE_NAME APPLY (PURGE)")
    assert rows_of(pin(warehouse, "train", "window")) == [number for number in range(20) if number != 7]


def test_a_table_that_is_not_partitioned_is_refused(warehouse: Warehouse) -> None:
    append(warehouse, 0, 4)
    append(warehouse, 4, 8, split="valid")
    flat = warehouse.read(SEQUENCES).coalesce(1)
    flat.write.format("delta").mode("overwrite").option("overwriteSchema", "true").save(f"{warehouse.path}/sequences")
    with pytest.raises(FeedError, match=r"not partitioned by split and cut, so a file holds 8 rows of which 4 are wanted"):
        pin(warehouse, "train", "window")


def test_no_table(warehouse: Warehouse) -> None:
    with pytest.raises(TableError, match="there is no table sequences yet"):
        pin(warehouse, "train", "window")


def test_no_rows_and_no_such_version(warehouse: Warehouse) -> None:
    append(warehouse, 0, 4)
    with pytest.raises(FeedError, match=r"there are no rows \(sequences version 1, split test, any cut\)\. Write sequences"):
        pin(warehouse, "test", None)
    with pytest.raises(FeedError, match=r"version 7.*\(sequences version 7, split train.*still there"):
        pin(warehouse, "train", "window", 7)


def part(warehouse: Warehouse, number: int) -> Path:
    return sorted(Path(warehouse.path).glob("sequences/split=train/**/*.parquet"))[number]


def test_a_file_that_is_gone_or_cut_short(warehouse: Warehouse) -> None:
    append(warehouse, 0, 20)
    file = part(warehouse, 1)
    whole = file.read_bytes()
    (file.parent / f".{file.name}.crc").unlink()
    for content in (whole[:500], b""):
        file.write_bytes(content)
        with pytest.raises(FeedError, match=r"cut short or unreadable: it is not a Parquet file.*Restore the file") as caught:
            pin(warehouse, "train", "window")
        assert file.name in caught.value.where
        assert "\n" not in str(caught.value)
    file.unlink()
    with pytest.raises(FeedError, match=r"a file of the pinned version is gone .*VACUUM") as caught:
        pin(warehouse, "train", "window")
    assert file.name in caught.value.where


def test_a_spark_that_skips_unreadable_files_is_refused(warehouse: Warehouse) -> None:
    name = "spark.sql.files.ignoreMissingFiles"
    warehouse.spark.conf.set(name, "true")
    try:
        with pytest.raises(FeedError, match=f"skip files.*Set {name} to false"):
            pin(warehouse, "train", "window")
    finally:
        warehouse.spark.conf.unset(name)


def test_footers_of_many_files_are_read_in_spark_tasks(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    append(warehouse, 0, 20, files=3)
    few = pin(warehouse, "train", "window")
    monkeypatch.setattr(module, "_FEW_FILES", 2)
    assert pin(warehouse, "train", "window") == few

    urls = [few.files[0][0], few.files[1][0].replace("part-", "lost-")]
    with pytest.raises(FeedError, match=r"is gone .*lost-.*VACUUM"):
        module._row_groups(warehouse, [*urls, few.files[2][0]])


def test_a_folder_with_spaces_and_percent_signs(spark: SparkSession, tmp_path: Path) -> None:
    warehouse = Warehouse(spark, WarehouseSettings(path=str(tmp_path / "my shop, 100%20é")))
    append(warehouse, 0, 8)
    assert rows_of(pin(warehouse, "train", "window")) == list(range(8))


def test_files_have_the_same_order_when_the_table_is_written_again() -> None:
    one = [f"part-0000{task}-{uuid}.c000.snappy.parquet" for task, uuid in ((0, UUIDS[2]), (1, UUIDS[0]), (2, UUIDS[1]))]
    two = [f"part-0000{task}-{uuid}.c000.snappy.parquet" for task, uuid in ((0, UUIDS[0]), (1, UUIDS[1]), (2, UUIDS[2]))]
    assert sorted(one, key=module._stable) == one
    assert sorted(two, key=module._stable) == two
    same_task = [f"part-00000-{uuid}.c000.snappy.parquet" for uuid in UUIDS]
    assert sorted(same_task, key=module._stable) == same_task
