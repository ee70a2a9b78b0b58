"""Events to sessions to sequences, beside DuckDB, which does the same to Parquet files (bench/sequences.sql): same rows, same cores.

python bench/sequences.py --events 10000000 --rounds 3

First both results are compared, all columns of all rows. Then each round runs both in turn on the files of the table `events`, into new
folders. Told are the median times, their spread and the ratio; `--out` keeps them as JSON. Events are made up (bench/made_events.py).
"""

import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import duckdb
import psutil
import typer
from made_events import made_shop
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as Printed

from foretaste.contract import DAY, EVENT_CODES, FACTS, FEATURES
from foretaste.settings import Settings
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Table, Warehouse, sequences
from foretaste.tables.events import EVENTS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS

EPOCH, MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)
console = Console(width=None if sys.stdout.isatty() else 160)


def main(
    events: Annotated[int, typer.Option(help="how many")] = 10_000_000,
    rounds: Annotated[int, typer.Option(help="of both, in turn")] = 3,
    whale: Annotated[float, typer.Option(help="the share of all events that one user has")] = 0.0,
    alone: Annotated[bool, typer.Option(help="without DuckDB: Foretaste's time, to compare numbers of events")] = False,
    folder: Annotated[Path, typer.Option(help="where events, warehouses and DuckDB's files go")] = Path("warehouse/bench"),
    driver_memory: Annotated[str, typer.Option(help="of Spark's driver, which is the executor, too")] = "4g",
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    warehouse, chosen = made_shop(folder, events, whale, driver_memory)
    seconds: dict[str, list[float]] = {"Foretaste": []} if alone else {"Foretaste": [], "DuckDB": []}
    for number in range(rounds + 1):  # the first one warms up, and is compared
        for side, times in seconds.items():
            if side == "Foretaste":
                ours = warehouse.annex(f"round/{number}", EVENTS)
                times.append(_foretaste(ours, chosen))
            else:
                times.append(_duckdb(warehouse, chosen, ours, Path(warehouse.path) / "duckdb"))
            console.print(f"{'warming up' if number == 0 else f'round {number}'}: {side} {times[-1]:.1f} s")
        if number == 0 and not alone:
            _compare(ours, Path(warehouse.path) / "duckdb")
        shutil.rmtree(ours.path)
    _print(events, whale, {side: times[1:] for side, times in seconds.items()}, out)


def _foretaste(ours: Warehouse, chosen: Settings) -> float:
    """Seconds."""
    started = time.monotonic()
    for step in (sessionize, sequence):
        step(ours, chosen)
    return time.monotonic() - started


def _duckdb(warehouse: Warehouse, chosen: Settings, ours: Warehouse, folder: Path) -> float:
    """Seconds, from an empty database to the files."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    statements = _filled(chosen, ours, sorted(warehouse.read(EVENTS).inputFiles()), folder)
    started = time.monotonic()
    with duckdb.connect(str(folder / "work.duckdb")) as database:
        database.execute(f"SET threads = {psutil.cpu_count()}; SET preserve_insertion_order = false; SET memory_limit = '12GB'")
        database.execute(statements)
    return time.monotonic() - started


def _filled(chosen: Settings, ours: Warehouse, files: list[str], folder: Path) -> str:
    """bench/sequences.sql with these settings and files."""
    wanted = chosen.sequences
    splits = sequences.bounds(ours.read(SESSIONS), wanted)
    valid, test, last = ((moment - EPOCH) // MICROSECOND for moment in (splits.valid_from, splits.test_from, splits.until))
    horizon, every = wanted.horizon // MICROSECOND, wanted.every // MICROSECOND
    before = range(valid - horizon, valid - horizon - 400 * DAY, -every)
    moments = [("train", moment, valid - 1) for moment in before]
    moments += [("valid", moment, test - 1) for moment in range(valid, test - horizon + 1, every)]
    moments += [("test", moment, last) for moment in range(test, last - horizon + 1, every)]
    values: Mapping[str, object] = {
        "files": files,
        "folder": folder,
        "gap": chosen.sessions.gap // MICROSECOND,
        "length": wanted.length,
        "stride": wanted.length // 2,
        "horizon": horizon,
        "every": every,
        "valid_from": splits.valid_from.isoformat(sep=" "),
        "valid_us": valid,
        "min_item_count": wanted.min_item_count,
        "event_codes": " ".join(f"WHEN '{name}' THEN {code}" for name, code in EVENT_CODES.items()),
        "moments": ", ".join(f"('{split}', {moment}, {end})" for split, moment, end in moments),
        "features": ", ".join(_last_events(name, wanted.length) for name in FEATURES),
        "nothing": ", ".join(f"0 AS {name}" for name in FACTS if name not in ("repeats", "idle_hours", "tenure_hours")),
    }
    text = Path(__file__).with_name("sequences.sql").read_text()
    for name, value in values.items():
        text = text.replace("{{" + name + "}}", str(value))
    return text


def _last_events(name: str, length: int) -> str:
    """A row's last `length` events of two neighbouring blocks, left-padded with 0."""
    zeros = f"list_resize([]::INT[], {length}, 0)"
    first = f"finish - {length} * rows.block"
    return f"list_concat(coalesce(before.{name}, {zeros}), here.{name})[{first} + 1 : {first} + {length}] AS {name}"


def _compare(ours: Warehouse, folder: Path) -> None:
    """Ends the bench where a table differs in anything."""
    for table, path in ((SESSIONS, folder / "sessions.parquet"), (SEQUENCES, folder / "sequences")):
        theirs = table.select(ours.spark.read.parquet(str(path)))
        found, expected = (_fingerprint(table, rows) for rows in (ours.read(table), theirs))
        if found != expected:
            different = [name for name in found if found[name] != expected[name]]
            raise SystemExit(f"{table.name} differ in {', '.join(different)}: {found['rows']:,} rows, DuckDB has {expected['rows']:,}")
        console.print(f"{table.name}: the same {found['rows']:,} rows")


def _fingerprint(table: Table, rows: DataFrame) -> dict[str, int]:
    """How many rows, and of each column the sum of a hash of it beside its row's key: the order of rows does not matter."""
    key = [name for name in table.key if name != "campaign_id"]
    sums = [F.sum(F.xxhash64(*key, name).cast("decimal(38,0)")).alias(name) for name in table.names]
    found = rows.agg(F.count("*").alias("rows"), *sums).head()
    return {name: int(value) for name, value in found.asDict().items()} if found else {}


def _print(events: int, whale: float, seconds: Mapping[str, list[float]], out: Path | None) -> None:
    shown = Printed(title=f"events → sessions → sequences: {events:,} events" + (f", one user with {whale:.0%}" if whale else ""))
    for heading in ("", "median", "least", "most", "events/s"):
        shown.add_column(heading, justify="right")
    for side, times in seconds.items():
        middle = statistics.median(times)
        shown.add_row(side, f"{middle:.1f} s", f"{min(times):.1f} s", f"{max(times):.1f} s", f"{events / middle:,.0f}")
    console.print(shown)
    ratios = [ours / theirs for ours, theirs in zip(seconds["Foretaste"], seconds.get("DuckDB", []), strict=False)]
    if ratios:
        console.print(f"Foretaste takes {statistics.median(ratios):.2f} times DuckDB's time ({min(ratios):.2f} to {max(ratios):.2f})")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps({"bench": "sequences", "events": events, "whale": whale, "seconds": seconds, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    typer.run(main)
