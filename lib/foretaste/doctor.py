"""What a deployment needs, looked at one by one before a job finds out: each check says what it saw, or what is wrong and how to mend it.

A check returns what it saw, or raises; a ForetasteError tells the fix itself. One that fails does not keep the others from being made,
but those that need a Spark session.
"""

import importlib.metadata
import os
import re
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyspark
from packaging.requirements import Requirement
from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table as Grid

from foretaste.errors import ForetasteError, SettingsError, TableError
from foretaste.faults import root_cause
from foretaste.feed.pin import pin
from foretaste.session import DELTA_PACKAGE, spark_session
from foretaste.settings import Settings
from foretaste.sources import source_of_kind
from foretaste.sources.pseudonyms import read_key
from foretaste.sources.reading import faults_of
from foretaste.tables import TABLES, Warehouse
from foretaste.tasks import TASKS
from foretaste.training.launch import try_ranks
from foretaste.training.slots import num_cores

LEAST_FREE_GB = 2
JAVA = "Install a JDK 17 (`apt-get install openjdk-17-jdk-headless`), or name one with JAVA_HOME."


@dataclass(frozen=True, kw_only=True)
class Finding:
    """name: of the check; ok: None where it was not made; said: what was seen, or what is wrong, where, and the fix"""

    name: str
    ok: bool | None
    said: str


class DoctorError(ForetasteError):
    """Something is not as a job needs it."""


def examine(settings: Settings) -> Iterator[Finding]:
    """All checks, in turn."""
    for name, check in (("java", _java), ("versions", _versions), ("jars", _jars)):
        yield _made(name, check)
    yield _made("paths", partial(_paths, settings))
    yield _made("network", partial(_network, settings))
    sessions: list[SparkSession] = []

    def start() -> str:
        sessions.append(spark_session(settings.spark))
        context = sessions[0].sparkContext
        return f"Spark {sessions[0].version} at {context.master}, {context.defaultParallelism} tasks at once"

    yield _made("spark", start)
    missing = {} if sessions else dict.fromkeys(_WITH_SPARK, "Spark")
    for name, look in _WITH_SPARK.items():
        if name in missing:
            yield Finding(name=name, ok=None, said=f"needs {missing[name]}")
            continue
        finding = _made(name, partial(look, sessions[0], settings))
        yield finding
        if name == "warehouse" and not finding.ok:
            missing |= dict.fromkeys(("executors", "tables", "shards", "ranks"), "the warehouse")


def shown(findings: list[Finding], console: Console) -> None:
    """The findings as a table."""
    grid = Grid("check", "", "what was seen, or what to do", title="foretaste doctor")
    for finding in findings:
        mark = {True: "[green]ok[/green]", False: "[bold red]FAILED[/bold red]", None: "not made"}[finding.ok]
        grid.add_row(finding.name, mark, finding.said.replace("[", r"\["))
    console.print(grid)


def _made(name: str, check: Callable[[], str]) -> Finding:
    try:
        return Finding(name=name, ok=True, said=check())
    except ForetasteError as error:
        return Finding(name=name, ok=False, said=str(error))
    except Exception as error:  # a check that breaks has found something, too
        return Finding(name=name, ok=False, said=f"{root_cause(error)}. Run a job with --debug for the whole trace.")


def _java() -> str:
    home = os.environ.get("JAVA_HOME")
    java = f"{home}/bin/java" if home else shutil.which("java")
    if java is None or not os.access(java, os.X_OK):
        raise DoctorError("there is no Java", where=f"JAVA_HOME={home}" if home else "PATH", fix=JAVA)
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)(?:\.(\d+))?', told)
    number = int(found[2] if found and found[1] == "1" else found[1]) if found else 0
    if number not in (8, 11, 17):
        raise DoctorError(f"Spark 3.5 does not run on Java {number}", where=java, fix=JAVA)
    return f"Java {number}, {java}"


def _versions() -> str:
    wrong, count = [], 0
    try:
        lines = importlib.metadata.requires("foretaste") or ()
    except importlib.metadata.PackageNotFoundError:
        return "not compared: foretaste is no installed package here, as where it comes as a zip"
    for line in lines:
        wanted = Requirement(line)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            there = importlib.metadata.version(wanted.name)
        except importlib.metadata.PackageNotFoundError:
            there = "nothing"
        if not wanted.specifier.contains(there if there != "nothing" else "0.dev0"):
            wrong.append(f"{wanted.name} {wanted.specifier} is wanted, {there} is there")
    if wrong:
        raise DoctorError("; ".join(wrong), where="the Python environment", fix="Run `make set-up`, or install requirements.lock.")
    return f"{count} packages as setup.py wants them"


def _jars() -> str:
    folder = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent) / "jars"
    wanted = DELTA_PACKAGE.split(":")[1] + "-" + DELTA_PACKAGE.split(":")[2] + ".jar"
    found = sorted(path.name for path in folder.glob("delta-spark_*.jar"))
    if not found:
        return f"no Delta in {folder}: Spark fetches {DELTA_PACKAGE} at its first start, which needs a network"
    if found != [wanted]:
        raise DoctorError(
            f"Delta is {' and '.join(found)}, and {wanted} is wanted", where=str(folder), fix="Remove it and run `make set-up`."
        )
    return f"{wanted}, and with it {len(list(folder.glob('delta-*.jar'))) - 1} more of Delta's"


def _paths(settings: Settings) -> str:
    path = settings.warehouse.path
    if "://" in path:
        raise DoctorError(
            "models are kept in a folder, not at a URL",
            where=path,
            fix="Set warehouse.path to a mounted folder, and catalog and schema for tables.",
        )
    folder = Path(path).absolute()
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        raise DoctorError("nothing may be written there", where=str(there), fix="Set warehouse.path to a folder that you may write to.")
    free = shutil.disk_usage(there).free / 1e9
    if free < LEAST_FREE_GB:
        raise DoctorError(f"{free:.1f} GB are free there", where=str(there), fix="Make room, or set warehouse.path.")
    return f"{folder}, {free:,.0f} GB free"


def _network(settings: Settings) -> str:
    asked = settings.training.network_interface
    names = [name for _, name in socket.if_nameindex()]
    if asked and asked not in names:
        raise DoctorError(
            f"there is no network interface {asked!r}", where="training.network_interface", fix=f"Use one of {', '.join(names)}."
        )
    host = settings.spark.conf.get("spark.driver.host") or socket.gethostname()
    try:
        address = socket.gethostbyname(host)
    except OSError:
        raise DoctorError(
            f"this machine's name {host!r} leads nowhere",
            where="spark.driver.host",
            fix="Add it to /etc/hosts, or set spark.conf's spark.driver.host.",
        ) from None
    ports = {name: int(value) for name, value in settings.spark.conf.items() if name.endswith(".port") and value.isdigit() and value != "0"}
    for name, port in ports.items():
        with socket.socket() as tried:
            try:
                tried.bind(("", port))
            except OSError as error:
                raise DoctorError(f"port {port} cannot be had: {error.strerror}", where=name, fix="Choose another, or 0 for any.") from None
    fixed = ", ".join(f"{name} {port}" for name, port in ports.items()) or "any free ports"
    return f"{host} is {address}; interfaces {', '.join(names)}; {fixed}"


def _warehouse(spark: SparkSession, settings: Settings) -> str:
    """Writes and reads a Delta table beside the others."""
    warehouse = Warehouse(spark, settings.warehouse)
    place = Path(warehouse.path) / f".doctor-{uuid.uuid4().hex[:8]}"
    try:
        for mode in ("overwrite", "overwrite"):
            spark.range(10).write.format("delta").mode(mode).save(str(place))
        count = spark.read.format("delta").load(str(place)).count()
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if count != 10:
        raise TableError(f"{count} of 10 rows came back", where=str(place), fix="Check that the file system lists what was just written.")
    kept = (
        f"catalog {settings.warehouse.catalog}, schema {settings.warehouse.schema_name}" if settings.warehouse.catalog else warehouse.path
    )
    return f"a Delta table was written, replaced and read below {warehouse.path}; tables are kept in {kept}"


def _executors(spark: SparkSession, settings: Settings) -> str:
    """Whether executors see the warehouse's folder and import the package, and on how many machines."""
    folder = os.path.abspath(settings.warehouse.path)
    Path(folder).mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as mark:

        def look(_: object) -> Iterator[tuple[str, bool, str]]:
            import socket
            from pathlib import Path

            import torch

            import foretaste

            yield socket.gethostname(), Path(mark_name).exists(), f"{foretaste.__version__} with torch {torch.__version__}"

        mark_name = mark.name
        tasks = spark.sparkContext.defaultParallelism
        seen = spark.sparkContext.parallelize(range(tasks), tasks).mapPartitions(look).collect()
    blind = sorted({host for host, sees, _ in seen if not sees})
    if blind:
        raise DoctorError(
            f"executors on {', '.join(blind)} do not see it", where=folder, fix="Set warehouse.path to a folder that all machines share."
        )
    told = {said for _, _, said in seen}
    if len(told) > 1:
        raise DoctorError(
            f"executors differ: {' and '.join(sorted(told))}", where="spark.pyspark.python", fix="Send the same package to all."
        )
    return f"on {len({host for host, _, _ in seen})} machine(s), foretaste {told.pop()}; all see {folder}"


def _source(spark: SparkSession, settings: Settings) -> str:
    source = source_of_kind(settings.source.kind)
    where = settings.source.path or settings.source.kind
    with faults_of(where):
        found = source.events(spark, settings.source).head() is not None
    if not found:
        raise DoctorError("there are no rows in it", where=where, fix="Point source.path at files with rows.")
    return f"{where} has rows in the shape that the settings say"


def _pseudonyms(spark: SparkSession, settings: Settings) -> str:
    asked = settings.privacy.pseudonyms
    if asked is None:
        return "ids stay as the shop has them (privacy.pseudonyms)"
    read_key(spark, asked.key)
    vault = Warehouse(spark, asked.vault, private=True)
    others = "" if "://" in vault.path or os.stat(vault.path).st_mode & 0o077 == 0 else ", WHICH OTHERS MAY READ: chmod 700"
    return f"a key is there; the vault is {vault.path}{others}"


def _tables(spark: SparkSession, settings: Settings) -> str:
    warehouse = Warehouse(spark, settings.warehouse)
    there = [table for table in TABLES.values() if warehouse.exists(table)]
    for table in there:
        try:
            warehouse.read(table).limit(1).count()
        except Exception as error:
            raise TableError(
                f"{table.name} cannot be read: {root_cause(error)}", where=warehouse.identifier(table),
                fix="RESTORE it to an earlier version, or write it again with its job.",
            ) from error  # fmt: skip
    return f"{len(there)} tables there, and readable: {', '.join(table.name for table in there) or 'none yet'}"


def _shards(spark: SparkSession, settings: Settings) -> str:
    """Whether the training rows are whole, and how many parts they can be shared in."""
    warehouse = Warehouse(spark, settings.warehouse)
    lines = []
    for task in (TASKS[name] for name in settings.tasks):
        table = TABLES[task.table]
        if not warehouse.exists(table):
            return f"no {table.name} yet"
        rows = pin(warehouse, "train", task.train_cut, table=table)
        groups = sum(len(each) for _, each in rows.files)
        if groups < settings.training.workers:
            raise SettingsError(
                f"{task.name} has {groups} row groups for {settings.training.workers} ranks, so some read the same",
                where="sequences.rows_per_group",
                fix="Lower it, and run jobs/sequence.py.",
            )
        lines.append(f"{task.name} {rows.num_rows:,} rows in {groups} row groups")
    return "; ".join(lines) or "no task is configured"


def _ranks(spark: SparkSession, settings: Settings) -> str:
    """Two ranks that add up their numbers, started as training starts them."""
    training = settings.training
    number = max(2, training.workers)
    launcher = training.launcher if training.launcher != "single" else "horovodrun"
    asked = training.model_copy(update={"launcher": launcher, "workers": number})
    hosts = try_ranks(Path(os.path.abspath(settings.warehouse.path)), asked, spark)
    return f"{number} ranks by {launcher} on {', '.join(sorted(set(hosts)))} added up; this machine has {num_cores()} cores"


_WITH_SPARK: dict[str, Callable[[SparkSession, Settings], str]] = {
    "warehouse": _warehouse,
    "executors": _executors,
    "source": _source,
    "pseudonyms": _pseudonyms,
    "tables": _tables,
    "shards": _shards,
    "ranks": _ranks,
}
