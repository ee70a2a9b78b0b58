"""Examples of a few users, written out; and that no feature knows the future."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.contract import FEATURES, SCALARS
from foretaste.errors import SettingsError, TableError
from foretaste.settings import SequenceSettings
from foretaste.tables import sequences
from foretaste.tables.contacts import Campaigns
from foretaste.tables.sequences import SEQUENCES, Bounds
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY
from tests.tables.leaks import leaked

MONDAY = datetime(2024, 4, 1)
Event = tuple[Any, ...]  # hours after Monday, item, type, price, category and, if it has one, campaign
VALID_FROM, TEST_FROM = MONDAY + timedelta(days=7), MONDAY + timedelta(days=14)
BOUNDS = Bounds(valid_from=VALID_FROM, test_from=TEST_FROM, until=MONDAY + timedelta(days=21), fitted_until=VALID_FROM)
PROTOCOLS = ("global_time", "session_next_item", "leave_one_out")


def settings(**changes: Any) -> SequenceSettings:
    return SequenceSettings(**{"length": 4, "horizon": "2d", "every": "3d", "event_types": ("view", "purchase"), **changes})


def sessions_of(spark: SparkSession, *sessions: tuple[str, list[Event]]) -> DataFrame:
    rows = []
    for place, (user, events) in enumerate(sessions):
        hours, *columns = ([event[column] for event in events] for column in range(5))
        times = [(MONDAY + timedelta(hours=hour)).replace(tzinfo=UTC) for hour in hours]
        campaigns = [event[5] if len(event) > 5 else None for event in events]
        rows.append((user, f"s{place:02}", times[0], times[-1], len(events), times, *columns, campaigns))
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


def _seconds(hours: float) -> int:
    return int(MONDAY.replace(tzinfo=UTC).timestamp() + hours * 3600)


SPRING = Campaigns(
    ids=("easter", "may"),
    kind=np.array([1, 2], dtype=np.int32),
    days=np.array([5, 3], dtype=np.int32),
    ends=np.array([(_seconds(130)) * 1_000_000, _seconds(170) * 1_000_000], dtype=np.int64),
    items=(np.array([2], dtype=np.int32), np.array([3, 4], dtype=np.int32)),
    categories=(np.array([2], dtype=np.int32), np.array([], dtype=np.int32)),
    has_control=np.array([False, True]),
)


def test_a_row_for_each_user_whom_a_campaign_reached(spark: SparkSession, words: DataFrame) -> None:
    """Both campaigns reach ann at hour 102; she redeems two of the first's coupons, and its answers are all known when training ends. The
    other is not over then. An answer to a campaign that no table has is none.
    """
    asked: list[tuple[str, list[Event]]] = [
        ("ann", [(102, None, "exposure", None, None, "easter"), (102, None, "exposure", None, None, "may")]),
        ("ann", [(126, None, "coupon", None, None, "easter"), (127, None, "coupon", None, None, "easter")]),
        ("ann", [(128, None, "coupon", None, None, "unheard of")]),
        ("bob", [(129, None, "exposure", None, None, "may")]),
    ]
    sessions = sessions_of(spark, *ANN[:2], *asked[:3], *ANN[2:], asked[3])
    built = sequences.build(sessions, words, settings(), BOUNDS, ["train"], SPRING)
    rows = built.where("cut = 'exposure'").orderBy("user_id", "campaign_id").collect()
    names = ("user_id", "campaign_id", "length", "item", "answer_day", "exposures", "answers", "campaign_kind", "campaign_days",
             "campaign_items", "bought_promoted", "bought_category", "next_items")  # fmt: skip
    found = [tuple(row[name][:2] if name == "next_items" else row[name] for name in names) for row in rows]
    over = 9999
    assert found == [
        ("ann", "easter", 4, [2, 3, 1, 4], [1, over], 0, 0, 1, 5, 1, 1, 2, [0, 0]),
        ("ann", "may", 4, [2, 3, 1, 4], [0, 2], 0, 0, 2, 3, 2, 2, 0, [0, 0]),  # of its answers 66 hours are known
        ("bob", "may", 0, [0, 0, 0, 0], [0, 1], 0, 0, 2, 3, 2, 0, 0, [0, 0]),
    ]
    later = sequences.latest(sessions, words, settings(), MONDAY + timedelta(hours=150), SPRING, ("may",)).orderBy("user_id").collect()
    assert [(row.user_id, row.campaign_id, row.exposures, row.answers, row.bought_promoted) for row in later] == [
        ("ann", "may", 2, 2, 2),
        ("bob", "may", 1, 0, 0),
    ]
    others = built.where("cut NOT IN ('exposure', 'trial')").drop("exposures", "answers", "answer_rate")
    without = sequences.build(sessions, words, settings(), BOUNDS, ["train"]).drop("exposures", "answers", "answer_rate")
    assert others.exceptAll(without).isEmpty()  # campaigns change nothing else


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


def test_features_that_are_not_wanted_change_no_others(spark: SparkSession, words: DataFrame) -> None:
    sessions = sessions_of(spark, *ANN, ("dan", [(168, "tea", "view", 3.0, "hot")]))
    whole = sequences.latest(sessions, words, settings(), BOUNDS.valid_from).orderBy("user_id")
    for read in (("item",), ("gap", "price", "repeats"), ("item", "category")):
        columns = ["user_id", *SCALARS, *read, "campaign_id"]
        some = sequences.latest(sessions, words, settings(), BOUNDS.valid_from, read=read).orderBy("user_id")
        assert set(some.columns) == set(columns)
        assert some.select(columns).collect() == whole.select(columns).collect()


def test_hours_and_weekdays_are_the_shops(spark: SparkSession, words: DataFrame) -> None:
    """Berlin's summer time began on Sunday, 31 March 2024, at 01:00 UTC."""
    sessions = sessions_of(spark, ("ann", [(hour, "tea", "view", None, None) for hour in (-24, -23.25, -23, -2)]))
    (row,) = sequences.latest(sessions, words, settings(time_zone="Europe/Berlin"), MONDAY).collect()
    assert row.hour == [1 + 1, 1 + 1, 1 + 3, 1 + 0]
    assert row.weekday == [7, 7, 7, 1]


def test_sessions_as_histories(spark: SparkSession, words: DataFrame) -> None:
    """Ann's last two sessions are one here, which ends in test time and knows nothing of the two before."""
    joined = [*ANN[:2], ("ann", [*ANN[2][1], *ANN[3][1], (401, "cake", "view", None, None)])]
    built = sequences.build(sessions_of(spark, *joined), words, settings(protocol="session_next_item", horizon="1h"), BOUNDS)
    assert rows_of(built) == [
        ("test", "event", 170.0, 1, 1, 2, [0, 0, 0, 2], [3, 1], 1),  # cake is a target, though an unknown one
        ("test", "event", 400.0, 2, 1, 2, [0, 0, 2, 3], [1, 0], 1),
        ("train", "window", 10.0, 2, 2, 2, [0, 0, 2, 3], [0, 0], 0),
        ("train", "window", 101.0, 2, 2, 2, [0, 0, 1, 4], [0, 0], 0),
    ]
    (row,) = built.where("split = 'test' AND length = 2").collect()
    assert (row.gap, row.opens_session) == ([0, 0, 1, 22], [0, 0, 2, 1])


def test_the_last_event_left_out(spark: SparkSession, words: DataFrame) -> None:
    sessions = sessions_of(spark, *ANN, ("bob", [(1, "tea", "view", None, None), (2, "jam", "view", None, None)]))
    wanted = settings(protocol="leave_one_out")
    assert rows_of(sequences.build(sessions, words, wanted, sequences.bounds(sessions, wanted))) == [
        ("test", "event", 170.0, 4, 4, 2, [3, 1, 4, 2], [3, 0], 1),
        ("train", "window", 10.0, 2, 2, 2, [0, 0, 2, 3], [1, 4], 1),
        ("train", "window", 101.0, 4, 2, 2, [2, 3, 1, 4], [0, 0], 0),
        ("train", "window", 2.0, 2, 2, 2, [0, 0, 2, 4], [0, 0], 0),  # bob has too few to leave one out
        ("valid", "event", 101.0, 4, 4, 2, [2, 3, 1, 4], [2, 0], 1),
    ]


def test_scoring_knows_the_last_session_where_sessions_are_histories(spark: SparkSession, words: DataFrame) -> None:
    sessions, wanted = sessions_of(spark, *ANN, ("bob", [(1, "ad", "exposure", None, None)])), settings(protocol="session_next_item")
    for hour, items in ((9, []), (10.5, [2, 3]), (100, [1]), (168, [1, 4]), (500, [3])):
        found = {row.user_id: row for row in sequences.latest(sessions, words, wanted, MONDAY + timedelta(hours=hour)).collect()}
        assert set(found) == ({"ann", "bob"} if items else {"bob"})
        assert found["bob"].length == 0
        if items:
            assert found["ann"].item == [0] * (4 - len(items)) + items
            assert (found["ann"].length, found["ann"].gap[-len(items)]) == (len(items), 1)


Examples = dict[tuple[str, str, datetime], Any]  # by cut, user and as_of
MOMENT = 240  # hours; rows are cut there and before and after it


def changed(event: Event) -> Event:
    """Another item, type, price and category, at another time still after MOMENT or still before it."""
    hour, item, kind, _, category = event
    other = (MOMENT + 504) / 2 if hour > MOMENT else hour / 2
    return (other, "jam" if item != "jam" else "tea", "view" if kind != "view" else "purchase", 7.0, "hot" if category != "hot" else None)


@pytest.fixture(scope="module", params=PROTOCOLS)
def features(spark: SparkSession, words: DataFrame, request: pytest.FixtureRequest) -> dict[str, Examples]:
    """Examples up to MOMENT without labels, and their labels: as they are, with a changed future, and with a changed past."""
    wanted = settings(horizon="1d", every="1d", protocol=request.param, refit=True)
    users = {"ann": [10, 20, 130, 200, 230, 239, 240], "bob": [5, 239, 241, 300], "cat": [168, 250, 251, 480]}
    plain = [  # two events a session, so that some sessions reach over MOMENT
        (user, [(float(hour), "milk", "view", 1.0, None) for hour in hours[place : place + 2]])
        for user, hours in users.items()
        for place in range(0, len(hours), 2)
    ]
    frames = {
        "plain": plain,
        "future": [(user, [changed(event) if event[0] > MOMENT else event for event in events]) for user, events in plain],
        "past": [(user, [changed(event) if event[0] < MOMENT else event for event in events]) for user, events in plain],
    }
    found = {}
    for name, sessions in frames.items():
        built = sequences.build(sessions_of(spark, *sessions), words, wanted, BOUNDS)
        rows = built.where(F.unix_seconds("as_of") <= _seconds(MOMENT)).drop("split").collect()
        labels = [label.name for label in sequences.LABELS]
        keyed = {(row.cut, row.user_id, row.as_of): row.asDict() for row in rows}
        found[f"{name} labels"] = {key: [row.pop(label) for label in labels] for key, row in keyed.items()}
        found[name] = keyed
    return found


def test_a_changed_future_moves_no_feature(features: dict[str, Examples]) -> None:
    """Whether something follows at all decides on a window or a prefix being an example, but never on what is in it."""
    plain, future = features["plain"], features["future"]
    assert {key for key in plain if key[0] == "calendar"} == {key for key in future if key[0] == "calendar"}
    both = plain.keys() & future.keys()
    assert len(both) > 3
    assert {key: future[key] for key in both} == {key: plain[key] for key in both}


def test_a_changed_future_moves_labels_and_a_changed_past_features(features: dict[str, Examples]) -> None:
    """Else the test above could not fail."""
    assert features["future labels"] != features["plain labels"]
    assert features["past"] != features["plain"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_target_is_inside_its_own_input(spark: SparkSession, protocol: str) -> None:
    """Nobody meets an item twice here, so that one in both is one event in both. A leak that is planted is found."""
    items = [f"item{number}" for number in range(12)]
    vocabulary = [("item", item, 2 + number, 9, None) for number, item in enumerate(items)]
    words = spark.createDataFrame(vocabulary, VOCABULARY.ddl)
    events = [(24.0 * place, item, "view", None, None) for place, item in enumerate(items)]
    sessions = sessions_of(spark, ("ann", events[:5]), ("ann", events[5:9]), ("ann", events[9:]))
    few = Bounds(valid_from=MONDAY + timedelta(days=5), test_from=MONDAY + timedelta(days=9), until=MONDAY + timedelta(days=12),
                 fitted_until=MONDAY + timedelta(days=5))  # fmt: skip
    rows = sequences.build(sessions, words, settings(protocol=protocol, refit=True, horizon="3d", every="1d"), few).cache()
    assert rows.where("next_items[0] >= 2").select("split").distinct().count() == 3
    assert leaked(rows).isEmpty()
    planted = rows.withColumn("item", F.concat(F.slice("item", 2, 3), F.slice("next_items", 1, 1)))  # a row cut one event too late
    assert leaked(planted).count() == rows.where("next_items[0] >= 2").count() > 3


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
    assert found.fitted_until == found.valid_from
    assert sequences.bounds(sessions, settings(valid_from=valid_from, test_from=test_from, refit=True)).fitted_until == found.test_from


def test_bounds_up_to_a_moment(spark: SparkSession) -> None:
    sessions = sessions_of(spark, ("ann", [(0, "tea", "view", None, None)]), ("ann", [(500.5, "tea", "view", None, None)]))
    found = sequences.bounds(sessions, settings(until=MONDAY + timedelta(days=14), valid_from="5d", test_from="2d", horizon="1d"))
    assert found.valid_from == MONDAY + timedelta(days=9)
    assert found.until == MONDAY + timedelta(days=14)


def test_leave_one_out_is_after_all_times(spark: SparkSession) -> None:
    sessions = sessions_of(spark, ("ann", [(0, "tea", "view", None, None)]), ("ann", [(1, "tea", "view", None, None)]))
    found = sequences.bounds(sessions, settings(protocol="leave_one_out"))
    assert set(vars(found).values()) == {MONDAY + timedelta(hours=1, microseconds=1)}


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
        [int(row.user_id) for row in sequences.shuffled(sequences.filed(rows.repartition(parts), wanted, 2), wanted).collect()]
        for parts, wanted in ((1, settings()), (5, settings()), (1, settings(seed=1)))
    ]
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == list(range(400))
    neighbours = [abs(one - other) for one, other in zip(orders[0], orders[0][1:], strict=False)]
    assert sum(neighbours) / len(neighbours) == pytest.approx(400 / 3, rel=0.15)  # as far apart as any two
    assert sequences.filed(rows, settings(), 2).rdd.getNumPartitions() == 16


def test_rows_are_built_in_the_partitions_that_they_are_filed_in(spark: SparkSession, words: DataFrame) -> None:
    """So that they need no shuffle of their own, which is much wider than that of sessions."""
    sessions = sessions_of(spark, *ANN, *[(f"user{number}", *ANN[0][1:]) for number in range(40)])
    built = sequences.build(sessions, words, settings(), BOUNDS, num_files=20).select("user_id")
    where = {row.user_id: row.place for row in built.withColumn("place", F.spark_partition_id()).collect()}
    filed = sequences.filed(built.distinct(), settings(), 20).withColumn("place", F.spark_partition_id())
    assert {row.user_id: row.place for row in filed.collect()} == where
    assert len(set(where.values())) > 5
