"""demand on a toy shop whose sales are known: three kinds of bread, sold by weekday, twice as much where they are promoted."""

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SettingsError
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.backtest import backtest
from foretaste.steps.evaluate import evaluate
from foretaste.steps.report import StepReport
from foretaste.steps.score import score
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.steps.train import train
from foretaste.tables import Warehouse, events
from foretaste.tables.demand import DEMAND
from foretaste.tables.events import EVENTS
from foretaste.tables.metrics import METRICS
from foretaste.tables.promotions import PROMOTIONS
from foretaste.tables.series import SERIES

MONDAY = datetime(2024, 1, 1, tzinfo=UTC)
NUM_DAYS = 140
BREADS = {"rye": 4, "wheat": 8, "spelt": 2}


def settings(**changes: Any) -> Settings:
    return Settings.model_validate(
        {
            "sequences": {
                "length": 8, "horizon": "7d", "every": "7d", "min_item_count": 1, "rows_per_group": 8, "event_types": ["purchase"],
                "valid_from": MONDAY + timedelta(days=98), "test_from": MONDAY + timedelta(days=119),
                "until": MONDAY + timedelta(days=NUM_DAYS),
            },
            "series": {"length": 28, "min_units": 50, "not_categories": ["fuel"]},
            "tasks": {
                "demand": {"model": {"name": "deepar", "size": "tiny"}, "fit": {"epochs": 30, "batch_size": 8, "learning_rate": 0.02}},
            },
            "training": {"threads": 1, "seed": 1},
            "evaluation": {"bootstrap": 20, "folds": 2, "fold_step": "7d"},
            **changes,
        }
    )  # fmt: skip


def promoted(day: int) -> bool:
    return day // 7 % 3 == 2


def sold(bread: str, day: int) -> int:
    """Twice as many from Friday on, twice as many in a week of promotion."""
    return BREADS[bread] * (2 if day % 7 >= 4 else 1) * (2 if promoted(day) else 1)


@pytest.fixture(scope="module")
def shop(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Warehouse, list[StepReport]]:
    warehouse = Warehouse(spark, WarehouseSettings(path=str(tmp_path_factory.mktemp("demand"))))
    log = [
        (f"user {day % 5}", bread, MONDAY + timedelta(days=day, hours=9), 2.0, float(sold(bread, day)), "bread")
        for day in range(NUM_DAYS)
        for bread in BREADS
    ]
    log += [("user 1", "diesel", MONDAY + timedelta(days=day, hours=10), 1.0, 900.0, "fuel/diesel") for day in range(NUM_DAYS)]
    rows = spark.createDataFrame(
        log, "user_id string, item_id string, event_time timestamp, price double, quantity double, category string"
    )
    given = {"event_type": F.lit("purchase"), "source": F.lit("bakery"), "session_hint": F.lit(None).cast("string")}
    given |= {"campaign_id": F.lit(None).cast("string"), "event_id": F.lit(None).cast("string"), "extra": F.lit(None).cast("string")}
    told = rows.withColumns(given)
    warehouse.overwrite(EVENTS, EVENTS.select(told.withColumn("event_id", events.hashed_id())))
    weeks = [week for week in range(NUM_DAYS // 7 + 1) if promoted(7 * week)]
    planned = [
        (bread, "mailer", MONDAY + timedelta(weeks=week), MONDAY + timedelta(weeks=week + 1), 0.8) for week in weeks for bread in BREADS
    ]
    warehouse.overwrite(PROMOTIONS, spark.createDataFrame(planned, PROMOTIONS.ddl))
    sessionize(warehouse, settings())
    reports = [step(warehouse, settings()) for step in (sequence, train, evaluate, score)]
    return warehouse, reports


def test_rows_of_series_by_hand(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """rye at the first test moment, a Monday: four weeks known, one to come, the third week of each three promoted in 80 % of shops."""
    rows = shop[0].read(SERIES).where((F.col("series_id") == "rye") & (F.col("split") == "test"))
    assert rows.count() == 3
    first = rows.orderBy("as_of").first()
    assert first is not None
    assert first.as_of.timestamp() == (MONDAY + timedelta(days=119)).timestamp()
    assert (first.length, first.fresh, first.cut) == (28, 28, "calendar")
    assert first.units == [sold("rye", day) for day in range(91, 119)]
    assert first.units_ahead == [sold("rye", day) for day in range(119, 126)]
    assert first.weekday == [1, 2, 3, 4, 5, 6, 7] * 5
    assert first.monthday == [(date(2024, 1, 1) + timedelta(days=day)).day for day in range(91, 126)]
    assert first.price_level == [100] * 35
    campaigns, mailer, *others = np.array(first.promotion).reshape(4, 35)
    assert not campaigns.any()
    assert mailer.tolist() == [80 * promoted(day) for day in range(91, 126)]
    assert not np.any(others)


def test_splits_end_where_their_horizons_do(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """Training moments are those with 14 known days, up to a week before validation; diesel is no stock."""
    found = {
        (row.series_id, row.split): ((row.first - MONDAY.timestamp()) / 86400, (row.last - MONDAY.timestamp()) / 86400, row.rows)
        for row in shop[0].read(SERIES).groupBy("series_id", "split").agg(
            F.min(F.unix_timestamp("as_of")).alias("first"), F.max(F.unix_timestamp("as_of")).alias("last"), F.count("*").alias("rows")
        ).collect()
    }  # fmt: skip
    of_one = {"train": (14.0, 91.0, 12), "valid": (98.0, 112.0, 3), "test": (119.0, 133.0, 3)}
    assert found == {(bread, split): rows for bread in BREADS for split, rows in of_one.items()}


def test_what_comes_later_moves_no_feature(shop: tuple[Warehouse, list[StepReport]], spark: SparkSession, tmp_path: Path) -> None:
    """Without anything after the first test moment, the rows up to it are the same, labels apart."""
    warehouse, moment = shop[0], MONDAY + timedelta(days=119)
    other = Warehouse(spark, WarehouseSettings(path=str(tmp_path)))
    other.overwrite(EVENTS, warehouse.read(EVENTS).where(F.unix_micros("event_time") < int(moment.timestamp() * 1e6)))
    other.overwrite(PROMOTIONS, warehouse.read(PROMOTIONS))
    cut_off = settings()
    sessionize(other, cut_off)
    cut_off = cut_off.model_copy(
        update={
            "sequences": cut_off.sequences.model_copy(
                update={"valid_from": MONDAY + timedelta(days=98), "test_from": MONDAY + timedelta(days=105), "until": moment}
            )
        }
    )
    sequence(other, cut_off)
    features = [name for name in SERIES.names if name not in ("split", "fresh")]
    before = [*features[:-1]] if features[-1] == "units_ahead" else features
    early = F.unix_timestamp("as_of") < int((moment - timedelta(days=6)).timestamp())
    ours = {tuple(map(str, row)) for row in warehouse.read(SERIES).where(early).select(before).collect()}
    theirs = {tuple(map(str, row)) for row in other.read(SERIES).select(before).collect()}
    assert ours == theirs


def test_the_model_learns_weekdays_and_promotions(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """Which naive ways cannot: last week is no sign of the next where one of them is promoted."""
    wape = {
        row.model: row.value
        for row in shop[0].read(METRICS).where("metric = 'wape' and split = 'test' and segment = 'all'").collect()
        if " minus " not in row.model
    }
    assert set(wape) == {"demand", "seasonal_naive", "last_value", "recent_days", "auto_ets"}
    assert wape["demand"] < 0.15
    assert wape["demand"] < 0.5 * min(value for name, value in wape.items() if name != "demand")


def test_stock_is_told_beside_that_of_naive_policies(shop: tuple[Warehouse, list[StepReport]]) -> None:
    assert any(note.startswith("days of stock on hand, where 95 %") and "against seasonal_naive" in note for note in shop[1][2].notes)


def test_demand_holds_a_week_for_each_series(shop: tuple[Warehouse, list[StepReport]]) -> None:
    """As of the last event, the coming week is an unpromoted one (weeks 20, 21: 20 % 3 = 2 is promoted)."""
    warehouse = shop[0]
    rows = warehouse.read(DEMAND).orderBy("series_id", "day").collect()
    assert [row.series_id for row in rows] == [bread for bread in sorted(BREADS) for _ in range(7)]
    assert [row.day for row in rows[:7]] == [date(2024, 5, 20) + timedelta(days=day) for day in range(7)]
    for row in rows:
        day = (row.day - date(2024, 1, 1)).days
        levels, units = zip(*row.quantiles, strict=True)
        assert levels == (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
        assert list(units) == sorted(units)
        assert row.mean == pytest.approx(sold(row.series_id, day), rel=0.35)
    week = [rows[place].cumulative[3].units for place in range(7)]
    assert week == sorted(week)


def test_demand_is_found_by_its_name(shop: tuple[Warehouse, list[StepReport]], spark: SparkSession) -> None:
    """The README's query: stock of each item that lasts three days with a probability of 95 %."""
    rows = spark.sql(
        "SELECT series_id, filter(cumulative, each -> each.level = 0.95)[0].units AS units FROM demand "
        "WHERE day = (SELECT min(day) + INTERVAL 2 DAYS FROM demand)"
    ).collect()
    assert {row.series_id for row in rows} == set(BREADS)
    assert all(row.units >= 3 * BREADS[row.series_id] * 0.6 for row in rows)
    assert "VIEW demand AS" in (Path(shop[0].path) / "scores_flat.sql").read_text("utf-8")


def test_a_rerun_replaces_its_own_run_and_gives_the_same(shop: tuple[Warehouse, list[StepReport]]) -> None:
    warehouse = shop[0]
    before = {(row.series_id, row.day): (row.mean, row.quantiles) for row in warehouse.read(DEMAND).collect()}
    score(warehouse, settings())
    assert {(row.series_id, row.day): (row.mean, row.quantiles) for row in warehouse.read(DEMAND).collect()} == before


def test_nothing_new_writes_nothing(shop: tuple[Warehouse, list[StepReport]]) -> None:
    version = shop[0].version(SERIES)
    report = sequence(shop[0], settings())
    assert shop[0].version(SERIES) == version
    assert "series: nothing new since the last run" in report.notes


def test_a_second_version_has_to_beat_the_first(shop: tuple[Warehouse, list[StepReport]]) -> None:
    poor = {"demand": {"model": {"name": "deepar", "size": "tiny"}, "fit": {"epochs": 1, "batch_size": 8, "learning_rate": 0.0001}}}
    report = train(shop[0], settings(tasks=poor))
    assert any("does NOT beat the champion" in note and "pinball" in note for note in report.notes)


def test_folds_have_series_of_their_own(shop: tuple[Warehouse, list[StepReport]]) -> None:
    report = backtest(shop[0], settings())
    assert "demand: pinball on the test rows of each fold" in report.notes
    assert any(note.startswith("demand, days of stock on hand") for note in report.notes)


@pytest.mark.parametrize(
    ("tasks", "says"),
    [
        ({"demand": {"model": {"name": "gru"}}}, "gru foretells no units"),
        ({"interest": {"model": {"name": "deepar"}}}, "deepar foretells units of items"),
        ({"demand": {"model": {"name": "deepar", "facts": ["answers"]}}}, "reads facts"),
    ],
)
def test_models_that_do_not_go_with_the_task(shop: tuple[Warehouse, list[StepReport]], tasks: dict[str, Any], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        train(shop[0], settings(tasks=tasks))


def test_no_series_is_an_error(shop: tuple[Warehouse, list[StepReport]]) -> None:
    with pytest.raises(SettingsError, match="no item was bought 1000000 times"):
        sequence(shop[0], settings(series={"length": 28, "min_units": 1_000_000}))
