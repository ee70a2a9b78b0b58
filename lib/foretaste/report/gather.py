"""What the report tells, read from the tables and the models: whatever grows with the data is summed up by Spark first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import ModelError
from foretaste.evaluation.judge import CURVE
from foretaste.evaluation.launches import FOUND
from foretaste.profiles import Profile, of_users
from foretaste.settings import Settings
from foretaste.steps.judging import judge_of
from foretaste.steps.launches import CALIBRATION
from foretaste.stored_model import StoredModel
from foretaste.tables import TABLES, Warehouse
from foretaste.tables.demand import DEMAND
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.metrics import METRICS
from foretaste.tables.quarantine import QUARANTINE
from foretaste.tables.scores import SCORES
from foretaste.tables.sessions import SESSIONS
from foretaste.tasks import TASKS, Task

_EVENTS_OF_AN_EXAMPLE, _TARGETS_OF_AN_EXAMPLE = 8, 3
_DAYS_BEFORE = 28  # of demand as it was, beside what is foretold


@dataclass(frozen=True, kw_only=True)
class Compared:
    """One task's last evaluation on test rows.

    table: model, metric, value, low, high, num_rows of the model and its baselines; differences: the same of the headline, `A minus B`
    curves: model, metric and value of each point; before: the headline of the run before, NaN without any
    """

    task: str
    question: str
    model: str
    run_at: datetime
    headline: str
    lower_is_better: bool
    shown: Sequence[str]
    table: pd.DataFrame
    differences: pd.DataFrame
    curves: pd.DataFrame
    before: float


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Everything on the page. A frame without rows is one whose table is not there, or empty.

    totals: name → number; daily: day, event_type, events; kinds: event_type, events, users, last week's events and those of the week before
    refused: reason, records; freshness: table, rows, last written, by what, rows at the last report
    lengths, visits: a power of two and how many sessions or users have that many events or sessions, up to its double
    past, foretold: series_id, name, day and units; mean and quantiles
    figures: what the next report compares itself with; since: when the last one was made; lacking: tables that are not there
    """

    title: str
    made_at: datetime
    release: str
    totals: Mapping[str, Any]
    daily: pd.DataFrame
    kinds: pd.DataFrame
    refused: pd.DataFrame
    freshness: pd.DataFrame
    lengths: pd.DataFrame
    visits: pd.DataFrame
    session: Mapping[str, float]
    models: Sequence[StoredModel]
    compared: Sequence[Compared]
    past: pd.DataFrame
    foretold: pd.DataFrame
    scored: pd.DataFrame
    examples: Sequence[Profile]
    figures: Mapping[str, Any]
    since: str | None
    rows: Mapping[str, int] = field(default_factory=dict)
    lacking: Sequence[str] = ()


def gathered(warehouse: Warehouse, settings: Settings, before: Mapping[str, Any] | None) -> Facts:
    """before: the figures of the last report."""
    there = {table.name for table in TABLES.values() if warehouse.exists(table)}
    counts = {name: warehouse.read(TABLES[name]).count() for name in TABLES if name in there}
    of_table = _reader(warehouse, there)
    events, sessions = of_table(EVENTS), of_table(SESSIONS)
    models = _champions(warehouse, settings)
    made_at = datetime.now(UTC)
    then = (before or {}).get("rows", {})
    kinds = _kinds(events)
    past, foretold = _demand(of_table(DEMAND), events, of_table(ITEMS), settings)
    return Facts(
        title=settings.source.name,
        made_at=made_at,
        release=registry.code_version(),
        totals=_totals(events, counts),
        daily=_daily(events),
        kinds=kinds,
        refused=_refused(of_table(QUARANTINE)),
        freshness=_freshness(warehouse, counts, then),
        lengths=_doublings(sessions.select(F.col("num_events").alias("number"))),
        visits=_doublings(sessions.groupBy("user_id").agg(F.count("*").alias("number"))),
        session=_session(sessions),
        models=models,
        compared=_compared(of_table(METRICS), settings, models),
        past=past,
        foretold=foretold,
        scored=_scored(of_table(SCORES)),
        examples=_examples(warehouse, of_table(SCORES), settings) if {EVENTS.name, SCORES.name} <= there else (),
        figures={"made_at": f"{made_at:%Y-%m-%d %H:%M} UTC", "rows": counts},
        since=(before or {}).get("made_at"),
        rows=counts,
        lacking=[table.name for table in (EVENTS, SESSIONS, METRICS, SCORES) if table.name not in there],
    )


def _reader(warehouse: Warehouse, there: set[str]) -> Any:
    def read(table: Any) -> DataFrame:
        """The table, or one without rows where it is not there yet."""
        return warehouse.read(table) if table.name in there else warehouse.spark.createDataFrame([], table.ddl)

    return read


def _totals(events: DataFrame, counts: Mapping[str, int]) -> dict[str, Any]:
    day = "yyyy-MM-dd"
    found = events.agg(
        F.countDistinct("user_id").alias("users"),
        F.countDistinct("item_id").alias("items"),
        F.date_format(F.min("event_time"), day).alias("first"),
        F.date_format(F.max("event_time"), f"{day} HH:mm").alias("last"),
    ).head()
    assert found is not None
    return {**found.asDict(), **{name: counts.get(name, 0) for name in ("events", "events_quarantine", "sessions", "sequences")}}


def _daily(events: DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = events.groupBy(F.to_date("event_time").alias("day"), "event_type").agg(F.count("*").alias("events")).toPandas()
    return found


def _kinds(events: DataFrame) -> pd.DataFrame:
    week = 7 * 86_400
    last = events.agg(F.max(F.unix_seconds("event_time"))).head()[0] or 0  # type: ignore[index]
    ago = F.lit(last) - F.unix_seconds("event_time")
    found: pd.DataFrame = (
        events.groupBy("event_type")
        .agg(
            F.count("*").alias("events"),
            F.countDistinct("user_id").alias("users"),
            F.count_if(ago < week).alias("last_week"),
            F.count_if((ago >= week) & (ago < 2 * week)).alias("week_before"),
        )
        .orderBy(F.desc("events"))
        .toPandas()
    )
    return found


def _refused(quarantine: DataFrame) -> pd.DataFrame:
    found: pd.DataFrame = quarantine.groupBy("reason").agg(F.count("*").alias("records")).orderBy(F.desc("records")).toPandas()
    return found


def _freshness(warehouse: Warehouse, counts: Mapping[str, int], then: Mapping[str, int]) -> pd.DataFrame:
    rows = []
    for name, count in counts.items():
        written = F.date_format("timestamp", "yyyy-MM-dd HH:mm").alias("written")
        last = warehouse.delta(TABLES[name]).history(1).select("version", written, "operation").head()
        assert last is not None
        rows.append((name, count, then.get(name), last.version, last.written, last.operation.lower()))
    return pd.DataFrame(rows, columns=["table", "rows", "then", "version", "written", "by"])


def _doublings(numbers: DataFrame) -> pd.DataFrame:
    power = F.pow(F.lit(2.0), F.floor(F.log2("number"))).cast("bigint").alias("from")
    found: pd.DataFrame = numbers.groupBy(power).agg(F.count("*").alias("count")).orderBy("from").toPandas()
    return found


def _session(sessions: DataFrame) -> dict[str, float]:
    minutes = (F.unix_seconds("ended_at") - F.unix_seconds("started_at")) / 60
    found = sessions.agg(
        F.percentile_approx("num_events", 0.5).alias("median_events"),
        F.percentile_approx("num_events", 0.9).alias("events_of_a_long_one"),
        F.percentile_approx(minutes, 0.5).alias("median_minutes"),
        F.countDistinct("user_id").alias("users"),
        F.count("*").alias("sessions"),
    ).head()
    assert found is not None
    return {name: value or 0 for name, value in found.asDict().items()}


def _champions(warehouse: Warehouse, settings: Settings) -> list[StoredModel]:
    found = []
    for name in settings.tasks:
        try:
            found.append(registry.load(warehouse.path, name))
        except ModelError:  # none yet, or none that can be read: the report tells of the others
            continue
    return found


def _compared(metrics: DataFrame, settings: Settings, models: Sequence[StoredModel]) -> list[Compared]:
    newest = Window.partitionBy("task").orderBy(F.desc("run_at"))
    rows = metrics.where((F.col("split") == "test") & (F.col("segment") == "all")).withColumn("age", F.dense_rank().over(newest))
    every = rows.where("age <= 2").withColumn("run_at", F.unix_seconds("run_at")).toPandas()
    found = []
    for model in models:
        task = TASKS[model.task]
        headline, shown, lower_is_better = _measures(settings, task)
        own = every[(every.task == model.task) & (every.age == 1)]
        if own.empty:
            continue
        is_curve, is_difference = own.metric.str.contains(CURVE), own.model.str.contains(" minus ")
        table = own[~is_curve & ~is_difference]
        earlier = every[(every.task == model.task) & (every.age == 2) & (every.model == model.name) & (every.metric == headline)]
        found.append(
            Compared(
                task=model.task,
                question=task.question,
                model=model.name,
                run_at=datetime.fromtimestamp(int(own.run_at.iloc[0]), UTC),
                headline=headline,
                lower_is_better=headline in lower_is_better,
                shown=[name for name in shown if (table.metric == name).any()],
                table=table,
                differences=own[is_difference & (own.metric == headline)],
                curves=own[is_curve & (own.model == model.name)],
                before=float(earlier.value.iloc[0]) if len(earlier) else float("nan"),
            )
        )
    return found


def _measures(settings: Settings, task: Task) -> tuple[str, Sequence[str], frozenset[str]]:
    """The metric that decides, those that a person reads first, and those that are errors."""
    if task.metrics == "launches":
        return FOUND[0], (*FOUND, CALIBRATION), frozenset({CALIBRATION})
    judge = judge_of(settings, task)
    return judge.headline, judge.shown, judge.lower_is_better


def _demand(demand: DataFrame, events: DataFrame, items: DataFrame, settings: Settings) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Of the series with most units foretold: how many were asked for on the days before, and what is foretold."""
    newest = demand.agg(F.max("as_of").alias("as_of"))
    of_run = demand.join(F.broadcast(newest), on="as_of")
    largest = (
        of_run.groupBy("series_id").agg(F.sum("mean").alias("whole")).orderBy(F.desc("whole"), "series_id").limit(settings.report.series)
    )
    names = items.select(F.col("item_id").alias("series_id"), "name")
    chosen = largest.join(names, on="series_id", how="left").select("series_id", "whole", F.coalesce("name", "series_id").alias("name"))
    foretold = (
        of_run.join(F.broadcast(chosen), on="series_id")
        .select("series_id", "name", "whole", "day", "mean", "quantiles", "as_of")
        .toPandas()
    )
    if foretold.empty:
        return pd.DataFrame(columns=["series_id", "day", "units"]), foretold
    series = F.col("item_id") if settings.series.by == "item" else F.col("category")
    since = foretold.day.min() - pd.Timedelta(days=_DAYS_BEFORE)
    asked = events.where(F.col("event_type").isin(*settings.series.event_types) & (F.col("event_time") >= F.lit(str(since))))
    local = F.to_date(F.from_utc_timestamp("event_time", settings.sequences.time_zone))
    ids = F.broadcast(chosen.select("series_id"))
    whole_days = asked.withColumn("series_id", series).join(ids, on="series_id").where(local < foretold.as_of.iloc[0].date())
    return whole_days.groupBy("series_id", local.alias("day")).agg(
        F.sum(F.coalesce("quantity", F.lit(1.0))).alias("units")
    ).toPandas(), foretold


def _scored(scores: DataFrame) -> pd.DataFrame:
    newest = scores.groupBy("task").agg(F.max("as_of").alias("as_of"))
    found: pd.DataFrame = (
        scores.join(F.broadcast(newest), on=["task", "as_of"])
        .groupBy("task", "model_version", F.date_format("as_of", "yyyy-MM-dd HH:mm").alias("as_of"))
        .agg(F.countDistinct("user_id").alias("users"), F.avg(F.col("fallback").cast("int")).alias("fallback"))
        .orderBy("task")
        .toPandas()
    )
    return found


def _examples(warehouse: Warehouse, scores: DataFrame, settings: Settings) -> list[Profile]:
    """The same users in each report, as long as they have a history: chosen by a hash of their ids, and by nothing else."""
    users = scores.where("NOT fallback").select("user_id").distinct().orderBy(F.xxhash64("user_id")).limit(settings.report.users)
    return of_users(warehouse, users, events=_EVENTS_OF_AN_EXAMPLE, targets=_TARGETS_OF_AN_EXAMPLE)
