"""Events to sessions to sequences, beside DuckDB, which does the same to Parquet files (bench/sequences.sql): same rows, same cores.

python bench/sequences.py --events 10000000 --rounds 3

First both results are compared, all columns of all rows. Then each round runs both in turn on the files of the table `events`, into new
folders. Told are the median times, their spread and the ratio; `--out` keeps them as JSON. Events are made up (bench/made_events.py).
"""

import shutil
import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import duckdb
import psutil
import typer
from compared import console, fingerprint, in_turn, keep, ratio, tell
from made_events import made_shop

from foretaste.contract import DAY, EVENT_CODES, FACTS, FEATURES
from foretaste.settings import Settings
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse, sequences
from foretaste.tables.events import EVENTS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS

EPOCH, MICROSECOND = datetime(1970, 1, 1), timedelta(microseconds=1)


def main(
    events: Annotated[int, typer.Option(help="how many")] = 10_000_000,
    rounds: Annotated[int, typer.Option(help="of both, in turn; 0: one, without warming up")] = 3,
    whale: Annotated[float, typer.Option(help="the share of all events that one user has")] = 0.0,
    alone: Annotated[bool, typer.Option(help="without DuckDB: Foretaste's time, to compare numbers of events")] = False,
    folder: Annotated[Path, typer.Option(help="where events, warehouses and DuckDB's files go")] = Path("warehouse/bench"),
    driver_memory: Annotated[str, typer.Option(help="of Spark's driver, which is the executor, too")] = "4g",
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    warehouse, chosen = made_shop(folder, events, whale, driver_memory)
    files = Path(warehouse.path) / "duckdb"

    def ours(number: int) -> Warehouse:  # another place each time: Delta remembers what lay in one
        return warehouse.annex(f"round/{number}", EVENTS)

    def foretaste(number: int) -> float:
        shutil.rmtree(Path(warehouse.path) / "round", ignore_errors=True)
        return _foretaste(ours(number), chosen)

    def duck(number: int) -> float:
        seconds = _duckdb(warehouse, chosen, ours(number), files)
        if number == 0:
            _compare(ours(number), files)
        return seconds

    seconds = in_turn({"Foretaste": foretaste} if alone else {"Foretaste": foretaste, "DuckDB": duck}, rounds)
    shutil.rmtree(Path(warehouse.path) / "round")
    tell(f"events → sessions → sequences: {events:,} events" + (f", one user with {whale:.0%}" if whale else ""), seconds, "s")
    middle = None
    if not alone:
        middle, told = ratio(seconds, "Foretaste", "DuckDB")
        console.print(f"Foretaste takes {told} times DuckDB's time")
    keep(out, "sequences", events=events, whale=whale, seconds=seconds, ratio=middle)


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
        "follow_up": wanted.followed // MICROSECOND,
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
        found, expected = (fingerprint(table, rows) for rows in (ours.read(table), theirs))
        if found != expected:
            different = [name for name in found if found[name] != expected[name]]
            raise SystemExit(f"{table.name} differ in {', '.join(different)}: {found['rows']:,} rows, DuckDB has {expected['rows']:,}")
        console.print(f"{table.name}: the same {found['rows']:,} rows")


if __name__ == "__main__":
    typer.run(main)
