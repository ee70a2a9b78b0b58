"""Events of a shop that nobody has, as many as wanted: a few users do most, items are sold by Zipf's law, and events come in sessions."""

from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from pyspark.sql import functions as F

from foretaste.contract import DAY
from foretaste.session import spark_session
from foretaste.settings import Settings
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS

EVENTS_A_USER, EVENTS_A_SESSION, DAYS = 50, 5, 90
NUM_ITEMS, NUM_CATEGORIES = 100_000, 200
TYPES, SHARES = ("view", "cart", "purchase"), (0.8, 0.12, 0.08)
START = np.datetime64("2024-01-01", "us").astype(np.int64)
SECOND = 1_000_000  # microseconds
BLOCK = 2_000_000  # events that are written at once


def made_shop(folder: Path, num_events: int, whale: float = 0.0, driver_memory: str = "4g") -> tuple[Warehouse, Settings]:
    """A warehouse below `folder` whose table `events` has them, written once."""
    chosen = settings_of(folder.resolve() / f"{num_events}-{whale:g}", driver_memory)
    warehouse = Warehouse(spark_session(chosen.spark), chosen.warehouse)
    if not warehouse.exists(EVENTS):
        made = written_events(folder, num_events, whale)
        told = warehouse.spark.read.parquet(str(made)).withColumn("source", F.lit("made"))
        missing = {name: F.lit(None) for name in EVENTS.names if name not in told.columns}
        warehouse.append(EVENTS, EVENTS.select(told.withColumns(missing)))
    return warehouse, chosen


def settings_of(warehouse: Path, driver_memory: str) -> Settings:
    return Settings.model_validate(
        {
            "warehouse": {"path": str(warehouse)},
            "spark": {"master": "local[*]", "driver_memory": driver_memory, "shuffle_partitions": 2 * (psutil.cpu_count() or 1)},
        }
    )


def written_events(folder: Path, num_events: int, whale: float = 0.0, seed: int = 0) -> Path:
    """A Parquet file of `num_events` rows, unless it is there: user_id, item_id, event_type, event_time and category, with an event_id.

    whale: the share of all events that one user has
    """
    path = folder.resolve() / f"events-{num_events}-{whale:g}.parquet"
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    num_users = max(1, num_events // EVENTS_A_USER)
    activity = np.cumsum(random.lognormal(sigma=1.5, size=num_users))
    sold = np.cumsum(1 / np.arange(1, NUM_ITEMS + 1) ** 0.9)
    users = pa.array([f"{number:016x}" for number in random.permutation(num_users)])
    items = pa.array([f"item-{number:07d}" for number in random.permutation(NUM_ITEMS)])
    categories = pa.array([f"shop/aisle {number // 10}/{number}" for number in range(NUM_CATEGORIES)])
    partial = path.with_suffix(".partial")
    with pq.ParquetWriter(partial, _SCHEMA) as writer:
        for first in range(0, num_events, BLOCK):
            size = min(BLOCK, num_events - first)
            session = np.cumsum(random.random(size) < 1 / EVENTS_A_SESSION)
            opens = np.searchsorted(activity, random.random(session[-1] + 1) * activity[-1])
            opens[random.random(len(opens)) < whale] = 0
            began = START + random.integers(0, DAYS * DAY, len(opens)) // SECOND * SECOND
            passed = np.cumsum(random.exponential(60, size).astype(np.int64)) * SECOND
            since = passed - passed[np.searchsorted(session, session)]
            item = np.searchsorted(sold, random.random(size) * sold[-1])
            kind = random.choice(len(TYPES), size, p=SHARES)
            rows = {
                "user_id": users.take(pa.array(opens[session])),
                "item_id": items.take(pa.array(item)),
                "event_type": pa.array(TYPES).take(pa.array(kind)),
                "event_time": pa.array(np.minimum(began[session] + since, START + DAYS * DAY - SECOND)).cast(pa.timestamp("us", tz="UTC")),
                "category": categories.take(pa.array(item % NUM_CATEGORIES)),
                "event_id": pa.array(np.arange(first, first + size)).cast(pa.string()),
            }
            writer.write_table(pa.table(rows, schema=_SCHEMA))
    return partial.rename(path)


_SCHEMA = pa.schema(
    [
        ("user_id", pa.string()),
        ("item_id", pa.string()),
        ("event_type", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("category", pa.string()),
        ("event_id", pa.string()),
    ]
)
