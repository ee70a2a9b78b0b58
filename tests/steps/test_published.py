"""The two published protocols in conf/, on the real data: as many test rows and items as their tables say. Skips without that data."""

from pathlib import Path

import pytest
from pyspark.sql import functions as F

from foretaste.settings import load
from foretaste.steps.ingest import ingest
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY
from tests.real_data import real_data
from tests.tables.leaks import leaked

CONF = Path(__file__).parents[2] / "conf"


@pytest.mark.parametrize(
    ("name", "folder", "users", "test_rows", "items", "repeats"),
    [("beauty", "amazon-beauty", 22_363, 22_363, 12_101, False), ("yoochoose", "yoochoose-100k", 3_416, 10_152, 2_933, True)],
)
def test_test_rows_and_items_are_the_published_ones(
    warehouse: Warehouse, name: str, folder: str, users: int, test_rows: int, items: int, repeats: bool
) -> None:
    settings = load(CONF / f"{name}.yaml", [f"source.path={real_data(folder)}/*.txt"])
    for step in (ingest, sessionize, sequence):
        step(warehouse, settings)
    rows = warehouse.read(SEQUENCES)
    test = rows.where("split = 'test' AND cut = 'event'")
    assert (test.count(), test.select("user_id").distinct().count()) == (test_rows, users)
    assert test.where(F.col("next_items")[0] < 2).isEmpty()  # every target is in the vocabulary
    assert warehouse.read(VOCABULARY).where("field = 'item'").count() == items
    assert repeats or leaked(rows).isEmpty()
