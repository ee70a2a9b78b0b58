"""The ready mappings in conf/, each on a few lines written here in the public format that it is for."""

from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.settings import Settings, load
from foretaste.sources import files
from foretaste.sources.judge import judge

CONF = Path(__file__).parents[2] / "conf"
SHOWN = ("user_id", "item_id", "event_type", "event_time", "session_hint", "price", "quantity", "category", "campaign_id")


def verdicts(spark: SparkSession, tmp_path: Path, name: str, text: str, *overrides: str) -> DataFrame:
    path = tmp_path / "events"
    path.write_text(text, encoding="utf-8")
    settings: Settings = load(CONF / f"{name}.yaml", [f"source.path={path}", *overrides])
    latest = settings.ingest.earliest.replace(year=2030)
    return judge(files.events(spark, settings.source), settings.source.name, settings.ingest.earliest, latest)


def told(judged: DataFrame) -> list[tuple[object, ...]]:
    """The events in the file's order, without the columns that are null in all of them."""
    rows = judged.where("reason IS NULL").withColumn("event_time", F.col("event_time").cast("string"))
    collected = rows.select(*SHOWN).collect()
    filled = [name for name in SHOWN if any(row[name] is not None for row in collected)]
    return [tuple(row[name] for name in filled) for row in collected]


def refused(judged: DataFrame) -> list[str]:
    return [row.reason for row in judged.where("reason IS NOT NULL").collect()]


def test_clicks(spark: SparkSession, tmp_path: Path) -> None:
    judged = verdicts(spark, tmp_path, "clicks", "SessionId\tItemId\tTime\n3\t214716935\t1396437466.94\n3\t214832672\t1396438212\n")
    assert told(judged) == [
        ("3", "214716935", "view", "2014-04-02 11:17:46.94", "3"),
        ("3", "214832672", "view", "2014-04-02 11:30:12", "3"),
    ]


def test_yoochoose(spark: SparkSession, tmp_path: Path) -> None:
    judged = verdicts(spark, tmp_path, "yoochoose", "SessionId\tItemId\tTime\n3\t214716935\t1396437466.94\n")
    assert told(judged) == [("3", "214716935", "view", "2014-04-02 11:17:46.94", "3")]


def test_beauty(spark: SparkSession, tmp_path: Path) -> None:
    judged = verdicts(spark, tmp_path, "beauty", "1 1 2\n2 6\n")
    seconds = [f"2001-01-01 00:00:0{second}" for second in (0, 1, 0)]
    assert told(judged) == [(user, item, "view", at) for user, item, at in zip("112", "126", seconds, strict=True)]


def test_retailrocket(spark: SparkSession, tmp_path: Path) -> None:
    lines = (
        "timestamp,visitorid,event,itemid,transactionid\n"
        "1433221332117,257597,view,355908,\n"
        "1433221999827,257597,addtocart,355908,\n"
        "1433222276276,257597,transaction,355908,4000\n"
        "1433222276276,,view,355908,\n"
    )
    judged = verdicts(spark, tmp_path, "retailrocket", lines)
    assert told(judged) == [
        ("257597", "355908", "view", "2015-06-02 05:02:12.117"),
        ("257597", "355908", "cart", "2015-06-02 05:13:19.827"),
        ("257597", "355908", "purchase", "2015-06-02 05:17:56.276"),
    ]
    assert refused(judged) == ["no_user"]


def test_rees46(spark: SparkSession, tmp_path: Path) -> None:
    lines = (
        "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n"
        "2019-10-01 00:00:00 UTC,view,44600062,2103807459595387724,,shiseido,35.79,541312140,72d76fde\n"
        "2019-10-01 00:00:01 UTC,remove_from_cart,3900821,2053013552326,appliances.environment.water_heater,aqua,33.20,541312140,72d76fde\n"
        "2019-10-01 00:00:02 UTC,refund,3900821,2053013552326770905,,aqua,33.20,541312140,72d76fde\n"
    )
    judged = verdicts(spark, tmp_path, "rees46", lines)
    assert told(judged) == [
        ("541312140", "44600062", "view", "2019-10-01 00:00:00", "72d76fde", 35.79, None),
        ("541312140", "3900821", "remove", "2019-10-01 00:00:01", "72d76fde", 33.2, "appliances/environment/water_heater"),
    ]
    assert refused(judged) == ["unknown_event_type"]


def test_diginetica(spark: SparkSession, tmp_path: Path) -> None:
    lines = (
        "sessionId;userId;itemId;timeframe;eventdate\n1;NA;81766;526309;2016-05-09\n1;NA;31331;1031018;2016-05-09\n1;NA;32118;;2016-05-09\n"
    )
    judged = verdicts(spark, tmp_path, "diginetica", lines)
    assert told(judged) == [
        ("1", "81766", "view", "2016-05-09 00:08:46.309", "1"),
        ("1", "31331", "view", "2016-05-09 00:17:11.018", "1"),
    ]
    assert refused(judged) == ["unparsable_time"]


def test_ga4(spark: SparkSession, tmp_path: Path) -> None:
    head = (
        '{"event_date": "20210131", "event_timestamp": "1612069510766593", "user_pseudo_id": "1026454.4271112504", "geo": {"country": "US"}'
    )
    lines = [
        f'{head}, "event_name": "page_view", "items": []}}',
        f'{head}, "event_name": "purchase", "ecommerce": {{"total_item_quantity": "3"}}, "items": ['
        '{"item_id": "9196", "item_name": "Tee", "item_category": "Apparel", "price": 20.0, "quantity": "2"}, '
        '{"item_id": "9180", "price": 7.5}]}',
        f'{head}, "event_name": "view_promotion", "items": [{{"promotion_id": "spring"}}]}}',
        f'{head}, "event_name": "view_item", "items": []}}',
        f'{head}, "event_name": "file_download"}}',
    ]
    judged = verdicts(spark, tmp_path, "ga4", "\n".join(lines))
    who, when = "1026454.4271112504", "2021-01-31 05:05:10.766593"
    assert told(judged) == [
        (who, None, "other", when, None, None, None, None),
        (who, "9196", "purchase", when, 20.0, 2.0, "Apparel", None),
        (who, "9180", "purchase", when, 7.5, None, None, None),
        (who, None, "exposure", when, None, None, None, "spring"),
    ]
    assert refused(judged) == ["no_item", "unknown_event_type"]


@pytest.mark.parametrize("with_types", [True, False])
def test_personalize(spark: SparkSession, tmp_path: Path, with_types: bool) -> None:
    if with_types:
        lines, overrides = "USER_ID,ITEM_ID,TIMESTAMP,EVENT_TYPE,EVENT_VALUE\n35,73,1586731606,Watch,0.5\n", []
    else:
        lines, overrides = "USER_ID,ITEM_ID,TIMESTAMP\n35,73,1586731606\n", ["source.columns.event_type=null"]
    judged = verdicts(spark, tmp_path, "personalize", lines, *overrides)
    assert told(judged) == [("35", "73", "start" if with_types else "view", "2020-04-12 22:46:46")]
