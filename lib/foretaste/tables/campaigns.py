"""campaigns: what the shop asked its users to take part in, and what it was about."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import CODED_FACTS, DAY
from foretaste.tables.contacts import Campaigns
from foretaste.tables.table import Column, Table

CAMPAIGNS = Table(
    name="campaigns",
    comment="One row per campaign that a source describes",
    columns=(
        Column(name="campaign_id", type="string", comment="the shop's own campaign id", required=True),
        Column(name="kind", type="string", comment="what sort of campaign it is"),
        Column(name="starts_at", type="timestamp", comment="when it starts, UTC", required=True),
        Column(name="ends_at", type="timestamp", comment="when it is over, UTC", required=True),
        Column(name="items", type="array<string>", comment="the shop's ids of the items that it is about, rising", required=True),
    ),
    key=("campaign_id",),
    checks={"ends_after_start": "ends_at >= starts_at"},
)


def is_useful() -> SparkColumn:
    """Whether a raw row has an id, and a start and an end in this order; false rather than null."""
    return F.coalesce((F.trim("campaign_id") != "") & (F.col("ends_at") >= F.col("starts_at")), F.lit(False))


def build(raw: DataFrame) -> DataFrame:
    """One row per campaign, from campaign_id and kind as text, starts_at and ends_at, and an item_id: a row for each item, or a null one.

    What has no id, or no start and end in this order, is left out.
    """
    described = raw.where(is_useful())
    by_campaign = described.groupBy(F.trim("campaign_id").alias("campaign_id"))
    return CAMPAIGNS.select(
        by_campaign.agg(
            F.min("kind").alias("kind"),
            F.min("starts_at").alias("starts_at"),
            F.max("ends_at").alias("ends_at"),
            F.array_sort(F.collect_set("item_id")).alias("items"),
        )
    )


def described(campaigns: DataFrame, items: DataFrame, vocabulary: DataFrame, controlled: Iterable[str] = ()) -> Campaigns:
    """The campaigns in the vocabulary's numbers, by id: as large as they and the items that they are about.

    controlled: ids of those that left users out at random
    items: the table; without rows, campaigns are about no category. Kinds are numbered as they first came, so that a new one moves none.
    """
    moments = (F.unix_micros("starts_at").alias("starts"), F.unix_micros("ends_at").alias("ends"))
    plain = campaigns.select("campaign_id", "kind", *moments).toPandas().sort_values("campaign_id")
    about = campaigns.select("campaign_id", F.explode("items").alias("item_id"))
    in_categories = about.join(items.select("item_id", "category"), on="item_id", how="inner")
    listed = [_indices(about, "item_id", vocabulary, "item"), _indices(in_categories, "category", vocabulary, "category")]
    ids = plain["campaign_id"].tolist()
    nothing = np.zeros(0, dtype=np.int32)
    wanted = [tuple(of_field.get(name, nothing) for name in ids) for of_field in listed]
    return Campaigns(
        ids=tuple(ids),
        kind=_kinds(plain),
        days=np.ceil((plain["ends"] - plain["starts"]) / DAY).to_numpy(dtype=np.int32),
        ends=plain["ends"].to_numpy(dtype=np.int64),
        items=wanted[0],
        categories=wanted[1],
        has_control=plain["campaign_id"].isin(list(controlled)).to_numpy(dtype=np.bool_),
    )


def _indices(about: DataFrame, column: str, vocabulary: DataFrame, field: str) -> pd.Series:
    """Campaign id → the rising indices of the different values of a column that the vocabulary has in that field."""
    known = vocabulary.where(F.col("field") == field).select(F.col("value").alias(column), "index")
    found = about.select("campaign_id", column).distinct().join(known, on=column, how="inner").toPandas()
    return found.groupby("campaign_id")["index"].apply(lambda index: np.sort(index.to_numpy(dtype=np.int32)))


def _kinds(plain: pd.DataFrame) -> NDArray[np.int32]:
    """(C,): 1, 2, … in the order in which kinds first came; 0 without one, and for those past the last code."""
    first = plain.dropna(subset="kind").groupby("kind")["starts"].min().reset_index().sort_values(["starts", "kind"])
    code = {kind: place for place, kind in enumerate(first["kind"], start=1) if place < CODED_FACTS["campaign_kind"]}
    return np.array([code.get(kind, 0) for kind in plain["kind"]], dtype=np.int32)
