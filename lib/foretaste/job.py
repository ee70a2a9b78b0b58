"""What every job shares: --config and --set, the session, the report of each step, and errors in one line."""

import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from rich.console import Console

from foretaste import settings as settings_module
from foretaste.errors import ForetasteError
from foretaste.faults import explained
from foretaste.progress import watching
from foretaste.session import spark_session
from foretaste.settings import Settings
from foretaste.steps.report import StepReport
from foretaste.steps.running import announced
from foretaste.tables import Warehouse

Step = Callable[[Warehouse, Settings], StepReport]
Config = Annotated[Path, typer.Option(help="the deployment's YAML, such as conf/demo.yaml")]
Overrides = Annotated[list[str] | None, typer.Option("--set", help="a setting on top: key.sub=value; may be repeated")]
console = Console(soft_wrap=True)


def run(*steps: Step, after: Callable[[Warehouse, Settings, Console], None] | None = None) -> None:
    """A job's command line: the steps in turn, each reported as it ends, then `after`. Errors end it with code 1 and one line."""

    def main(
        config: Config,
        overrides: Overrides = None,
        debug: Annotated[bool, typer.Option(help="show the whole trace of an error")] = False,
    ) -> None:
        try:
            _run(steps, after, config, overrides or ())
        except (ForetasteError, PySparkException, Py4JJavaError) as error:
            _fail(error, debug)

    _command(main)


def _command(main: Callable[..., None]) -> None:
    """Runs `main` with the command line's options, and the job's own docstring as its help."""
    main.__doc__ = sys.modules["__main__"].__doc__
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(main)
    app()


def _run(
    steps: Sequence[Step], after: Callable[[Warehouse, Settings, Console], None] | None, config: Path, overrides: Sequence[str]
) -> None:
    settings = settings_module.load(config, overrides)
    spark = spark_session(settings.spark)
    warehouse = Warehouse(spark, settings.warehouse)
    with announced(warehouse.path, [step.__name__ for step in steps]):
        for step in steps:
            started = time.monotonic()
            with watching(spark, step.__name__, console):
                report = step(warehouse, settings)
            show(report, time.monotonic() - started)
        if after is not None:
            after(warehouse, settings, console)


def diagnose() -> None:
    """The doctor's command line: code 1 where a check failed."""

    def main(
        config: Config,
        overrides: Overrides = None,
    ) -> None:
        from foretaste.doctor import examine, shown  # it imports what all jobs together do, and each of them only its own

        try:
            settings = settings_module.load(config, overrides or ())
        except ForetasteError as error:
            _fail(error, debug=False)
        findings = []
        for finding in examine(settings):
            console.print(f"[dim]{finding.name} …[/dim]", highlight=False)
            findings.append(finding)
        shown(findings, console)
        if not all(finding.ok for finding in findings):
            raise typer.Exit(1)

    _command(main)


def show(report: StepReport, seconds: float) -> None:
    """One line for what went in and out, and one for each note."""
    into = ", ".join(f"{count:,} {name}" for name, count in report.read.items())
    out = ", ".join(f"{count:,} {name}" for name, count in report.written.items())
    console.print(f"[bold]{report.step}[/bold]  {into} → {out}  [dim]{seconds:.1f} s[/dim]", highlight=False)
    for note in report.notes:
        console.print(f"  {note}", highlight=False, markup=False)


def _fail(error: Exception, debug: bool) -> NoReturn:
    """One line to stderr: ours as it reads, Spark's as `explained` has it."""
    if debug:
        traceback.print_exception(error)
    line = str(error) if isinstance(error, ForetasteError) else explained(error)
    Console(stderr=True, soft_wrap=True).print(
        f"[bold red]error[/bold red] {line}" if not debug else line, highlight=False, markup=not debug
    )
    raise typer.Exit(1)
