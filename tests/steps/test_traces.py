"""An id is found wherever it lies in a file, and no other user's for it."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyspark.sql import SparkSession

from foretaste.steps.traces import search

PLAIN = {  # content of a file → whether customer-1 is in it
    '{"user_id":"customer-1"}': True,
    '{"minValues":{"user_id":"customer-1"}}': True,
    "customer-1": True,
    "2026-07-01,customer-1_x": True,
    '{"record":"bought:\\ncustomer-1"}': True,
    '{"record":"\\u00e4customer-1"}': True,
    "an older customer-12, and then customer-1": True,
    '{"user_id":"customer-12"}': False,
    "xcustomer-1": False,
    "customer-2": False,
    "a database's row: \0xcustomer-1y": True,
}
TEXTS = {  # a text in a Parquet file → the same
    "customer-1": True,
    "about customer-1.": True,
    "\\ncustomer-1": True,
    "customer-12": False,
    "xcustomer-1": False,
}


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_an_id_is_told_from_one_that_goes_on(spark: SparkSession, tmp_path: Path, compression: str) -> None:
    there = set()
    for number, (content, found) in enumerate(PLAIN.items()):
        file = tmp_path / f"{number}.json"
        file.write_text(content, encoding="utf-8")
        there |= {str(file)} if found else set()
    for number, (text, found) in enumerate(TEXTS.items()):
        for name, values in (("flat", ["other", text]), ("nested", [[{"of": "other"}], [{"of": text}]])):
            file = tmp_path / f"{number}-{name}.parquet"
            pq.write_table(pa.table({"record": values}), file, compression=compression)
            there |= {str(file)} if found else set()
    told = search(spark, [str(tmp_path)], ["customer-1", "nobody-at-all"])
    assert set(told.where) == there
    assert told.files == len(PLAIN) + 2 * len(TEXTS)


@pytest.mark.parametrize("column", ["user_id", "pseudonym", "item_id"])
def test_a_short_id_is_one_where_a_users_stands(spark: SparkSession, tmp_path: Path, column: str) -> None:
    pq.write_table(pa.table({column: ["7"]}), tmp_path / "rows.parquet")
    (tmp_path / "log.json").write_text(f'{{"add":{{"stats":"{{\\"minValues\\":{{\\"{column}\\":\\"7\\"}}}}"}}}}', encoding="utf-8")
    assert len(search(spark, [str(tmp_path)], ["7"]).where) == (0 if column == "item_id" else 2)
