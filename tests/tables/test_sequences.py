"""Examples of a few users, written out; and that no feature knows the future."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from foretaste.contract import FEATURES
from foretaste.errors import SettingsError, TableError
from foretaste.settings import SequenceSettings
from foretaste.tables import sequences
from foretaste.tables.sequences import SEQUENCES, Bounds
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY

MONDAY = datetime(2024, 4, 1)
Event = tuple[float, str | None, str, float | None, str | None]  # hours after Monday, item, type, price, category
BOUNDS = Bounds(valid_from=MONDAY + timedelta(days=7), test_from=MONDAY + timedelta(days=14), until=MONDAY + timedelta(days=21))


def settings(**changes: Any) -> SequenceSettings:
    return SequenceSettings(**{"length": 4, "horizon": "2d", "every": "3d", "event_types": ("view", "purchase"), **changes})


def sessions_of(spark: SparkSession, *sessions: tuple[str, list[Event]]) -> DataFrame:
    rows = []
    for place, (user, events) in enumerate(sessions):
        hours, *columns = ([event[column] for event in events] for column in range(5))
        times = [(MONDAY + timedelta(hours=hour)).replace(tzinfo=UTC) for hour in hours]
        rows.append((user, f"s{place:02}", times[0], times[-1], len(events), times, *columns))
    return spark.createDataFrame(rows, SESSIONS.ddl)


@pytest.fixture(scope="module")
def words(spark: SparkSession) -> DataFrame:
    rows = [
        ("item", "tea", 2, 9, None), ("item", "milk", 3, 5, None), ("item", "jam", 4, 1, None),
        ("category", "hot", 2, 9, None), ("price", "2.0", 2, 5, 2.0), ("price", "above", 3, 5, None),
    ]  # fmt: skip
    return spark.createDataFrame(rows, VOCABULARY.ddl).cache()


ANN: list[tuple[str, list[Event]]] = [
    ("ann", [(10, "tea", "view", 2.0, "hot"), (10, "milk", "purchase", 2.5, "cold"), (11, "ad", "exposure", None, None)]),
    ("ann", [(100, "cake", "view", None, None), (101, "jam", "purchase", 1.0, "hot")]),  # cake is in no vocabulary
    ("ann", [(170, "tea", "view", 1.0, "hot")]),  # from hour 168 on it is validation time
    ("ann", [(400, "milk", "view", 1.0, "hot")]),
]


def rows_of(frame: DataFrame) -> list[tuple[Any, ...]]:
    """(split, cut, hours after Monday, length, fresh, recency, items, the first two next items, returns), in order."""
    hours = (F.unix_seconds("as_of") - F.unix_seconds(F.lit(MONDAY.replace(tzinfo=UTC)))) / 3600
    ordered = frame.withColumn("hours", hours).orderBy("split", "cut", "user_id", "as_of")
    return [
        (row.split, row.cut, row.hours, row.length, row.fresh, row.recency, row.item, row.next_items[:2], row.returns)
        for row in ordered.collect()
    ]


def test_rows_of_one_user(spark: SparkSession, words: DataFrame) -> None:
    built = sequences.build(sessions_of(spark, *ANN), words, settings(stride=3), BOUNDS)
    assert built.columns == SEQUENCES.names
    assert rows_of(built) == [
        # moments: test_from 336, every 72 h, as long as 48 h fit before the last event's 504
        ("test", "calendar", 336.0, 4, 4, 22, [3, 1, 4, 2], [0, 0], 0),
        ("test", "calendar", 408.0, 4, 1, 17, [1, 4, 2, 3], [0, 0], 0),
        # training: 168 - 48 = 120 and 48; no events before 10
        ("train", "calendar", 48.0, 2, 2, 20, [0, 0, 2, 3], [0, 0], 0),
        ("train", "calendar", 120.0, 4, 2, 19, [2, 3, 1, 4], [0, 0], 0),
        # after three events, and after the last one of training time
        ("train", "window", 100.0, 3, 3, 2, [0, 2, 3, 1], [4, 0], 1),
        ("train", "window", 101.0, 4, 1, 2, [2, 3, 1, 4], [0, 0], 0),
        ("valid", "calendar", 168.0, 4, 4, 20, [2, 3, 1, 4], [2, 0], 1),
        ("valid", "calendar", 240.0, 4, 1, 20, [3, 1, 4, 2], [0, 0], 0),
    ]


def test_every_feature(spark: SparkSession, words: DataFrame) -> None:
    (row,) = sequences.latest(sessions_of(spark, *ANN), words, settings(length=6), MONDAY + timedelta(hours=169)).collect()
    assert (row.user_id, row.length, row.fresh, row.recency) == ("ann", 4, 4, 20)  # 68 hours: 18 bits
    assert {name: row[name] for name in FEATURES} == {
        "item": [0, 0, 2, 3, 1, 4],
        "event": [0, 0, 1, 5, 1, 5],
        "gap": [0, 0, 1, 2, 21, 14],  # none before, 0 s, 90 hours, 1 hour
        "opens_session": [0, 0, 2, 1, 2, 1],
        "price": [0, 0, 2, 3, 1, 2],
        "category": [0, 0, 2, 1, 1, 2],
        "hour": [0, 0, 11, 11, 5, 6],
        "weekday": [0, 0, 1, 1, 5, 5],
    }


def test_latest_is_one_row_a_user_with_any_event(spark: SparkSession, words: DataFrame) -> None:
    others: list[tuple[str, list[Event]]] = [
        ("bob", [(1, "ad", "exposure", None, None)]),  # of no type that enters
        ("cat", [(500, "tea", "view", None, None)]),  # later
        ("dan", [(168, "tea", "view", None, None), (169, "jam", "view", None, None)]),
    ]
    latest = sequences.latest(sessions_of(spark, *ANN, *others), words, settings(), MONDAY + timedelta(hours=168))
    found = {row.user_id: (row.length, row.recency, row.item) for row in latest.collect()}
    assert found == {"ann": (4, 20, [2, 3, 1, 4]), "bob": (0, 1, [0, 0, 0, 0]), "dan": (1, 2, [0, 0, 0, 2])}


def test_latest_is_what_the_model_was_judged_on(spark: SparkSession, words: DataFrame) -> None:
    sessions = sessions_of(spark, *ANN, ("dan", [(168, "tea", "view", None, "hot")]))
    judged = sequences.build(sessions, words, settings(), BOUNDS, ["valid"]).where(F.unix_seconds("as_of") == _seconds(168))
    columns = ["user_id", "length", "recency", *FEATURES]
    now = sequences.latest(sessions, words, settings(), BOUNDS.valid_from).select(columns).orderBy("user_id").collect()
    assert now == judged.select(columns).orderBy("user_id").collect()
    assert len(now) == 2


def _seconds(hours: float) -> int:
    return int(MONDAY.replace(tzinfo=UTC).timestamp() + hours * 3600)


def test_hours_and_weekdays_are_the_shops(spark: SparkSession, words: DataFrame) -> None:
    """Berlin's summer time began on Sunday, 31 March 2024, at 01:00 UTC."""
    sessions = sessions_of(spark, ("ann", [(hour, "tea", "view", None, None) for hour in (-24, -23.25, -23, -2)]))
    (row,) = sequences.latest(sessions, words, settings(time_zone="Europe/Berlin"), MONDAY).collect()
    assert row.hour == [1 + 1, 1 + 1, 1 + 3, 1 + 0]
    assert row.weekday == [7, 7, 7, 1]


def test_event_rows_follow_every_moment_of_their_split(spark: SparkSession, words: DataFrame) -> None:
    built = sequences.build(sessions_of(spark, *ANN), words, settings(judged_at="event"), BOUNDS, ["valid", "test"])
    assert [row[:7] for row in rows_of(built)] == [
        ("test", "event", 400.0, 4, 4, 2, [1, 4, 2, 3]),
        ("valid", "event", 170.0, 4, 4, 2, [3, 1, 4, 2]),
    ]


MOMENT = 240  # hours; rows are cut there and before and after it


def changed(event: Event) -> Event:
    """Another item, type, price and category, at another time still after MOMENT or still before it."""
    hour, item, kind, _, category = event
    other = (MOMENT + 504) / 2 if hour > MOMENT else hour / 2
    return (other, "jam" if item != "jam" else "tea", "view" if kind != "view" else "purchase", 7.0, "hot" if category != "hot" else None)


@pytest.fixture(scope="module")
def features(spark: SparkSession, words: DataFrame) -> dict[str, list[Row]]:
    """Rows up to MOMENT without labels, and their labels: as they are, with a changed future, and with a changed past."""
    users = {"ann": [10, 20, 130, 200, 230, 239, 240], "bob": [5, 239, 241, 300], "cat": [168, 250, 251, 480]}
    plain = [(user, [(float(hour), "milk", "view", 1.0, None)]) for user, hours in users.items() for hour in hours]
    frames = {
        "plain": plain,
        "future": [(user, [changed(event) if event[0] > MOMENT else event for event in events]) for user, events in plain],
        "past": [(user, [changed(event) if event[0] < MOMENT else event for event in events]) for user, events in plain],
    }
    found = {}
    for name, sessions in frames.items():
        built = sequences.build(sessions_of(spark, *sessions), words, settings(horizon="1d", every="1d"), BOUNDS)
        rows = built.where(F.unix_seconds("as_of") <= _seconds(MOMENT)).orderBy("split", "cut", "user_id", "as_of")
        found[name] = rows.select("split", "cut", "user_id", "as_of", "length", "fresh", "recency", *FEATURES).collect()
        found[f"{name} labels"] = rows.select("next_items", "returns").collect()
    return found


def test_a_changed_future_moves_no_feature(features: dict[str, list[Row]]) -> None:
    assert len(features["plain"]) > 10
    assert features["future"] == features["plain"]


def test_a_changed_future_moves_labels_and_a_changed_past_features(features: dict[str, list[Row]]) -> None:
    """Else the test above could not fail."""
    assert features["future labels"] != features["plain labels"]
    assert features["past"] != features["plain"]


def test_training_rows_and_labels_know_nothing_from_valid_from_on(spark: SparkSession, words: DataFrame) -> None:
    plain = [("ann", [(float(hour), "milk", "view", 1.0, None)]) for hour in (10, 100, 150, 168, 169, 240)]
    later = [(user, [(hour, "tea" if hour >= 168 else item, *rest)]) for user, [(hour, item, *rest)] in plain]
    one, other = (sequences.build(sessions_of(spark, *rows), words, settings(), BOUNDS, ["train"]) for rows in (plain, later))
    assert rows_of(one) == rows_of(other)
    assert rows_of(one)[-1][2] == 150.0  # the last window's as_of


@pytest.mark.parametrize(
    ("valid_from", "test_from", "expected"),
    [
        ("14d", "7d", ("2024-04-08", "2024-04-15")),  # back from the end of 2024-04-21, the last event's day
        (datetime(2024, 4, 10), datetime(2024, 4, 12, 6), ("2024-04-10", "2024-04-12 06:00")),
        (datetime(2024, 4, 10, 1, tzinfo=UTC), "7d", ("2024-04-10 01:00", "2024-04-15")),
    ],
)
def test_bounds(spark: SparkSession, valid_from: Any, test_from: Any, expected: tuple[str, str]) -> None:
    sessions = sessions_of(spark, ("ann", [(0, "tea", "view", None, None)]), ("ann", [(500.5, "tea", "view", None, None)]))
    found = sequences.bounds(sessions, settings(valid_from=valid_from, test_from=test_from))
    assert (found.valid_from, found.test_from) == tuple(datetime.fromisoformat(moment) for moment in expected)
    assert found.until == MONDAY + timedelta(hours=500.5)


@pytest.mark.parametrize(
    ("valid_from", "test_from", "changes", "message"),
    [
        ("7d", "14d", {}, "do not follow one another"),
        ("30d", "7d", {}, "do not follow one another"),
        ("14d", datetime(2024, 5, 1), {}, "do not follow one another"),
        ("14d", "7d", {"horizon": "8d"}, "fits into train time"),
        ("9d", "7d", {"horizon": "3d"}, "fits into valid time"),
        ("14d", "2d", {"horizon": "3d"}, "fits into test time"),
    ],
)
def test_impossible_bounds(spark: SparkSession, valid_from: Any, test_from: Any, changes: dict[str, Any], message: str) -> None:
    sessions = sessions_of(spark, ("ann", [(0, "tea", "view", None, None)]), ("ann", [(500, "tea", "view", None, None)]))
    with pytest.raises(SettingsError, match=message):
        sequences.bounds(sessions, settings(valid_from=valid_from, test_from=test_from, **changes))


def test_no_sessions_no_bounds(spark: SparkSession) -> None:
    with pytest.raises(SettingsError, match="no sessions"):
        sequences.bounds(spark.createDataFrame([], SESSIONS.ddl), settings())


def test_an_unknown_time_zone_is_named(spark: SparkSession, words: DataFrame) -> None:
    with pytest.raises(SettingsError, match="'Mars/Olympus'"):
        sequences.latest(sessions_of(spark, *ANN), words, settings(time_zone="Mars/Olympus"), MONDAY)


def test_a_vocabulary_with_a_hole_is_refused(spark: SparkSession, words: DataFrame) -> None:
    with pytest.raises(TableError, match="field item"):
        sequences.latest(sessions_of(spark, *ANN), words.where("value != 'milk'"), settings(), MONDAY)


def test_shuffled_rows_have_one_order(spark: SparkSession) -> None:
    users = spark.range(400).select(
        F.col("id").cast("string").alias("user_id"), F.lit("train").alias("split"), F.lit("window").alias("cut")
    )
    rows = users.withColumn("as_of", F.timestamp_seconds(F.lit(0)))
    orders = [
        [int(row.user_id) for row in sequences.shuffled(rows.repartition(parts), settings(seed=seed), 2).collect()]
        for parts, seed in ((1, 0), (5, 0), (1, 1))
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(400))
    neighbours = [abs(one - other) for one, other in zip(orders[0], orders[0][1:], strict=False)]
    assert sum(neighbours) / len(neighbours) == pytest.approx(400 / 3, rel=0.15)  # as far apart as any two
    assert sequences.shuffled(rows, settings(), 2).rdd.getNumPartitions() == 16
