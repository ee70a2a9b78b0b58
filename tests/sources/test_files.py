"""kind files: the mapping from a file's columns to the event contract."""

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from foretaste.errors import SourceError
from foretaste.settings import EventColumns, ItemColumns, ItemFile, PromotionColumns, PromotionFile, SourceSettings, TimeFormat
from foretaste.sources import files, source_of_kind
from foretaste.tables import promotions

COLUMNS = EventColumns(user_id="user", item_id="item", event_time="at")


def write(tmp_path: Path, text: str, name: str = "events.csv") -> str:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_names_of_event_types_are_translated(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path, "user,item,at,what\n1,a,2020-01-01,seen\n1,a,2020-01-01,cart\n1,a,2020-01-01,\n")
    columns = COLUMNS.model_copy(update={"event_type": "what"})

    def types(settings: SourceSettings) -> list[str | None]:
        return [row.event_type for row in files.events(spark, settings).collect()]

    assert types(SourceSettings(path=path, columns=columns, event_types={"seen": "view"})) == ["view", None, None]
    assert types(SourceSettings(path=path, columns=columns)) == [None, "cart", None]
    assert (
        types(SourceSettings(path=path, columns=COLUMNS, event_types={"seen": "view"}, default_event_type="purchase")) == ["purchase"] * 3
    )


def test_every_field_its_file_and_its_record_are_there(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path, "u,i,t,o,s,p,q,c,k,e\n1,a,1577836800,250,s1,1.5,2,x>y>z,k1,e1\n")
    columns = EventColumns(
        user_id="u",
        item_id="i",
        event_time="t",
        time_offset="o",
        session_hint="s",
        price="p",
        quantity="q",
        category="c",
        campaign_id="k",
        event_id="e",
    )
    settings = SourceSettings(path=path, columns=columns, time=TimeFormat(format="seconds"), category_separator=">")
    raw = files.events(spark, settings)
    row = raw.withColumn("event_time", raw.event_time.cast("string")).collect()[0].asDict()
    assert row.pop("source_file").endswith("/events.csv")
    assert row == {
        "user_id": "1",
        "item_id": "a",
        "event_type": "view",
        "event_time": "2020-01-01 00:00:00.25",
        "session_hint": "s1",
        "price": "1.5",
        "quantity": "2",
        "category": "x/y/z",
        "campaign_id": "k1",
        "event_id": "e1",
        "record": "1,a,1577836800,250,s1,1.5,2,x>y>z,k1,e1",
        "corrupt_line": None,
        "extra": None,
    }


def test_an_exploded_record_has_an_event_id_for_each_element(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path, '{"user": "1", "at": "2020-01-01", "id": "e", "items": [{"item": "a"}, {"item": "b"}]}', "events.json")
    columns = EventColumns(user_id="user", item_id="items.item", event_time="at", event_id="id")
    raw = files.events(spark, SourceSettings(path=path, format="json", columns=columns, explode="items"))
    assert [(row.item_id, row.event_id) for row in raw.collect()] == [("a", "e#0"), ("b", "e#1")]


def test_items_come_from_a_file_of_their_own(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path, "id\ttitle\tgroup\n1\tTea\tdrinks.hot\n2\n", "items.tsv")
    item_file = ItemFile(path=path, format="tsv", columns=ItemColumns(item_id="id", name="title", category="group"))
    raw = files.items(spark, SourceSettings(path="x", columns=COLUMNS, items=item_file, category_separator="."))
    assert raw is not None
    assert [tuple(row) for row in raw.collect()] == [("1", "Tea", "drinks/hot", None, None), (None, None, None, None, None)]
    assert files.items(spark, SourceSettings(path="x", columns=COLUMNS)) is None


def test_an_item_file_at_fault_is_named_by_its_own_key(spark: SparkSession, tmp_path: Path) -> None:
    path = write(tmp_path, "id;title\n1;Tea\n", "items.csv")
    item_file = ItemFile(path=path, format="csv", columns=ItemColumns(item_id="id"))
    with pytest.raises(SourceError, match=r"Set source\.items\.options\.sep: ';'"):
        files.items(spark, SourceSettings(path="x", columns=COLUMNS, items=item_file))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (SourceSettings(columns=COLUMNS), r"needs a path \(source.path\)"),
        (SourceSettings(path="x.csv"), r"needs columns \(source.columns\)"),
        (SourceSettings(path="nowhere/events.csv", columns=COLUMNS), r"no such file, .* \(nowhere/events.csv\)\. Check the path"),
        (
            SourceSettings(path="nowhere/*.parquet", format="parquet", columns=COLUMNS),
            r"nothing matches the pattern \(nowhere/\*.parquet\)",
        ),
        (SourceSettings(path="nowhere/*.json", format="json", columns=COLUMNS), r"nothing matches the pattern"),
        (SourceSettings(path="x.csv", columns=COLUMNS, time=TimeFormat(format="iso8601")), r"source.time.format"),
    ],
)
def test_settings_that_cannot_work_are_refused(spark: SparkSession, settings: SourceSettings, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        files.events(spark, settings)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(SourceError, match=r"no kind of source is called 'file' .* Use one of files, completejourney"):
        source_of_kind("file")


def test_a_promotion_file(spark: SparkSession, tmp_path: Path) -> None:
    """What has a share that is none, or ends before it starts, is of no use; without a share it is everywhere."""
    path = write(
        tmp_path,
        "sku,how,from,to,shops\ntea,mailer,2024-01-01,2024-01-08,0.25\ntea,mailer,2024-02-01,2024-02-08,\n"
        "jam,mailer,2024-01-01,2024-01-08,most\njam,mailer,2024-01-08,2024-01-01,0.5\njam,mailer,2024-01-01,2024-01-08,7\n",
        "promotions.csv",
    )
    columns = PromotionColumns(item_id="sku", kind="how", starts_at="from", ends_at="to", share="shops")
    raw = files.promotions(spark, SourceSettings(promotions=PromotionFile(path=path, format="csv", columns=columns)))
    assert raw is not None
    rows = promotions.build(raw).selectExpr("item_id", "kind", "CAST(starts_at AS STRING)", "CAST(ends_at AS STRING)", "share").collect()
    assert sorted(tuple(row) for row in rows) == [
        ("tea", "mailer", "2024-01-01 00:00:00", "2024-01-08 00:00:00", 0.25),
        ("tea", "mailer", "2024-02-01 00:00:00", "2024-02-08 00:00:00", 1.0),
    ]
    assert files.promotions(spark, SourceSettings()) is None
    with pytest.raises(SourceError, match="files bring no promotions of their own"):
        files.promotions(spark, SourceSettings(promotions="own"))
