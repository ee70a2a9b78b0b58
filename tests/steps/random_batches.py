"""Batches of random events, late ones among them: after each, are the sessions and rows that are kept those that are built anew?

PYTHONPATH=lib python -m tests.steps.random_batches --seed 2 --campaigns

Eight users, a first batch up to test time, then nights of new events, some with late ones before them. Distances of moments, `refit` and
`follow_up` go by the seed. With campaigns users are reached, left out at random, and answer.
"""

import random
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from foretaste.session import spark_session
from foretaste.settings import Settings, SparkSettings, WarehouseSettings
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from foretaste.tables.campaigns import CAMPAIGNS
from foretaste.tables.events import EVENTS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from tests.steps.shop import MONDAY, another, equal

FIRST = 470  # hours of the first batch
RUNS = {"spring": (2, 9), "summer": (15, 23)}  # campaigns: first and last day


def main(
    seed: Annotated[int, typer.Option(help="of the settings and the events")] = 1,
    nights: Annotated[int, typer.Option(help="how many batches follow the first")] = 6,
    campaigns: Annotated[bool, typer.Option(help="with campaigns and control groups")] = False,
) -> None:
    chance = random.Random(seed)
    chosen = _settings(chance)
    print(f"every {chosen.sequences.every}, refit {chosen.sequences.refit}, follow_up {chosen.sequences.follow_up}", flush=True)
    spark = spark_session(SparkSettings(master="local[2]", driver_memory="1g", shuffle_partitions=2))
    with tempfile.TemporaryDirectory() as folder:
        warehouse = Warehouse(spark, WarehouseSettings(path=f"{folder}/kept"))
        if campaigns:
            told = [(name, "mail", *(MONDAY + timedelta(days=day) for day in days), ["tea"]) for name, days in RUNS.items()]
            warehouse.overwrite(CAMPAIGNS, spark.createDataFrame(told, CAMPAIGNS.ddl))
        for number, (start, end, events) in enumerate(_batches(chance, nights)):
            rows = list(_events(chance, start, end, events, campaigns))
            warehouse.insert_new(EVENTS, spark.createDataFrame(rows, EVENTS.ddl))
            sessionize(warehouse, chosen)
            note = sequence(warehouse, chosen).notes[0]
            rebuilt = another(warehouse, Path(folder) / str(number))
            if campaigns:
                rebuilt.overwrite(CAMPAIGNS, warehouse.read(CAMPAIGNS))
            for step in (sessionize, sequence):
                step(rebuilt, chosen)
            same = all(equal(table, warehouse, rebuilt) for table in (SESSIONS, SEQUENCES))
            print(f"hours {start:.0f} to {end:.0f}, {len(rows)} events: {note}: {'same' if same else 'OTHER'} rows", flush=True)
            if not same:
                raise SystemExit(1)


def _settings(chance: random.Random) -> Settings:
    dates = {"valid_from": "2024-04-08", "test_from": "2024-04-15"}
    few = {"length": 4, "horizon": "2d", "min_item_count": 1, "event_types": ["view", "purchase"]}
    drawn = {
        "every": chance.choice(["1d", "3d", "36h"]),
        "refit": chance.random() < 0.5,
        "follow_up": chance.choice(["2d", "3d", "5d"]),
    }
    return Settings.model_validate({"sequences": {**dates, **few, **drawn}, "sessions": {"gap": "5h"}})


def _batches(chance: random.Random, nights: int) -> Iterator[tuple[float, float, int]]:
    """(first hour, last hour, number of events)"""
    yield 0, FIRST, 200
    now = FIRST
    for _ in range(nights):
        late = chance.random() < 0.35
        step = chance.choice([5, 24, 24, 60])
        yield (chance.uniform(340, now), now, 2) if late else (now, now + step, chance.choice([2, 12]))
        now += 0 if late else step


def _events(chance: random.Random, start: float, end: float, number: int, campaigns: bool) -> Iterator[tuple[Any, ...]]:
    def event(kind: str, since: float, item: str | None = None, campaign: str | None = None) -> tuple[Any, ...]:
        user, hour = f"u{chance.randrange(8)}", round(chance.uniform(since, end), 2)
        told = f"{user} {hour} {kind} {item} {campaign}"
        return user, item, kind, MONDAY + timedelta(hours=hour), None, 1.0, None, "x", campaign, "shop", told, None

    for _ in range(number):
        yield event(chance.choice(["view", "purchase"]), start, chance.choice(["tea", "milk", "jam"]))
    for name, (day, _) in RUNS.items() if campaigns else ():
        for _ in range(number // 5 if end > 24 * day else 0):
            yield event(chance.choice(["exposure", "control", "coupon"]), max(start, 24 * day), campaign=name)


if __name__ == "__main__":
    typer.run(main)
