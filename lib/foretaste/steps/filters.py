"""What the settings leave out of a task's targets, as the scorer takes it: which items for all users, which for one."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import FIRST_INDEX
from foretaste.errors import SettingsError
from foretaste.scoring.filters import Filters
from foretaste.scoring.udf import LEFT_OUT
from foretaste.settings import FilterSettings
from foretaste.sources.reading import faults_of, missing
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse
from foretaste.tables.items import ITEMS
from foretaste.tables.scores import microseconds

_WHERE = "scoring.filters"


@dataclass(frozen=True, kw_only=True)
class Filtering:
    """filters: for all users; rows: the histories, with the items that each is not to be shown; note: what was left out, and how much"""

    filters: Filters
    rows: DataFrame
    note: str


def filtering(
    warehouse: Warehouse, chosen: FilterSettings, histories: DataFrame, sessions: DataFrame, model: StoredModel, as_of: datetime
) -> Filtering:
    """For a model that ranks items. SettingsError for a category that no item has, and where nothing is left; SourceError for a stock file
    that is none.

    What comes to the driver is as large as the vocabulary.
    """
    of_items = {"categories", "not_categories", "price_from", "price_to", "most_per_category"}
    ids = pd.DataFrame({"item_id": model.item_ids()[FIRST_INDEX:]})
    items = described(warehouse, sessions, ids, as_of) if of_items & set(chosen.given) else ids.assign(category=None, price=np.nan)
    closed: dict[str, NDArray[np.bool_]] = {}
    if chosen.categories:
        closed["of other categories"] = ~_below(items["category"], chosen.categories, "categories")
    if chosen.not_categories:
        closed["of unwanted categories"] = _below(items["category"], chosen.not_categories, "not_categories")
    if chosen.price_from is not None or chosen.price_to is not None:
        low, high = chosen.price_from or 0.0, np.inf if chosen.price_to is None else chosen.price_to
        closed["by price"] = ~items["price"].between(low, high).to_numpy()
    if chosen.in_stock is not None:
        closed["out of stock"] = ~items["item_id"].isin(_in_stock(warehouse, chosen.in_stock)).to_numpy()
    together = np.zeros(model.sizes.num_items, dtype=np.bool_)
    for of_one in closed.values():
        together[FIRST_INDEX:] |= of_one
    num_closed, num_items = int(together.sum()), len(items)
    if num_closed == num_items:
        raise SettingsError(f"all {num_items:,} items are left out", where=_WHERE, fix="Loosen one of its settings.")
    parts = [f"{int(of_one.sum()):,} {name}" for name, of_one in closed.items()]
    notes = [f"{num_closed:,} of {num_items:,} items are left out for all" + (f" ({', '.join(parts)})" if parts else "")]
    rows = histories
    if chosen.bought is not None:
        rows = histories.join(bought(sessions, chosen, items, as_of), on="user_id", how="left")
        notes.append(f"what a user bought within {_days(chosen)} is left out for that user")
    if chosen.most_per_category is not None:
        notes.append(f"at most {chosen.most_per_category} of a category")
    category = np.zeros(model.sizes.num_items, dtype=np.int64)
    category[FIRST_INDEX:] = pd.factorize(items["category"])[0]  # those without one share a number, -1
    filters = Filters(closed=together, category=category, most_per_category=chosen.most_per_category)
    return Filtering(filters=filters, rows=rows, note="; ".join(notes))


def described(warehouse: Warehouse, sessions: DataFrame, ids: pd.DataFrame, as_of: datetime) -> pd.DataFrame:
    """item_id, category and price of these `ids`, in their order: as the table items has them, else as the newest event up to as_of did."""
    known = warehouse.spark.createDataFrame(ids, "item_id string")
    event = _events(sessions, as_of, ("item_id", "category", "price")).join(F.broadcast(known), on="item_id", how="left_semi")
    newest = event.groupBy("item_id").agg(
        *(F.max_by(name, F.when(F.col(name).isNotNull(), F.col("event_time"))).alias(name) for name in ("category", "price"))
    )
    if warehouse.exists(ITEMS):
        listed = warehouse.read(ITEMS).select("item_id", *(F.col(name).alias(f"_{name}") for name in ("category", "price")))
        newest = known.join(newest, on="item_id", how="left").join(listed, on="item_id", how="left")
        newest = newest.select("item_id", *(F.coalesce(f"_{name}", name).alias(name) for name in ("category", "price")))
    return ids.merge(newest.toPandas(), on="item_id", how="left")


def bought(sessions: DataFrame, chosen: FilterSettings, items: pd.DataFrame, as_of: datetime) -> DataFrame:
    """(user_id, LEFT_OUT): the vocabulary indices of what each user bought in that time."""
    assert chosen.bought is not None
    numbered = pd.DataFrame({"item_id": items["item_id"], "index": np.arange(len(items), dtype=np.int32) + FIRST_INDEX})
    index = sessions.sparkSession.createDataFrame(numbered, "item_id string, index int")
    since = microseconds(as_of - chosen.bought)
    recent = sessions.where(F.unix_micros("ended_at") > since)
    event = _events(recent, as_of, ("user_id", "item_id", "event_type")).where(F.unix_micros("event_time") > since)
    purchase = event.where(F.col("event_type").isin(*chosen.bought_types))
    return purchase.join(F.broadcast(index), on="item_id", how="inner").groupBy("user_id").agg(F.collect_set("index").alias(LEFT_OUT))


def _events(sessions: DataFrame, as_of: datetime, columns: Iterable[str]) -> DataFrame:
    """Events up to as_of, with their time."""
    arrays = [name for name in ("event_time", *columns) if name != "user_id"]
    own = [name for name in columns if name == "user_id"]
    event = sessions.select(*own, F.explode(F.arrays_zip(*arrays)).alias("event")).select(*own, "event.*")
    return event.where(F.unix_micros("event_time") <= microseconds(as_of))


def _below(category: pd.Series, paths: Iterable[str], setting: str) -> NDArray[np.bool_]:
    """(items,): of one of these paths, or of one below it. SettingsError for a path that no item has."""
    found = np.zeros(len(category), dtype=np.bool_)
    text = category.fillna("")
    for path in paths:
        of_path = ((text == path) | text.str.startswith(f"{path}/")).to_numpy()
        if not of_path.any():
            whole = sorted({"/".join(each.split("/")[: place + 1]) for each in set(text) for place in range(each.count("/") + 1)})
            close = difflib.get_close_matches(path, whole, n=3)
            raise SettingsError(
                f"no item that the model knows has the category {path!r}",
                where=f"{_WHERE}.{setting}",
                fix=f"Did you mean {' or '.join(close)}?" if close else "Name a path such as those in events.category.",
            )
        found |= of_path
    return found


def _in_stock(warehouse: Warehouse, path: str) -> set[str]:
    """The ids in a file of items that are there; as large as the catalogue."""
    reader = warehouse.spark.read
    with faults_of(path):
        rows = reader.parquet(path) if path.rstrip("/").endswith(".parquet") else reader.csv(path, header=True)
        if "item_id" not in rows.columns:
            raise missing({"item_id": "item_id"}, rows.columns, path, f"{_WHERE}.in_stock")
        return {row.item_id for row in rows.select(F.col("item_id").cast("string")).distinct().collect()}


def _days(chosen: FilterSettings) -> str:
    assert chosen.bought is not None
    days = chosen.bought.total_seconds() / 86_400
    return f"{days:g} days" if days != 1 else "a day"
