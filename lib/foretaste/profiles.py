"""What single users did, what is foretold of them, and why: a look into the tables, to see whether it makes sense."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F
from rich.table import Table as Grid

from foretaste.errors import TableError
from foretaste.settings import Settings
from foretaste.sources.pseudonyms import read_key
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.scores import SCORES

_MINUTE = "yyyy-MM-dd HH:mm"


@dataclass(frozen=True, kw_only=True)
class Event:
    """at: in UTC, to the minute; what: the item's name where it has one, else its id, else the campaign's; None of neither"""

    at: str
    kind: str
    what: str | None
    category: str | None
    price: float | None


@dataclass(frozen=True, kw_only=True)
class Foretold:
    """One target of one task, as of the newest scoring; fallback: popularity answers, since the user has no usable history"""

    task: str
    as_of: str
    rank: int
    target: str
    score: float
    reasons: Sequence[str]
    fallback: bool


@dataclass(frozen=True, kw_only=True)
class Profile:
    """events: the last ones, newest first; foretold: by task and rank."""

    user_id: str
    events: Sequence[Event]
    foretold: Sequence[Foretold]


def of_person(warehouse: Warehouse, settings: Settings, user: str, *, events: int, targets: int) -> Profile:
    """Of the user whom the shop calls so; TableError where nothing is known of nobody of that name."""
    users = warehouse.spark.createDataFrame([(user,)], "user_id string")
    if settings.privacy.pseudonyms:
        users = users.select(read_key(warehouse.spark, settings.privacy.pseudonyms.key).of(F.col("user_id")).alias("user_id"))
    [profile] = of_users(warehouse, users, events=events, targets=targets)
    if not profile.events and not profile.foretold:
        raise TableError("nothing is known of a user of that id", where=warehouse.path, fix="Give the id as the shop's own files have it.")
    return profile


def of_users(warehouse: Warehouse, users: DataFrame, *, events: int, targets: int) -> list[Profile]:
    """In the order of their ids. users: user_id, of a few"""
    ids = sorted(row.user_id for row in users.collect())
    few = F.broadcast(warehouse.spark.createDataFrame([(each,) for each in ids], "user_id string"))
    did = _events(warehouse.read(EVENTS).join(few, on="user_id"), events)
    told = _scores(warehouse.read(SCORES), few, targets) if warehouse.exists(SCORES) else []
    named = (
        {row.item_id for row in did} | {row.target.target_id for row in told} | {each for row in told for each in row.target.reasons or ()}
    )
    names = _names(warehouse, [each for each in named if each is not None])
    return [
        Profile(
            user_id=user,
            events=[
                Event(
                    at=row.at,
                    kind=row.event_type,
                    what=names.get(row.item_id, row.item_id) or row.campaign_id,
                    category=row.category,
                    price=row.price,
                )
                for row in did
                if row.user_id == user
            ],
            foretold=[
                Foretold(
                    task=row.task,
                    as_of=row.at,
                    rank=row.position + 1,
                    target=names.get(row.target.target_id, row.target.target_id),
                    score=row.target.score,
                    reasons=[names.get(each, each) for each in row.target.reasons or () if each],
                    fallback=row.fallback,
                )
                for row in told
                if row.user_id == user
            ],
        )
        for user in ids
    ]


def _events(of_few: DataFrame, number: int) -> list[Row]:
    newest = Window.partitionBy("user_id").orderBy(F.desc("event_time"), "event_id")
    rows = of_few.withColumn("place", F.row_number().over(newest)).where(F.col("place") <= number)
    columns = ("user_id", "event_type", "item_id", "campaign_id", "category", "price")
    return rows.orderBy("user_id", "place").select(*columns, F.date_format("event_time", _MINUTE).alias("at")).collect()


def _scores(scores: DataFrame, few: DataFrame, number: int) -> list[Row]:
    newest = scores.groupBy("task").agg(F.max("as_of").alias("as_of"))
    rows = scores.join(F.broadcast(newest), on=["task", "as_of"]).join(few, on="user_id")
    target = F.posexplode(F.slice("targets", 1, number)).alias("position", "target")
    columns = ("user_id", "task", F.date_format("as_of", _MINUTE).alias("at"), "fallback", target)
    return rows.select(*columns).orderBy("user_id", "task", "position").collect()


def _names(warehouse: Warehouse, ids: Sequence[str]) -> Mapping[str, str]:
    if not ids or not warehouse.exists(ITEMS):
        return {}
    asked = F.broadcast(warehouse.spark.createDataFrame([(each,) for each in ids], "item_id string"))
    rows = warehouse.read(ITEMS).where("name IS NOT NULL").join(asked, on="item_id").select("item_id", "name").collect()
    return {row.item_id: row.name for row in rows}


def shown(profile: Profile) -> Iterator[Grid]:
    """Two tables: what the user did, and what is foretold."""
    did = Grid(title=f"the last {len(profile.events)} events, times in UTC", title_justify="left")
    for heading, side in (("when", "left"), ("did", "left"), ("what", "left"), ("category", "left"), ("price", "right")):
        did.add_column(heading, justify=side)  # type: ignore[arg-type]
    for event in profile.events:
        price = "" if event.price is None else f"{event.price:,.2f}"
        did.add_row(event.at, event.kind, event.what or "", event.category or "", price)
    yield did
    if not profile.foretold:
        return
    told = Grid(title="what is foretold", title_justify="left")
    for heading, side in (("task", "left"), ("rank", "right"), ("target", "left"), ("score", "right"), ("why", "left"), ("as of", "left")):
        told.add_column(heading, justify=side)  # type: ignore[arg-type]
    for each in profile.foretold:
        why = "popularity: no usable history" if each.fallback else " · ".join(each.reasons)
        told.add_row(each.task, str(each.rank), each.target, f"{each.score:.3f}", why, each.as_of)
    yield told
