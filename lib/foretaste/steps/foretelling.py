"""series and a model of demand → how good its forecasts are, and what they are worth to whoever orders stock; and → demand."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste.contract import SCALARS, SERIES_FEATURES
from foretaste.errors import TableError
from foretaste.evaluation.comparison import Comparison
from foretaste.evaluation.forecast import Forecast
from foretaste.evaluation.foretelling import FORECAST_SUMS, FORETOLD, MOMENT, SERIES_HASH, ForecastSums, Foretell
from foretaste.evaluation.judge import JUDGED, LEFT_OUT, Scorer
from foretaste.evaluation.naive import FORECASTERS
from foretaste.evaluation.passes import NUM_JUDGED, NUM_LEFT_OUT
from foretaste.evaluation.stock import KNOBS, stock_days
from foretaste.scoring.demand import DEMAND_OF_DAYS, DemandOfDays
from foretaste.scoring.udf import load_scorer
from foretaste.settings import Settings
from foretaste.steps.judging import added, judge_of
from foretaste.steps.series import promoted
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse, demand, series
from foretaste.tables.demand import DEMAND
from foretaste.tables.events import EVENTS
from foretaste.tables.scores import run_condition
from foretaste.tables.series import SERIES
from foretaste.tasks import TASKS

_MOST_ROWS = 512  # foretold at once: each has a hundred paths
_DAY = timedelta(days=1)


def compared(warehouse: Warehouse, settings: Settings, model: StoredModel) -> list[Comparison]:
    """The model beside what a shop could do without one, on test rows. TableError where there are none."""
    task = TASKS[model.task]
    rows = warehouse.read(SERIES).where("split = 'test'")
    baselines: dict[str, Scorer] = {name: FORECASTERS[name]() for name in task.baselines}
    size = min(settings.scoring.batch_size, _MOST_ROWS)
    found = judged(rows, settings, model, partial(load_scorer, warehouse.path, model.name, model.version, size), baselines)
    if not found:
        raise TableError(
            f"there is no test row to judge {model.name} on",
            where=SERIES.name,
            fix="Set sequences.test_from to a time with whole horizons after it.",
        )
    judge = judge_of(settings, task)
    return [
        Comparison(
            task=task.name,
            split="test",
            model=model.name,
            scorers={name: found[name] for name in (model.name, *baselines)},
            headline=judge.headline,
            lower_is_better=judge.lower_is_better,
            shown=judge.shown,
        )
    ]


def judged(
    rows: DataFrame, settings: Settings, model: StoredModel, load: Any, baselines: Mapping[str, Scorer]
) -> dict[str, dict[str, NDArray[np.float64]]]:
    """Scorer → metric → (1 + replicates,) values, of these rows of `series`; {} without any."""
    evaluation = settings.evaluation
    review = min(settings.sequences.every, settings.sequences.horizon) // _DAY
    judge = Forecast(levels=settings.scoring.quantiles, label=TASKS[model.task].label.name)
    keys = (F.xxhash64("series_id").alias(SERIES_HASH), F.unix_micros("as_of").alias(MOMENT))
    chosen = rows.select(*keys, *SCALARS, *SERIES_FEATURES, judge.label)
    foretell = Foretell(
        judge=judge,
        model=model.name,
        load_model=load,
        baselines=baselines,
        review=review,
        batch_size=min(settings.scoring.batch_size, _MOST_ROWS),
    )
    adding = ForecastSums(judge=judge, review=review, replicates=evaluation.bootstrap, seed=evaluation.seed)
    parts = rows.sparkSession.sparkContext.defaultParallelism
    foretold = chosen.repartition(parts, SERIES_HASH).mapInArrow(foretell, FORETOLD).persist()
    try:
        sums = added(foretold.mapInArrow(adding.of_metrics, FORECAST_SUMS), evaluation.bootstrap)
        in_order = foretold.repartition(parts, SERIES_HASH).sortWithinPartitions(SERIES_HASH, "scorer", MOMENT)
        stock = added(in_order.mapInArrow(adding.of_stock, FORECAST_SUMS), evaluation.bootstrap)
    finally:
        foretold.unpersist()
    knobs = len(KNOBS)
    return {
        name: {
            **judge.metrics(total),
            **stock_days(stock[name][:knobs], stock[name][knobs : 2 * knobs], stock[name][-1]),
            NUM_JUDGED: total[JUDGED],
            NUM_LEFT_OUT: total[LEFT_OUT],
        }
        for name, total in sums.items()
    }


def foretell(warehouse: Warehouse, settings: Settings, model: StoredModel, as_of: datetime, run: Mapping[str, Any]) -> tuple[int, str]:
    """Writes the run of `as_of` into `demand`, in one commit; how many rows, and a line about them."""
    version = warehouse.version(EVENTS)
    rows = series.latest(warehouse.read(EVENTS, version), promoted(warehouse, settings), settings.series, settings.sequences, as_of)
    writer = DemandOfDays(
        root=warehouse.path,
        name=model.name,
        version=model.version,
        batch_size=min(settings.scoring.batch_size, _MOST_ROWS),
        quantiles=settings.scoring.quantiles,
        first_day=series.first_day(settings.sequences, as_of),
    )
    condition = run_condition(model.task, as_of)
    columns = {**run, "data_version": f"events@{version}"}
    warehouse.replace_where(DEMAND, demand.build(rows.mapInArrow(writer, DEMAND_OF_DAYS), **columns), condition)
    written = warehouse.read(DEMAND).where(condition)
    num_rows, num_series = written.agg(F.count("*"), F.count_distinct("series_id")).head()  # type: ignore[misc]
    return num_rows, f"{num_series:,} series by {model.name} version {model.version} ({model.model['name']}), {num_rows:,} days"
