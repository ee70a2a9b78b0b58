"""The command line: `foretaste VERB --config conf/….yaml --set key.sub=value`.

A verb a job (job.py), and `doctor`, `show` and `notebooks` beside them. `jobs/<verb>.py` are the same verbs, one by one, for spark-submit.
Errors end in one line that says what, where and how to mend it, and with code 1.
"""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException
from rich.console import Console
from rich.markup import escape

import foretaste
from foretaste import settings as settings_module
from foretaste.errors import ForetasteError
from foretaste.faults import explained
from foretaste.job import JOBS, run
from foretaste.session import spark_session
from foretaste.tables import Warehouse

Config = Annotated[
    Path,
    typer.Option("--config", "-c", envvar="FORETASTE_CONFIG", help="the deployment's YAML, such as conf/demo.yaml", show_default=False),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a setting on top, such as training.workers=2; may be repeated")
]
Debug = Annotated[bool, typer.Option("--debug", help="show the whole trace of an error")]

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="What each user of an online shop will want in the next hours and days.\n\nBegin with: foretaste doctor --config conf/demo.yaml",
    epilog="Settings are one YAML for each deployment; `foretaste VERB --help` tells of one verb, and docs/ has a tutorial.",
)
console = Console(soft_wrap=True)


def main() -> None:
    """What the command `foretaste` runs, and a wheel's task on Databricks, which takes any SystemExit for a failure."""
    try:
        app()
    except SystemExit as ended:
        if ended.code:
            raise


def main_of(verb: str) -> None:
    """What `jobs/<verb>.py` runs: that verb alone."""
    alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    alone.command()(VERBS[verb])
    alone()


@contextmanager
def _in_one_line(debug: bool) -> Iterator[None]:
    """Errors end the command with one line on stderr: ours as it reads, Spark's as `explained` has it."""
    try:
        yield
    except (ForetasteError, PySparkException, Py4JJavaError) as error:
        if debug:
            traceback.print_exception(error)
        line = str(error) if isinstance(error, ForetasteError) else explained(error)
        mark = "" if debug else "[bold red]error[/bold red] "
        Console(stderr=True, soft_wrap=True).print(f"{mark}{escape(line)}", highlight=False)
        raise typer.Exit(1) from None


def _job(name: str) -> Callable[..., None]:
    def verb(config: Config, overrides: Overrides = None, debug: Debug = False) -> None:
        with _in_one_line(debug):
            run(name, settings_module.load(config, overrides or ()), console)

    verb.__doc__ = JOBS[name].about
    return verb


def doctor(config: Config, overrides: Overrides = None, debug: Debug = False) -> None:
    """Looks whether all is there that the jobs need, and says how to mend what is not. Writes nothing that stays."""
    from foretaste.doctor import examine, shown  # it imports what all jobs together do, and each of them only its own

    with _in_one_line(debug):
        settings = settings_module.load(config, overrides or ())
    findings = []
    for finding in examine(settings):
        console.print(f"[dim]{finding.name} …[/dim]", highlight=False)
        findings.append(finding)
    shown(findings, console)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def show(
    user: Annotated[str, typer.Argument(help="the user's id, as the shop has it", show_default=False)],
    config: Config,
    overrides: Overrides = None,
    events: Annotated[int, typer.Option(min=1, help="so many of the last events")] = 10,
    targets: Annotated[int, typer.Option(min=1, help="so many of the best targets of each task")] = 5,
    debug: Debug = False,
) -> None:
    """What one user did, what is foretold, and why."""
    from foretaste.profiles import of_person, shown

    with _in_one_line(debug):
        settings = settings_module.load(config, overrides or ())
        warehouse = Warehouse(spark_session(settings.spark), settings.warehouse)
        for grid in shown(of_person(warehouse, settings, user, events=events, targets=targets)):
            console.print(grid)


def notebooks(
    paths: Annotated[list[Path], typer.Argument(help="notebooks, run in this order", show_default=False)],
    config: Config,
    overrides: Overrides = None,
    out: Annotated[Path, typer.Option(help="a folder for the pages")] = Path("dist/notebooks"),
    debug: Debug = False,
) -> None:
    """Runs notebooks from top to bottom, and writes what they showed as HTML pages."""
    from foretaste.notebook import render

    with _in_one_line(debug):
        for page in render(paths, config, overrides or (), out):
            console.print(str(page), highlight=False)


VERBS: dict[str, Callable[..., None]] = {**{name: _job(name) for name in JOBS}, "doctor": doctor, "show": show, "notebooks": notebooks}
for _name, _verb in VERBS.items():
    app.command(_name)(_verb)


def _version(asked: bool) -> None:
    if asked:
        console.print(f"foretaste {foretaste.__version__}", highlight=False)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="say which release this is, and end")
    ] = False,
) -> None: ...


if __name__ == "__main__":
    main()
