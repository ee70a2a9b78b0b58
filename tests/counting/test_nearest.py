"""The nearest row of another set, by hand and against every pair of rows."""

from itertools import pairwise

import numpy as np
import pytest
from pyspark.sql import SparkSession

from foretaste.counting.nearest import copies, nearest


def distance(one: list[int], other: list[int]) -> float:
    def held(row: list[int]) -> set[object]:
        items = [item for item in row if item]
        return {*items, *pairwise(items)}

    return 1 - len(held(one) & held(other)) / len(held(one) | held(other))


def test_distances_are_those_of_every_pair(spark: SparkSession) -> None:
    random = np.random.default_rng(1)
    rows = [[0] * (6 - length) + random.integers(2, 9, length).tolist() for length in random.integers(1, 7, 60)]
    sample, others = rows[:9], rows[9:]
    found = nearest(np.array(sample, dtype=np.int32), spark.createDataFrame([(row,) for row in others], "item array<int>").repartition(3))
    assert found.tolist() == pytest.approx([min(distance(row, other) for other in others) for row in sample], abs=1e-6)


def test_by_hand(spark: SparkSession) -> None:
    """2 3 holds 2, 3 and 2-3; 3 2 holds 2, 3 and 3-2: two of four are shared."""
    rows = spark.createDataFrame([([0, 3, 2],)], "item array<int>")
    assert nearest(np.array([[0, 2, 3], [0, 3, 2], [0, 0, 5]], dtype=np.int32), rows).tolist() == pytest.approx([0.5, 0.0, 1.0])


def test_copies_are_counted_among_rows_that_are_long_enough(spark: SparkSession) -> None:
    ddl = "length int, item array<int>"
    rows = spark.createDataFrame([(2, [0, 2, 3]), (2, [0, 3, 2]), (1, [0, 0, 2]), (2, [0, 2, 3])], ddl)
    originals = spark.createDataFrame([(2, [0, 0, 2, 3]), (1, [0, 0, 0, 2])], ddl)  # however they are padded
    assert copies(rows, originals, at_least=2) == (2, 3)
    assert copies(rows, originals, at_least=1) == (3, 4)
