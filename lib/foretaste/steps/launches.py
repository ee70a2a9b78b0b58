"""Items that training never saw: when each was launched, who bought it, and how many of these buyers a model would have found before."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.functions import array_to_vector
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import DAY, PAD, SCALARS, WORDS_PER_ITEM
from foretaste.errors import SettingsError, TableError
from foretaste.evaluation.comparison import Comparison
from foretaste.evaluation.launches import BASELINES, FOUND, FOUND_SUMS, MOMENT, NUMBERED, PAIRS, SHARES, FoundSums, Pairs, metrics
from foretaste.evaluation.passes import NUM_JUDGED, NUM_LEFT_OUT, USER_HASH
from foretaste.models import Model
from foretaste.scoring.launches import ACTIVITY_FACTS, ACTIVITY_FEATURES, NUMBERS, NewItems
from foretaste.scoring.udf import load_scorer
from foretaste.settings import Settings
from foretaste.steps.judging import added, sequences_version
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse, items
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.scores import microseconds
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY

USERS_AT_ONCE = 256
CALIBRATION = "calibration_error"
_MOST_PAIRS = 2_000_000  # that the line is fitted to: of more, those who did not buy are drawn, and count for as many as they stand for
_REGULARISATION = 1e-6


@dataclass(frozen=True, kw_only=True)
class Launches:
    """Those of one split. by_moment: as evaluation.launches.Launched; buyers: item_id and USER_HASH, each once"""

    by_moment: dict[int, NewItems]
    buyers: DataFrame

    def __len__(self) -> int:
        return sum(len(new.ids) for new in self.by_moment.values())


def launches(warehouse: Warehouse, settings: Settings, split: str, vocabulary: int, days: int, version: int | None = None) -> Launches:
    """The items that were first seen in the split, at its last calendar moment before that: those which `days` are known of from then on,
    which are described, and which `evaluation.least_buyers` users bought in them. version: of `sequences`
    """
    rows = warehouse.read(SEQUENCES, version).where((F.col("split") == split) & (F.col("cut") == "calendar"))
    moments = sorted(row.moment for row in rows.select(F.unix_micros("as_of").alias("moment")).distinct().collect())
    if not moments:
        raise TableError(f"{split} time has no calendar moment", where="sequences", fix="Give the split more time.")
    told = _told(warehouse, settings)
    ends = moments[-1] + int(settings.sequences.horizon.total_seconds()) * 1_000_000
    known = F.array(*[F.lit(moment).cast("bigint") for moment in moments])
    first = told.groupBy("item_id").agg(F.min("time").alias("first"))
    moment = F.array_max(F.filter(known, lambda each: each <= F.col("first"))).alias(MOMENT)
    new = first.where(F.col("first") >= moments[0]).select("item_id", moment).where(F.col(MOMENT) + days * DAY <= ends)
    in_time = (F.col("time") >= F.col(MOMENT)) & (F.col("time") < F.col(MOMENT) + days * DAY)
    bought = told.where("is_sale").join(new, on="item_id", how="inner").where(in_time).select("item_id", USER_HASH).distinct()
    enough = bought.groupBy("item_id").count().where(F.col("count") >= settings.evaluation.least_buyers).select("item_id")
    described = _described(warehouse, new.join(enough, on="item_id", how="left_semi"), vocabulary)
    by_moment = {int(at): _new_items(part) for at, part in described.groupby(MOMENT)}
    judged = [name for found in by_moment.values() for name in found.ids]
    return Launches(by_moment=by_moment, buyers=bought.where(F.col("item_id").isin(judged)))


def fitted_line(
    warehouse: Warehouse, settings: Settings, load: Callable[[], Model], features: Sequence[str], versions: dict[str, int], days: int
) -> dict[str, float]:
    """The line through NUMBERS that says how likely a user buys a new item, from the launches of validation time; and their base_rate."""
    version = versions[SEQUENCES.name]
    found = launches(warehouse, settings, "valid", versions[VOCABULARY.name], days, version)
    if not len(found):
        raise SettingsError(
            f"no described item was launched in validation time, with {settings.evaluation.least_buyers} buyers in {days} days",
            where="evaluation.least_buyers",
            fix="Lower it or tasks.new_item.within, or give validation more time.",
        )
    pairs = Pairs(launched=found.by_moment, load=load, line=None, batch_size=USERS_AT_ONCE)
    users = _users(warehouse, "valid", found, features, version)
    num_pairs = sum(row["count"] * len(found.by_moment[row[MOMENT]].ids) for row in users.groupBy(MOMENT).count().collect())
    one_in = max(1, num_pairs // _MOST_PAIRS)
    numbered = users.mapInArrow(pairs, NUMBERED)
    told = numbered.join(found.buyers.withColumn("label", F.lit(1.0)), on=["item_id", USER_HASH], how="left").na.fill(0.0, ["label"])
    drawn = (F.col("label") == 1) | (F.pmod(F.xxhash64("item_id", USER_HASH), F.lit(one_in)) == 0)
    weight = F.when(F.col("label") == 1, 1.0).otherwise(float(one_in))
    rows = told.where(drawn).select(array_to_vector(F.col("numbers")).alias("features"), "label", weight.alias("weight")).persist()
    try:
        fitted = LogisticRegression(regParam=_REGULARISATION, maxIter=100, weightCol="weight").fit(rows)
        base_rate = rows.agg(F.sum(F.col("label") * F.col("weight")) / F.sum("weight")).head()[0]  # type: ignore[index]
    finally:
        rows.unpersist()
    return {
        **dict(zip(NUMBERS, (float(number) for number in fitted.coefficients.toArray()), strict=True)),
        "intercept": float(fitted.intercept),
        "base_rate": float(base_rate),
    }


def compared(warehouse: Warehouse, settings: Settings, model: StoredModel) -> list[Comparison]:
    """The model beside BASELINES, on the launches of test time."""
    assert model.launch is not None
    version, _ = sequences_version(warehouse, model)
    found = launches(warehouse, settings, "test", model.tables[VOCABULARY.name], model.sizes.days, version)
    if not len(found):
        raise TableError(
            f"no described item was launched in test time, with {settings.evaluation.least_buyers} buyers in {model.sizes.days} days",
            where="evaluation.least_buyers",
            fix="Lower it or tasks.new_item.within, or give the test more time.",
        )
    load = partial(_network, warehouse.path, model.name, model.version, USERS_AT_ONCE)
    pairs = Pairs(launched=found.by_moment, load=load, line=dict(model.launch), batch_size=USERS_AT_ONCE)
    replicates = settings.evaluation.bootstrap
    scored = _users(warehouse, "test", found, model.features, version).mapInArrow(pairs, PAIRS).persist()
    try:
        found_of = _found(scored, found.buyers, (model.name, *BASELINES))
        sums = added(found_of.mapInArrow(FoundSums(replicates=replicates, seed=settings.evaluation.seed), FOUND_SUMS), replicates)
        off = _calibration_error(scored, found.buyers)
    finally:
        scored.unpersist()
    if not sums:
        raise TableError("nobody who bought a new item was there before its launch", where=SEQUENCES.name, fix="Give the test more time.")
    return [
        Comparison(
            task=model.task,
            split="test",
            model=model.name,
            scorers={
                name: {
                    **metrics(sums[name]),
                    CALIBRATION: np.array([off if name == model.name else np.nan, *[np.nan] * replicates]),
                    NUM_JUDGED: sums[name][0],
                    NUM_LEFT_OUT: np.zeros_like(sums[name][0]),
                }
                for name in (model.name, *BASELINES)
            },
            headline=FOUND[0],
            lower_is_better=frozenset({CALIBRATION}),
            shown=(*FOUND, CALIBRATION),
        )
    ]


def _found(scored: DataFrame, buyers: DataFrame, names: Sequence[str]) -> DataFrame:
    """scorer, USER_HASH and, for each of SHARES, the chance that this buyer is among the best users of the item: of those who score alike
    at the border as many are taken as there is room for, at random. Borders of items with more users than 10,000 are near, not exact.
    """
    named = F.array(*map(F.lit, names))
    each = scored.select("item_id", USER_HASH, F.posexplode("scores").alias("place", "score"))
    quantiles = F.percentile_approx("score", F.array(*[F.lit(1 - share) for share in SHARES]), 10_000)
    by_item = each.groupBy("item_id", "place").agg(quantiles.alias("borders"), F.count("*").alias("users"))
    placed = each.join(by_item, on=["item_id", "place"], how="inner")
    border = [F.col("borders")[number] for number in range(len(SHARES))]
    counted = placed.groupBy("item_id", "place").agg(
        *[F.count_if(F.col("score") > border[number]).alias(f"above{number}") for number in range(len(SHARES))],
        *[F.count_if(F.col("score") == border[number]).alias(f"at{number}") for number in range(len(SHARES))],
    )
    of_buyers = placed.join(buyers, on=["item_id", USER_HASH], how="left_semi").join(counted, on=["item_id", "place"], how="inner")
    chance = [
        F.when(F.col("score") > border[number], 1.0)
        .when(
            F.col("score") == border[number],
            F.least(F.lit(1.0), F.greatest(F.lit(0.0), (F.ceil(F.col("users") * share) - F.col(f"above{number}")) / F.col(f"at{number}"))),
        )
        .otherwise(0.0)
        for number, share in enumerate(SHARES)
    ]
    return of_buyers.select(F.element_at(named, F.col("place") + 1).alias("scorer"), USER_HASH, F.array(*chance).alias("found"))


def _calibration_error(scored: DataFrame, buyers: DataFrame) -> float:
    """How far the model's chances are off, on average over users and items: in bins of half a unit of the logit."""
    bought = buyers.withColumn("bought", F.lit(1.0))
    told = scored.select("item_id", USER_HASH, F.col("scores")[0].alias("logit")).join(bought, on=["item_id", USER_HASH], how="left")
    chance = 1 / (1 + F.exp(-F.col("logit")))
    bins = told.groupBy(F.floor(2 * F.col("logit")).alias("bin")).agg(
        F.count("*").alias("pairs"), F.avg(chance).alias("foretold"), F.avg(F.coalesce("bought", F.lit(0.0))).alias("came")
    )
    off = F.sum(F.col("pairs") * F.abs(F.col("foretold") - F.col("came"))) / F.sum("pairs")
    return float(bins.agg(off).head()[0])  # type: ignore[index]


def _users(warehouse: Warehouse, split: str, found: Launches, features: Sequence[str], version: int) -> DataFrame:
    """Everybody at the moments of launches, as the model and the baselines read them."""
    read = dict.fromkeys(("item", *ACTIVITY_FEATURES, *features))
    at = F.unix_micros("as_of")
    rows = warehouse.read(SEQUENCES, version).where(
        (F.col("split") == split) & (F.col("cut") == "calendar") & at.isin(list(found.by_moment))
    )
    chosen = rows.select(F.xxhash64("user_id").alias(USER_HASH), at.alias(MOMENT), *SCALARS, *read, *ACTIVITY_FACTS)
    return chosen.repartition(rows.sparkSession.sparkContext.defaultParallelism, USER_HASH)


def asked(warehouse: Warehouse, settings: Settings, model: StoredModel, as_of: datetime) -> NewItems:
    """The items of `scoring.new_items`; else those that the model does not know, first seen in the days before `as_of` that it tells of."""
    if settings.scoring.new_items:
        return named_items(warehouse, settings.scoring.new_items, model.tables[VOCABULARY.name])
    now = microseconds(as_of)
    first = _told(warehouse, settings).groupBy("item_id").agg(F.min("time").alias(MOMENT))
    since = first.where((F.col(MOMENT) <= now) & (F.col(MOMENT) > now - model.sizes.days * DAY))
    known = warehouse.spark.createDataFrame([(name,) for name in model.item_ids() if name is not None], "item_id string")
    described = _described(warehouse, since.join(known, on="item_id", how="left_anti"), model.tables[VOCABULARY.name])
    if not len(described):
        raise SettingsError(
            f"no item was first seen in the {model.sizes.days} days before {as_of:%Y-%m-%d}",
            where="scoring.new_items",
            fix="Name those that are to be launched.",
        )
    return _new_items(described)


def _told(warehouse: Warehouse, settings: Settings) -> DataFrame:
    """item_id, USER_HASH, time and is_sale of the events that models can learn from: an item is new until the first of these."""
    sales, known = settings.sequences.activity, {*settings.sequences.event_types, *settings.sequences.activity}
    told = warehouse.read(EVENTS).where(F.col("event_type").isin(*sorted(known)) & F.col("item_id").isNotNull())
    moment = F.unix_micros("event_time").alias("time")
    return told.select("item_id", F.xxhash64("user_id").alias(USER_HASH), moment, F.col("event_type").isin(*sales).alias("is_sale"))


def named_items(warehouse: Warehouse, wanted: Sequence[str], vocabulary: int) -> NewItems:
    """The new items of these ids. SettingsError for one that is not described."""
    table = warehouse.spark.createDataFrame([(name, 0) for name in wanted], f"item_id string, {MOMENT} bigint")
    found = _new_items(_described(warehouse, table, vocabulary))
    missing = sorted(set(wanted) - set(found.ids))
    if missing:
        raise SettingsError(
            f"there is no item {missing[0]}", where="scoring.new_items", fix="Ingest its description first, by source.items."
        )
    return found


def _described(warehouse: Warehouse, new: DataFrame, vocabulary: int) -> Any:
    """item_id, MOMENT, words and the index of the category, by id: as large as the launches are, so that the driver can hold them."""
    known = warehouse.read(VOCABULARY, vocabulary).where("field = 'category'").select(F.col("value").alias("category"), F.col("index"))
    if not warehouse.exists(ITEMS):
        raise SettingsError("no item is described, so there is no content", where="source.items", fix="Ingest a file of items.")
    about = warehouse.read(ITEMS)
    words = items.content(about).where(F.size("words") > 0)
    joined = new.join(words, on="item_id", how="inner").join(about.select("item_id", "category"), on="item_id", how="inner")
    return joined.join(known, on="category", how="left").select("item_id", MOMENT, "words", "index").toPandas().sort_values("item_id")


def _new_items(described: Any) -> NewItems:
    words = np.full((len(described), WORDS_PER_ITEM), PAD, dtype=np.int32)
    for place, codes in enumerate(described["words"]):
        words[place, : len(codes)] = codes
    category: NDArray[np.int32] = described["index"].fillna(PAD).to_numpy().astype(np.int32)
    return NewItems(ids=tuple(described["item_id"]), words=words, category=category)


def _network(root: str, name: str, version: int, batch_size: int) -> Model:
    network = load_scorer(root, name, version, batch_size).network
    assert isinstance(network, Model)
    return network
