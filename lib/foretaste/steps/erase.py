"""Takes users out of everything: all tables, quarantine, the vault, and older versions; and looks whether they are gone."""

import os
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from foretaste import registry
from foretaste.errors import SettingsError, TableError
from foretaste.settings import Settings
from foretaste.sources.reading import faults_of
from foretaste.steps.identities import Identities
from foretaste.steps.report import StepReport
from foretaste.steps.running import JobAtWork, at_work, still_at_work
from foretaste.steps.traces import AFTER, BEFORE, search
from foretaste.tables import TABLES, Table, Warehouse, erasures
from foretaste.tables.erasures import ERASURES
from foretaste.tables.purge import purge
from foretaste.tables.quarantine import QUARANTINE
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.user_ids import USER_IDS

_OF_USERS = tuple(table for table in TABLES.values() if "user_id" in table.names and table not in (QUARANTINE, USER_IDS))
_MOST = 100_000


@dataclass(frozen=True, kw_only=True)
class _Leavers:
    """own: user_id as the shop has it; stored: user_id as the tables have it; the same where there are no pseudonyms"""

    own: DataFrame
    stored: DataFrame
    ids: tuple[str, ...]


def erase(warehouse: Warehouse, settings: Settings) -> StepReport:
    """Erases the users whose ids are in the file `privacy.erase.users`, a line each.

    First it is noted that they are (as a digest), so that no ingest brings them back; then their rows go; jobs that were running are waited
    for, and what they wrote meanwhile goes too; then what older versions held; then the bytes of all files are searched. TableError where
    such a job takes longer than `privacy.erase.wait`, or where an id is still found: run it again.
    """
    who = Identities(warehouse, settings.privacy)
    leavers = _leavers(warehouse, settings, who)
    num_users = leavers.own.count()
    places = [warehouse, *_annexes(warehouse)]
    notes = [line for place in places for line in _models_that_saw(place, leavers.stored)]  # before their rows are gone
    warehouse.insert_new(ERASURES, erasures.build(leavers.stored))
    deleted = _delete(places, who, leavers, settings)
    _wait(at_work(warehouse.path, but=("erase",)), settings)
    again = _delete(places, who, leavers, settings)
    notes += _without_page(warehouse, settings)
    deleted = {name: deleted.get(name, 0) + again.get(name, 0) for name in {**deleted, **again}}
    for place, table in _held(places, who):
        purge(place, table)
    num_files = _prove(warehouse, who, places, leavers)
    vault = " and the vault" if who.vault is not warehouse else ""
    notes.append(f"searched the bytes of all {num_files:,} files of the warehouse{vault}: none of the ids is there")
    notes.append("the files that the events came from are not the warehouse's: take these users out of them, too")
    written = {f"{name} deleted": count for name, count in deleted.items() if count}
    return StepReport(step="erase", read={"users": num_users}, written=written, notes=tuple(notes))


def _without_page(warehouse: Warehouse, settings: Settings) -> list[str]:
    """The page of jobs/report.py tells of some users by their ids, whoever they are: it goes."""
    page = settings.report.page(warehouse.path)
    if "://" in page or not Path(page).is_file():
        return []
    Path(page).unlink()
    return [f"removed {page}, which tells of users: run jobs/report.py again"]


def _leavers(warehouse: Warehouse, settings: Settings, who: Identities) -> _Leavers:
    path = settings.privacy.erase.users
    if path is None:
        raise SettingsError("nobody is named", where="privacy.erase.users", fix="Name a file with a user's id in each line.")
    if any(f"{os.path.abspath(path)}/".startswith(f"{place.path}/") for place in (warehouse, who.vault)):
        raise SettingsError(
            "the file of ids lies in the warehouse, where no id is to be left", where="privacy.erase.users", fix="Move it elsewhere."
        )
    with faults_of(path):
        lines = warehouse.spark.read.text(path).select(F.trim(F.regexp_replace("value", "\r$", "")).alias("user_id"))
        ids = [row.user_id for row in lines.where("user_id <> ''").distinct().limit(_MOST + 1).collect()]
    if not ids or len(ids) > _MOST:
        raise SettingsError(
            f"there are {'no' if not ids else f'more than {_MOST:,}'} ids in it", where=path, fix=f"Name 1 to {_MOST:,} users, one a line."
        )
    own = warehouse.spark.createDataFrame([(each,) for each in sorted(ids)], "user_id string")
    stored = who.in_tables(own)
    both = sorted({*ids, *(row.user_id for row in stored.collect())})
    return _Leavers(own=own, stored=stored, ids=tuple(both))


def _annexes(warehouse: Warehouse) -> list[Warehouse]:
    """The folds that a backtest left: each has sequences of its own."""
    folds = Path(warehouse.path) / "folds"
    return [warehouse.annex(f"folds/{path.name}") for path in sorted(folds.iterdir())] if folds.is_dir() else []


def _held(places: Sequence[Warehouse], who: Identities) -> Iterator[tuple[Warehouse, Table]]:
    """All tables that may hold, or have held, an id, and where they are."""
    for place in places:
        yield from ((place, table) for table in (*_OF_USERS, QUARANTINE) if place.exists(table))
    if who.vault is not places[0]:
        yield from ((who.vault, table) for table in (USER_IDS, QUARANTINE) if who.vault.exists(table))


def _delete(places: Sequence[Warehouse], who: Identities, leavers: _Leavers, settings: Settings) -> dict[str, int]:
    """Rows deleted, by table."""
    counts: dict[str, int] = {}
    for place, table in _held(places, who):
        own = _quarantined(place, leavers.own) if table is QUARANTINE else leavers.own
        keys = own if table in (QUARANTINE, USER_IDS) else leavers.stored
        laid_out = place.rows_per_group(settings.sequences.rows_per_group) if table is SEQUENCES else nullcontext()
        with laid_out:
            counts[table.name] = counts.get(table.name, 0) + place.delete(table, keys)
    return counts


def _quarantined(place: Warehouse, own: DataFrame) -> DataFrame:
    """record_id of the records in quarantine that are of these users, or, where that cannot be read, hold an id between other signs."""
    place.create(QUARANTINE)  # one of an earlier release has no user_id
    held = place.read(QUARANTINE).alias("held")
    leaver = F.broadcast(
        own.select(F.col("user_id").alias("leaver"), F.replace("user_id", F.lit("\\E"), F.lit("\\E\\\\E\\Q")).alias("quoted"))
    )
    inside = F.rlike(F.col("held.record"), F.concat(F.lit(rf"{BEFORE}\Q"), F.col("quoted"), F.lit(rf"\E{AFTER}")))
    is_theirs = F.coalesce(F.col("held.user_id") == F.col("leaver"), inside)
    return held.join(leaver, on=is_theirs, how="inner").select("record_id").distinct()


def _models_that_saw(place: Warehouse, users: DataFrame) -> list[str]:
    """A line for each stored model whose training rows held one of the users."""
    root = Path(place.path) / "models"
    where = f" in {root.parent}" if root.parent.parent.name == "folds" else ""
    lines, seen = [], dict[int, int | None]()
    for name in sorted(path.name for path in root.iterdir()) if root.is_dir() else ():
        for number in registry.versions(place.path, name):
            model = registry.load(place.path, name, number)
            version = model.tables.get(SEQUENCES.name)
            if version is None:
                continue  # of demand: units of items
            if version not in seen:
                seen[version] = _num_users(place, version, users)
            if seen[version] is None:
                lines.append(f"model {name} version {number}{where}: whether it learnt from any of them is not known any more")
            elif seen[version]:
                forget = "train a new one to forget them"
                lines.append(f"model {name} version {number}{where} learnt from {seen[version]:,} of these users; {forget}")
    return lines


def _num_users(place: Warehouse, version: int, users: DataFrame) -> int | None:
    """How many of the users have rows in that version of sequences; None where it is gone."""
    if not place.exists(SEQUENCES):
        return None
    try:
        rows = place.read(SEQUENCES, version, checked=False).join(F.broadcast(users), on="user_id", how="left_semi")
        return rows.select("user_id").distinct().count()
    except (PySparkException, Py4JJavaError):
        return None


def _wait(jobs: Sequence[JobAtWork], settings: Settings) -> None:
    left = still_at_work(jobs, settings.privacy.erase.wait.total_seconds())
    if left:
        raise TableError(
            "the rows are deleted, but older versions stay: a job that began before may read them still",
            where=str(left[0]),
            fix="Run jobs/erase.py again when it has ended, or end it.",
        )


def _prove(warehouse: Warehouse, who: Identities, places: Sequence[Warehouse], leavers: _Leavers) -> int:
    """How many files were searched."""
    roots = {warehouse.path, who.vault.path, *(place.location(table) for place, table in _held(places, who))}
    roots = {root.removeprefix("file:") for root in roots}
    found = search(warehouse.spark, sorted(root for root in roots if not any(root.startswith(f"{other}/") for other in roots)), leavers.ids)
    if found.where:
        raise TableError(
            f"{len(found.where)} of {found.files} files still hold an id",
            where=found.where[0],
            fix="Run jobs/erase.py again; where it finds one again, remove the file or say so in an issue.",
        )
    return found.files
