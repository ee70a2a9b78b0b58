"""Where do written rows help? The gate of steps/augmentation.py with all users, and with one training user in ten.

python bench/augmentation.py --config conf/augmentation.yaml --set source.path='/data/yoochoose/*.txt'

The config has a task `behaviour`, which writes, and a task `interest` whose `fit.augment` asks for rows. In each setting a GAN and a VAE
learn from its training rows, write as many rows as are asked for, and the gate says what they are worth; then the GAN writes rows of which
each second one is asked to hold an item with fewer than five training events. `<warehouse>/few` holds the second setting. In a third,
`shared`, one in ten may be read, and rows of a model that learnt from all. A model that is there already is not fitted again.
"""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from prepared import prepared
from pyspark.sql import functions as F
from rich.console import Console

from foretaste import registry
from foretaste.feed.pin import pin
from foretaste.settings import Settings
from foretaste.steps.synthesize import synthesize
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY

WRITES, LEARNS = "behaviour", "interest"
ONE_IN = 10
MORE_EPOCHS = 2  # of what writes, where its epochs are so much shorter
NUM_FILES = 16  # as sequences has, of which a few are set apart
MORE = 1.1  # rows written for each that is asked for, since whole files are taken
WAYS: dict[str, tuple[str, float]] = {"gan": ("gan", 0.0), "vae": ("vae", 0.0), "gan, rare items": ("gan", 0.5)}
"""Name → the kind of model, and the share of its rows that are asked to hold a rare item."""
console = Console(width=None if sys.stdout.isatty() else 200)


def main(
    config: Annotated[Path, typer.Option(help="the deployment's YAML")],
    users: Annotated[str, typer.Option(help="of: all, few, shared; parted by commas")] = "all,few,shared",
    ways: Annotated[str, typer.Option(help="of: gan; vae; gan, rare items; parted by semicolons")] = ";".join(WAYS),
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a setting on top: key.sub=value; may be repeated")] = None,
) -> None:
    warehouse, chosen = prepared(config, overrides)
    told = []
    for who in users.split(","):
        own = chosen
        if who == "few":
            own = _with(chosen, WRITES, {"fit.epochs": MORE_EPOCHS * chosen.tasks[WRITES].fit.epochs})
        for way in ways.split(";"):
            writes = _few(warehouse) if who == "few" else warehouse
            _write(writes, own, way)
            learns = warehouse if who == "all" else _few(warehouse)
            told.append(f"{who} users, {way}: {_gate(learns, own, way, writes)}")
            console.print(told[-1])
    console.print("\n".join(told))


def _few(warehouse: Warehouse) -> Warehouse:
    """The same with one training user in ten; validation and test stay as they are."""
    annex = warehouse.annex("few", EVENTS, SESSIONS, VOCABULARY)
    if not annex.exists(SEQUENCES):
        rows = warehouse.read(SEQUENCES).where((F.col("split") != "train") | (F.pmod(F.xxhash64("user_id"), F.lit(ONE_IN)) == 0))
        annex.overwrite(SEQUENCES, rows.repartition(NUM_FILES, "user_id"), warehouse.built_from(SEQUENCES))
    return annex


def _write(warehouse: Warehouse, chosen: Settings, way: str) -> None:
    """Rows written in this way, as many as are asked for; first the model, where there is none."""
    kind, cold = WAYS[way]
    writing = _only(_with(chosen, WRITES, {"model.name": kind}), WRITES)
    if kind not in {registry.load(warehouse.path, WRITES, number).model["name"] for number in registry.versions(warehouse.path, WRITES)}:
        console.print(*train(warehouse, writing).notes, sep="\n")
    rows = int(MORE * _share(chosen) * pin(warehouse, "train", "window").num_rows) + 1
    asked = chosen.synthesis.model_copy(update={"task": WRITES, "model": kind, "rows": rows, "cold": cold, "report": 0})
    console.print(*synthesize(warehouse, writing.model_copy(update={"synthesis": asked})).notes, sep="\n")


def _gate(warehouse: Warehouse, chosen: Settings, way: str, writes: Warehouse) -> str:
    """What the gate says of rows written in this way."""
    kind, _ = WAYS[way]
    of = None if writes.path == warehouse.path else writes.path
    augment = {"gan": 0.0, "vae": 0.0, kind: _share(chosen), "of": of}
    learning = _with(chosen, LEARNS, {f"fit.augment.{name}": value for name, value in augment.items()})
    train(warehouse, _only(learning, LEARNS))
    newest = registry.load(warehouse.path, LEARNS, registry.versions(warehouse.path, LEARNS)[-1])
    return _told(newest.settings["augmentation"])


def _share(chosen: Settings) -> float:
    return max(chosen.tasks[LEARNS].fit.augment.written.values())


def _with(chosen: Settings, task: str, changes: dict[str, Any]) -> Settings:
    """The same with that task altered."""
    return chosen.model_copy(update={"tasks": {**chosen.tasks, task: chosen.tasks[task].altered(changes)}})


def _only(chosen: Settings, task: str) -> Settings:
    return chosen.model_copy(update={"tasks": {task: chosen.tasks[task]}})


def _told(summary: dict[str, Any]) -> str:
    lines = [f"{summary['written_rows']:,} rows {'accepted' if summary['accepted'] else 'NOT accepted'}, seeds {summary['seeds']}"]
    for verdict in summary["verdicts"]:
        value, low, high = verdict["difference"]
        lines.append(
            f"  {verdict['rows']}: {verdict['metric']} {verdict['with']:.4f} with them, {verdict['without']:.4f} without, "
            f"{value:+.4f} [{low:+.4f}, {high:+.4f}]"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
