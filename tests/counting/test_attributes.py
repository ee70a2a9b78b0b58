"""What goes with events, counted by hand."""

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession

from foretaste.counting.attributes import combinations, hours_of_week, most_frequent, most_frequent_code

DDL = ", ".join(f"{name} array<int>" for name in ("item", "category", "price", "opens_session", "weekday", "hour"))


@pytest.fixture(scope="module")
def rows(spark: SparkSession) -> DataFrame:
    """Item 2 with category 5 twice and 4 once, 3 with 4 and 5, an unknown item; Tuesday at 1 o'clock and Sunday at 23 open sessions."""
    return spark.createDataFrame(
        [
            ([0, 2, 2, 2], [0, 5, 4, 5], [0, 1, 1, 2], [0, 2, 1, 2], [0, 2, 2, 7], [0, 2, 3, 24]),
            ([0, 3, 3, 1], [0, 5, 4, 9], [0, 1, 1, 1], [0, 2, 1, 1], [0, 2, 2, 2], [0, 2, 2, 2]),
        ],
        DDL,
    )


def test_combinations(rows: DataFrame) -> None:
    found = set(combinations(rows, ("category", "price")).itertuples(index=False, name=None))
    assert found == {(2, 5, 1, 1), (2, 4, 1, 1), (2, 5, 2, 1), (3, 5, 1, 1), (3, 4, 1, 1), (1, 9, 1, 1)}


def test_the_most_frequent_and_of_equals_the_lowest(rows: DataFrame) -> None:
    assert most_frequent(combinations(rows, ("category", "price")), "category", 5).tolist() == [0, 0, 5, 4, 0]
    assert most_frequent_code(rows, "category") == 5
    assert most_frequent_code(rows.limit(0), "category") == 0


def test_hours_in_which_sessions_open(rows: DataFrame) -> None:
    expected = np.zeros(168)
    expected[24 + 1] = 2.0
    expected[6 * 24 + 23] = 1.0
    np.testing.assert_array_equal(hours_of_week(rows), expected)
