"""Daily series and what is planned for them, by hand."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from pyspark.sql import SparkSession

from foretaste.settings import SequenceSettings, SeriesSettings
from foretaste.tables import promotions, series
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.promotions import PROMOTIONS
from foretaste.tables.sequences import Bounds
from foretaste.tables.series import Calendar

MAY = datetime(2024, 5, 1, tzinfo=UTC)
FIRST = (MAY - datetime(1970, 1, 1, tzinfo=UTC)).days


def at(days: float) -> datetime:
    return MAY + timedelta(days=days)


def event(
    item: str | None, days: float, *, kind: str = "purchase", price: float | None = 1.0, units: float | None = 1.0, category: str = "hot"
):  # type: ignore[no-untyped-def]
    return ("u", item, kind, at(days), None, price, units, category, None, "shop", f"{item} {days} {kind}", None)


def test_units_and_mean_price_of_a_day(spark: SparkSession) -> None:
    """By the clock of the shop: 23:00 in UTC is the next day in Berlin. What is no purchase, has no item or is no stock, is not there."""
    log = [
        event("tea", 0.5, price=2.0, units=3.0),
        event("tea", 0.6, price=4.0, units=1.0),
        event("tea", 23 / 24, price=9.0, units=None),
        event("tea", 0.7, kind="view"),
        event(None, 0.7),
        event("jam", 0.5, price=None, units=2.0),
        event("jam", 1.5, units=0.0),
        event("gas", 0.5, category="fuel/gas"),
        event("fuelled", 0.5, category="fuelled"),
    ]
    wanted = SeriesSettings(not_categories=("fuel",))
    found = series.daily(spark.createDataFrame(log, EVENTS.ddl), wanted, "Europe/Berlin").collect()
    assert {(row.series_id, row.day - FIRST): (row.units, row.price) for row in found} == {
        ("tea", 0): (4.0, 2.5),
        ("tea", 1): (1.0, 9.0),
        ("jam", 0): (2.0, None),
        ("fuelled", 0): (1.0, 1.0),
    }


def test_promotions_are_the_longest_of_several_and_everywhere_without_a_share(spark: SparkSession) -> None:
    raw = [
        ("tea", "mailer", at(0), at(7), 0.5), ("tea", "mailer", at(0), at(3), 0.7), (" tea", None, at(0), at(7), None),
        ("", "mailer", at(0), at(7), 0.5), ("tea", "mailer", at(9), at(8), 0.5), ("tea", "mailer", at(20), at(21), 1.5),
    ]  # fmt: skip
    ddl = "item_id string, kind string, starts_at timestamp, ends_at timestamp, share double"
    found = promotions.build(spark.createDataFrame(raw, ddl))
    assert found.columns == PROMOTIONS.names
    assert {(row.item_id, row.kind): (row.ends_at, row.share) for row in found.collect()} == {
        ("tea", "mailer"): (at(7).replace(tzinfo=None), 0.7),
        ("tea", "promotion"): (at(7).replace(tzinfo=None), 1.0),
    }


def planned(spark: SparkSession, by: str) -> dict[tuple[str, int], tuple[int, int, float]]:
    told = [("tea", "mailer", at(0), at(7), 0.5), ("tea", "display", at(1.5), at(2), 0.25)]
    asked = [("spring", "app", at(2), at(4), ["tea", "jam"])]
    items = [("tea", None, "hot", None, None), ("cocoa", None, "hot", None, None), ("jam", None, "sweet", None, None)]
    found = series.promotions_of(
        spark.createDataFrame(told, PROMOTIONS.ddl), spark.createDataFrame(asked, CAMPAIGNS.ddl), spark.createDataFrame(items, ITEMS.ddl),
        SeriesSettings(by=by), "UTC",  # type: ignore[arg-type]
    )  # fmt: skip
    return {(row.series_id, row.kind): (row["first"] - FIRST, row.end - FIRST, row.share) for row in found.collect()}


def test_campaigns_are_the_first_kind_and_others_go_by_when_they_first_came(spark: SparkSession) -> None:
    """So that displays, which came after the mailer, move nothing that a model has learnt of it."""
    assert planned(spark, "item") == {
        ("tea", 1): (2, 4, 1.0), ("jam", 1): (2, 4, 1.0), ("tea", 2): (0, 7, 0.5), ("tea", 3): (1, 2, 0.25),
    }  # fmt: skip


def test_a_category_is_promoted_as_its_items_are_on_average(spark: SparkSession) -> None:
    assert planned(spark, "category") == {
        ("hot", 1): (2, 4, 0.5), ("sweet", 1): (2, 4, 1.0), ("hot", 2): (0, 7, 0.25), ("hot", 3): (1, 2, 0.125),
    }  # fmt: skip


def test_moments_have_their_horizon_in_their_split() -> None:
    """Training ends on day 30, validation on day 45, all on day 60; every 10 days, a horizon of 7."""
    calendar = Calendar(valid_from=30, test_from=45, until=60, every=10, horizon=7)
    assert {split: calendar.moments(split, 2).tolist() for split in ("train", "valid", "test")} == {
        "train": [3, 13, 23],
        "valid": [30],
        "test": [45],
    }


def test_a_row_by_hand(spark: SparkSession) -> None:
    """Sold on days 0 (2 at 10.00), 3 (4 at 30.00) and 15 (1 at 20.00). On day 14 two of 16 days are missing."""
    log = [
        event("tea", 0.5, price=10.0, units=2.0), event("tea", 3.5, price=30.0, units=4.0), event("tea", 15.5, price=20.0, units=1.0),
    ]  # fmt: skip
    of_rows = SequenceSettings.model_validate({"horizon": "2d", "every": "2d"})
    naive = [at(days).replace(tzinfo=None) for days in (16, 18, 20)]
    splits = Bounds(valid_from=naive[0], test_from=naive[1], until=naive[2], fitted_until=naive[0])
    wanted = SeriesSettings(length=16, min_units=1)
    nothing = spark.createDataFrame([], "series_id string, kind int, first int, end int, share double")
    rows = series.build(spark.createDataFrame(log, EVENTS.ddl), nothing, wanted, of_rows, splits).orderBy("as_of").collect()
    assert [(row.split, row.as_of) for row in rows] == list(
        zip(("train", "valid", "test"), (at(d).replace(tzinfo=None) for d in (14, 16, 18)), strict=True)
    )
    first = rows[0]
    assert (first.length, first.fresh, first.recency) == (14, 14, 22)  # ten days and a half since the evening of day 3: 2^19 s < … < 2^20 s
    assert first.units == [0, 0, 2, 0, 0, 4, *[0] * 10]
    assert first.units_ahead == [0, 1]
    mean = (3 * 10 + 11 * 30) / 14
    assert first.price_level == [0, 0, *[round(1000 / mean)] * 3, *[round(3000 / mean)] * 13]
    assert first.weekday[:4] == [0, 0, 3, 4]  # 1 May 2024 was a Wednesday
    assert first.monthday[-2:] == [15, 16]
    assert np.array(first.promotion).tolist() == [0] * 4 * 18


def test_least_days_are_asked_for() -> None:
    with pytest.raises(ValueError, match="least is above length"):
        SeriesSettings(length=14, least=15)
