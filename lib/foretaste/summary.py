"""What the pipeline prints last: a look into the scores table, and where everything lies."""

from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as Grid

from foretaste.settings import Settings
from foretaste.tables import TABLES, Warehouse
from foretaste.tables.demand import DEMAND
from foretaste.tables.items import ITEMS
from foretaste.tables.scores import SCORES

NUM_EXAMPLES = 10
NUM_TARGETS = 3
NUM_SERIES = 5


def summarize(warehouse: Warehouse, settings: Settings, console: Console) -> None:
    """Ten rows of the scores table with the items' names, five of demand, then the tables with their rows and their place."""
    if not warehouse.read(SCORES).isEmpty():
        console.print(_examples(warehouse))
    if warehouse.exists(DEMAND):
        console.print(_demand(warehouse))
    console.print(_places(warehouse))
    console.print(
        f"Models {warehouse.path}/models · runs {warehouse.path}/mlflow.db · settings in {', '.join(settings.tasks)}", highlight=False
    )


def _examples(warehouse: Warehouse) -> Grid:
    names = warehouse.read(ITEMS).select(F.col("item_id").alias("target_id"), "name") if warehouse.exists(ITEMS) else None
    newest = warehouse.read(SCORES).agg(F.max("as_of")).head()[0]  # type: ignore[index]
    chosen = warehouse.read(SCORES).where(F.col("as_of") == newest).orderBy(F.xxhash64("user_id", "task")).limit(NUM_EXAMPLES)
    targets = chosen.select("task", "user_id", "fallback", F.posexplode(F.slice("targets", 1, NUM_TARGETS)).alias("rank", "target"))
    flat = targets.select("task", "user_id", "fallback", "rank", F.col("target.target_id").alias("target_id"), "target.score")
    named = flat.join(names, on="target_id", how="left") if names is not None else flat.withColumn("name", F.lit(None).cast("string"))
    answer = F.concat_ws(" ", F.coalesce("name", "target_id"), F.format_number("score", 3))
    rows = (
        named.groupBy("user_id", "task", "fallback")
        .agg(F.array_sort(F.collect_list(F.struct("rank", answer.alias("answer")))).alias("answers"))
        .orderBy("task", "user_id")
        .collect()
    )
    grid = Grid(
        title=f"scores as of {newest:%Y-%m-%d %H:%M} UTC: {NUM_EXAMPLES} of its rows, best {NUM_TARGETS} targets", title_justify="left"
    )
    for heading in ("user_id", "task", "targets, best first, with their probability", "fallback"):
        grid.add_column(heading)
    for row in rows:
        grid.add_row(row.user_id, row.task, " · ".join(answer.answer for answer in row.answers), "yes" if row.fallback else "")
    return grid


def _demand(warehouse: Warehouse) -> Grid:
    rows = warehouse.read(DEMAND)
    newest = rows.agg(F.max("as_of")).head()[0]  # type: ignore[index]
    of_run = rows.where(F.col("as_of") == newest)
    by_series = of_run.groupBy("series_id").agg(
        F.sum("mean").alias("mean"), F.max_by("cumulative", "day").alias("whole"), F.max("day").alias("until")
    )
    grid = Grid(title=f"demand as of {newest:%Y-%m-%d %H:%M} UTC: the {NUM_SERIES} largest", title_justify="left")
    for heading in ("item", "until", "units, on average", "stock that lasts, by probability"):
        grid.add_column(heading)
    for row in by_series.orderBy(F.desc("mean"), "series_id").limit(NUM_SERIES).collect():
        stock = " · ".join(f"{each.level:.0%} {each.units:,.0f}" for each in row.whole if each.level >= 0.5)
        grid.add_row(row.series_id, f"{row.until:%Y-%m-%d}", f"{row['mean']:,.1f}", stock)
    return grid


def _places(warehouse: Warehouse) -> Grid:
    grid = Grid(title="tables", title_justify="left")
    for heading in ("table", "rows", "version", "where"):
        grid.add_column(heading, justify="right" if heading in ("rows", "version") else "left")
    for table in TABLES.values():
        if warehouse.exists(table):
            place = warehouse.identifier(table).removeprefix("delta.").strip("`")
            grid.add_row(table.name, f"{warehouse.read(table).count():,}", str(warehouse.version(table)), place)
    return grid
