"""How far two sets of rows are apart in what they are made of: items, gaps, sessions, what follows what. Counted by Spark, of any size."""

from collections.abc import Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import PAD

_OF_EVENTS = ("item", "category", "price", "event", "gap", "hour", "weekday")
_PAIR = 1 << 31  # items are below it
_OUTCOMES = "array<struct<measure:string,outcome:bigint>>"


@dataclass(frozen=True, kw_only=True)
class Apart:
    """total_variation: half of the summed differences of shares, 0: the same, 1: nothing in common; jensen_shannon: in bits, alike."""

    total_variation: float
    jensen_shannon: float


def apart(one: DataFrame, other: DataFrame) -> Mapping[str, Apart]:
    """By measure: each of an event's features, `pair` (an item and the next), `session_length` (in events), and `length` (of the row)."""
    sides = _outcomes(one).withColumn("side", F.lit(0)).unionByName(_outcomes(other).withColumn("side", F.lit(1)))
    counts = sides.groupBy("measure", "outcome").agg(F.count_if(F.col("side") == 0).alias("p"), F.count_if(F.col("side") == 1).alias("q"))
    totals = counts.groupBy("measure").agg(F.sum("p").alias("all_p"), F.sum("q").alias("all_q"))
    shares = counts.join(F.broadcast(totals), on="measure").select(
        "measure", (F.col("p") / F.col("all_p")).alias("p"), (F.col("q") / F.col("all_q")).alias("q")
    )
    middle = (F.col("p") + F.col("q")) / 2

    def relative(share: str) -> F.Column:  # type: ignore[name-defined]
        return F.when(F.col(share) > 0, F.col(share) * F.log2(F.col(share) / middle)).otherwise(0.0)

    distances = shares.groupBy("measure").agg(
        (F.sum(F.abs(F.col("p") - F.col("q"))) / 2).alias("total_variation"),
        (F.sum(relative("p") + relative("q")) / 2).alias("jensen_shannon"),
    )
    return {
        row.measure: Apart(total_variation=row.total_variation, jensen_shannon=row.jensen_shannon)
        for row in distances.orderBy("measure").collect()
    }


def distinct_share(rows: DataFrame) -> float:
    """The share of rows whose items no other row has, in the same order."""
    found = rows.groupBy(F.xxhash64("item")).count().agg(F.count_if(F.col("count") == 1), F.sum("count")).head()
    assert found is not None
    return float(found[0]) / max(1.0, float(found[1] or 0))


def out_of_range(rows: DataFrame, sizes: Mapping[str, int]) -> int:
    """Codes of events that their feature does not have, 0 among them; sizes: how many codes each feature has, with 0."""
    wrong = [
        f"size(filter(slice({name}, size({name}) - length + 1, length), code -> code < 1 or code >= {size}))"
        for name, size in sizes.items()
    ]
    padded = [f"size(filter(slice({name}, 1, size({name}) - length), code -> code != {PAD}))" for name in sizes]
    found = rows.agg(F.sum(F.expr(" + ".join([*wrong, *padded])))).head()
    return int(found[0] or 0) if found else 0


def _outcomes(rows: DataFrame) -> DataFrame:
    """(measure, outcome): a line for each thing that is counted."""
    known = f"filter(item, code -> code != {PAD})"
    opens = "filter(sequence(1, size(opens_session)), place -> opens_session[place - 1] = 2)"
    of_row = [
        *(f"transform(filter({name}, code -> code != {PAD}), code -> struct('{name}', bigint(code)))" for name in _OF_EVENTS),
        "array(struct('length', bigint(length)))",
        f"transform(slice(_known, 2, size(_known)), (code, place) -> struct('pair', bigint(_known[place]) * {_PAIR} + code))",
        "transform(slice(_opens, 2, size(_opens)), (place, before) -> struct('session_length', bigint(place - _opens[before])))",
    ]
    each = ", ".join(f"cast({outcomes} as {_OUTCOMES})" for outcomes in of_row)
    prepared = rows.withColumn("_known", F.expr(known)).withColumn("_opens", F.expr(opens))
    return prepared.select(F.explode(F.expr(f"concat({each})")).alias("each")).select("each.measure", "each.outcome")
