"""A run with a few new events beside a full rebuild: sessions and sequences of the same events, which come out the same.

python bench/incremental.py --events 10000000 --share 0.01 --rounds 3

Events lie in the order of time, as they come to a shop. The new ones are the last, as a night brings them; the night before has come like
this, too, unless `--nights 1` has the new ones follow a full rebuild. The splits begin at fixed dates. Test time has no end, so that rows
of a new moment may come; or, with `--until`, it ends before the new events, as between two trainings. Each round starts from a copy of the
tables as they were before. Events are made up (bench/made_events.py).
"""

import os
import shutil
import time
from pathlib import Path
from typing import Annotated

import typer
from compared import console, fingerprint, in_turn, keep, ratio, tell
from made_events import DAYS, START, made_shop
from pyspark.sql import Column
from pyspark.sql import functions as F

from foretaste.contract import DAY
from foretaste.settings import Settings, WarehouseSettings
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY

VALID_FROM, TEST_FROM, UNTIL = "2024-02-05", "2024-03-04", "2024-03-25"
FEW, ALL = "new events", "full rebuild"


def main(
    events: Annotated[int, typer.Option(help="how many")] = 10_000_000,
    share: Annotated[float, typer.Option(help="of them that are new")] = 0.01,
    rounds: Annotated[int, typer.Option(help="of both, in turn; 0: one, without warming up")] = 3,
    nights: Annotated[int, typer.Option(help="that bring so many events each; the last one is timed", min=1)] = 2,
    until: Annotated[bool, typer.Option(help=f"test time ends on {UNTIL}, and not with the last event")] = False,
    folder: Annotated[Path, typer.Option(help="where events and warehouses go")] = Path("warehouse/bench"),
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    whole, settings = made_shop(folder, events)
    splits = {"valid_from": VALID_FROM, "test_from": TEST_FROM} | ({"until": UNTIL} if until else {})
    chosen = settings.model_copy(update={"sequences": settings.sequences.model_validate(splits)})
    before = _before(whole, chosen, share, nights, "until" if until else "open")
    prints: dict[str, dict[str, dict[str, int]]] = {}

    def few(number: int) -> float:
        return _timed(FEW, _with_new(number))

    def everything(number: int) -> float:
        ours = _with_new(number)
        for table in (SESSIONS, VOCABULARY, SEQUENCES):
            shutil.rmtree(f"{ours.path}/{table.name}")
        return _timed(ALL, ours)

    def _with_new(number: int) -> Warehouse:
        ours = _copied(before, f"{before.path}-{number}")
        ours.append(EVENTS, whole.read(EVENTS).where(_is_of_last(share)))
        return ours

    def _timed(side: str, ours: Warehouse) -> float:
        started = time.monotonic()
        notes, took = [], []
        for step in (sessionize, sequence):
            notes.append(step(ours, chosen).notes)
            took.append(time.monotonic() - started)
        seconds = took[-1]
        console.print(f"{side}: sessions {took[0]:.1f} s, sequences {took[1] - took[0]:.1f} s")
        if side not in prints:
            prints[side] = {table.name: fingerprint(table, ours.read(table)) for table in (SESSIONS, SEQUENCES)}
            console.print(f"{side}: {'; '.join(notes[0] + notes[1][:1])}")
        shutil.rmtree(ours.path)
        return seconds

    seconds = in_turn({FEW: few, ALL: everything}, rounds)
    if prints[FEW] != prints[ALL]:
        raise SystemExit(f"the tables differ: {prints}")
    tell(f"sessions and sequences of {events:,} events, {share:.0%} of them new; equal in all rows and columns", seconds, "s")
    middle, told = ratio(seconds, FEW, ALL)
    console.print(f"new events take {told} of a full rebuild's time")
    keep(out, "incremental", events=events, share=share, nights=nights, until=until, seconds=seconds, ratio=middle)


def _is_of_last(share: float) -> Column:
    """The last events, by time: they are spread evenly over it."""
    return F.unix_micros("event_time") >= int(START) + int(DAYS * DAY * (1 - share))


def _before(whole: Warehouse, chosen: Settings, share: float, nights: int, splits: str) -> Warehouse:
    """A warehouse of the events before the last night, with their sessions and sequences; written once."""
    ours = Warehouse(whole.spark, WarehouseSettings(path=f"{whole.path}-before-{share:g}-{splits}-{nights}"))
    if not ours.exists(SEQUENCES):
        shutil.rmtree(ours.path, ignore_errors=True)
        ours = Warehouse(whole.spark, WarehouseSettings(path=ours.path))
        came = whole.read(EVENTS).where(~_is_of_last(share * nights))
        ours.append(EVENTS, came.repartitionByRange("event_time").sortWithinPartitions("event_time"))
        for night in range(nights, 0, -1):
            for step in (sessionize, sequence):
                step(ours, chosen)
            if night > 1:
                ours.append(EVENTS, whole.read(EVENTS).where(_is_of_last(share * night) & ~_is_of_last(share * (night - 1))))
    return ours


def _copied(warehouse: Warehouse, path: str) -> Warehouse:
    """Links to the same files: Delta never changes one."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(warehouse.path, path, copy_function=os.link)
    return Warehouse(warehouse.spark, WarehouseSettings(path=path))


if __name__ == "__main__":
    typer.run(main)
