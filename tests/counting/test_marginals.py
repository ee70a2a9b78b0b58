"""How far two sets of rows are apart, by hand."""

import pytest
from pyspark.sql import DataFrame, SparkSession

from foretaste.contract import FEATURES
from foretaste.counting.marginals import apart, distinct_share, out_of_range

DDL = "length int, " + ", ".join(f"{name} array<int>" for name in FEATURES)


def of(spark: SparkSession, *rows: list[int], opens: list[list[int]] | None = None) -> DataFrame:
    """Rows of items; all other features are 1 where there is an event, unless `opens` says what opens a session."""
    made = []
    for place, item in enumerate(rows):
        ones = [min(code, 1) for code in item]
        features = {name: item if name == "item" else ones for name in FEATURES}
        if opens:
            features["opens_session"] = opens[place]
        made.append((sum(ones), *features.values()))
    return spark.createDataFrame(made, DDL)


def test_distances_by_hand(spark: SparkSession) -> None:
    """Items: halves of 2 and 3 against 2 alone. Pairs: 2-3 against 2-2. Sessions: of one event against of two; the last has no end."""
    one = of(spark, [0, 0, 2, 3], [0, 0, 2, 3], opens=[[0, 0, 2, 2]] * 2)
    other = of(spark, [0, 2, 2, 2], opens=[[0, 2, 1, 2]])
    found = apart(one, other)
    assert set(found) == {"item", "category", "price", "event", "gap", "hour", "weekday", "length", "pair", "session_length"}
    assert found["item"].total_variation == pytest.approx(0.5)
    assert found["item"].jensen_shannon == pytest.approx(0.5 * (0.5 * -0.5849625 + 0.5 * 1.0) + 0.5 * 0.4150375)
    for measure in ("pair", "session_length", "length"):
        assert found[measure].total_variation == pytest.approx(1.0)
        assert found[measure].jensen_shannon == pytest.approx(1.0)
    assert found["gap"].total_variation == found["gap"].jensen_shannon == 0.0
    assert all(each.total_variation == 0.0 for each in apart(one, one).values())


def test_rows_whose_items_no_other_has(spark: SparkSession) -> None:
    assert distinct_share(of(spark, [0, 2, 3], [0, 2, 3], [2, 3, 2], [0, 3, 2])) == 0.5


def test_codes_that_a_feature_does_not_have_are_counted(spark: SparkSession) -> None:
    """9 is no item of eight, and a hole in a row is no event."""
    rows = of(spark, [0, 2, 9], [2, 0, 3], [0, 0, 7])
    assert out_of_range(rows, {"item": 8}) == 1 + 2
    assert out_of_range(of(spark, [0, 2, 7]), {"item": 8, "gap": 28}) == 0
