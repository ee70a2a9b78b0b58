"""How much memory writing rows takes, and how long: the same model, so many rows and ten times as many.

python bench/synthesis.py --config conf/behaviour.yaml --rows 100000,1000000

Every row is asked to hold as many events as the model can write. jobs/synthesize.py runs as a process of its own; beside it the
proportional set size of it and of all its children (Spark's JVM, Spark's Python workers) is added up twice a second: pages that several
share count once. Trains the model first, where there is none.
"""

import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import psutil
import typer
from rich.console import Console
from rich.table import Table

from foretaste import registry, settings
from foretaste.settings import Settings

JOBS = Path(__file__).parents[1] / "jobs"
EVERY_S = 0.5
console = Console(width=None if sys.stdout.isatty() else 160)


def main(
    config: Annotated[Path, typer.Option(help="the deployment's YAML; its tasks have `behaviour`")],
    rows: Annotated[str, typer.Option(help="numbers of rows, parted by commas")] = "100000,1000000",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a setting on top: key.sub=value; may be repeated")] = None,
) -> None:
    chosen = settings.load(config, overrides or ())
    given = [part for override in overrides or () for part in ("--set", override)]
    if not registry.versions(chosen.warehouse.path, chosen.synthesis.task):
        for job in ("ingest", "sessionize", "sequence", "train"):
            subprocess.run([sys.executable, str(JOBS / f"{job}.py"), "--config", str(config), *given], check=True)
    table = Table(title=f"rows of {chosen.sequences.length} events, by {chosen.synthesis.task}")
    for heading in ("rows", "seconds", "rows a second", "most memory, all", "the JVM", "Python"):
        table.add_column(heading, justify="right")
    for number in rows.split(","):
        seconds, most = _watched(_command(config, given, chosen, int(number)))
        sizes = [f"{most[kind] / 1e9:.2f} GB" for kind in ("all", "java", "python")]
        table.add_row(f"{int(number):,}", f"{seconds:.0f}", f"{int(number) / seconds:,.0f}", *sizes)
    console.print(table)


def _command(config: Path, given: list[str], chosen: Settings, rows: int) -> list[str]:
    own = {"rows": rows, "report": 0, "budget": chosen.sequences.length}
    more = [part for key, value in own.items() for part in ("--set", f"synthesis.{key}={value}")]
    return [sys.executable, str(JOBS / "synthesize.py"), "--config", str(config), *given, *more]


def _watched(command: list[str]) -> tuple[float, dict[str, int]]:
    """Seconds from the start of the command to its end, and the most bytes at any one moment: all, of Java and of Python."""
    started = time.monotonic()
    process = subprocess.Popen(command)
    most = {"all": 0, "java": 0, "python": 0}
    while process.poll() is None:
        now = {"java": 0, "python": 0}
        for one in _family(process.pid):
            try:
                now["java" if one.name() == "java" else "python"] += one.memory_full_info().pss
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        for kind, size in (*now.items(), ("all", sum(now.values()))):
            most[kind] = max(most[kind], size)
        time.sleep(EVERY_S)
    if process.returncode:
        raise SystemExit(process.returncode)
    return time.monotonic() - started, most


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


if __name__ == "__main__":
    typer.run(main)
