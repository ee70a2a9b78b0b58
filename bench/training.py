"""GRU and transformer beside RecBole's GRU4Rec and SASRec: the same users, events held out, widths, loss, threads and targets a step.

uv venv warehouse/bench/recbole
uv pip install --python warehouse/bench/recbole recbole==1.2.1 torch==2.9.1 numpy==1.26.4 pandas==2.2.3 'setuptools<70'
python bench/training.py --path data/beauty/Beauty.txt --recbole warehouse/bench/recbole/bin/python

Both minimise the softmax cross-entropy over all items and learn each event of training once an epoch. RecBole reads a prefix of a history
for each of its events and learns its last one; Foretaste reads a history once and learns from every place. So it is targets that are
counted: events learnt a second, reading included; an epoch of both has as many of them. First each side is fitted until it gets no better
on the validation items (`--quality`), and the Recall@20 of the test items, all items ranked, is told; then each round is an epoch of both.
"""

import json
import subprocess
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from compared import console, in_turn, keep, ratio, tell

from foretaste import settings
from foretaste.feed.pin import pin
from foretaste.feed.reader import batches
from foretaste.feed.snapshot import Pin
from foretaste.models import Model
from foretaste.session import spark_session
from foretaste.settings import FitSettings, ModelSettings, TaskSettings, TrainingSettings
from foretaste.steps.ingest import ingest
from foretaste.steps.planning import planned, versions_of
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tables import Warehouse
from foretaste.tasks import TASKS
from foretaste.training.judge import ItemsJudge
from foretaste.training.launch import launch
from foretaste.training.loop import fitted_network
from foretaste.training.plan import Fitted, Plan

THEIRS = {"gru": "GRU4Rec", "transformer": "SASRec"}
WIDTH = 64


def main(
    path: Annotated[Path, typer.Option(help="a line a user: `user item item …`, oldest first, as Amazon Beauty is published")],
    recbole: Annotated[Path, typer.Option(help="the Python of an environment with RecBole")],
    every: Annotated[int, typer.Option(help="take every so many lines one", min=1)] = 1,
    core: Annotated[int, typer.Option(help="of these, the users and items that have so many events among themselves")] = 0,
    network: Annotated[str, typer.Option(help="gru or transformer")] = "gru",
    batch_size: Annotated[int, typer.Option(help="histories of a step; RecBole gets as many targets")] = 256,
    threads: Annotated[int, typer.Option(help="of each side")] = 2,
    rounds: Annotated[int, typer.Option(help="epochs of both, in turn")] = 3,
    quality: Annotated[bool, typer.Option(help="fit both until they get no better, too")] = True,
    epochs: Annotated[int, typer.Option(help="at most, for quality")] = 60,
    patience: Annotated[int, typer.Option(help="epochs without a better one")] = 4,
    learning_rate: Annotated[float, typer.Option(help="of both, AdamW's and Adam's")] = 1e-3,
    seed: Annotated[int, typer.Option()] = 1,
    folder: Annotated[Path, typer.Option(help="where warehouse and RecBole's files go")] = Path("warehouse/bench/training"),
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    path = _chosen(path, every, core, folder / "histories" / "histories.txt")
    plan, test = _plan(path, folder, network, batch_size, learning_rate, seed)
    targets = _for_recbole(path, folder / "recbole-data" / "shop")
    their_batch = round(batch_size * targets / plan.train.num_rows)
    theirs = THEIRS[network]

    def our_run(fit: FitSettings, where: str) -> tuple[Plan, Fitted]:
        training = TrainingSettings(launcher="horovodrun", workers=1, threads=threads, resume=False)
        asked = replace(plan, fit=fit, folder=f"{plan.folder}-{where}")
        return asked, launch(asked, training, report=lambda line: console.print(line) if where == "quality" else None)

    def their_run(number: int, wait: int) -> Any:
        side = Path(__file__).with_name("recbole_side.py").resolve()
        told = (theirs, (folder / "recbole-data").resolve(), number, wait, their_batch, threads, WIDTH, seed, learning_rate)
        command = [str(recbole.absolute()), str(side), *map(str, told)]
        ended = subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, stderr=None if wait else subprocess.DEVNULL, check=True)
        return json.loads(ended.stdout.decode().strip().splitlines()[-1])

    recalls: dict[str, float] = {}
    if quality:
        asked, fitted = our_run(plan.fit.model_copy(update={"epochs": epochs, "patience": patience}), "quality")
        recalls[network] = _recall(asked, fitted.weights, test)
        found = their_run(epochs, patience)
        recalls[theirs] = found["recall"]
        console.print(
            f"Recall@20 of test items: {network} {recalls[network]:.4f} (epoch {fitted.best_epoch}, {fitted.num_parameters:,} parameters), "
            f"{theirs} {recalls[theirs]:.4f} (epoch {found['epoch']}, {found['parameters']:,} parameters)"
        )

    learnt: dict[str, float] = {}

    def our_pace(_: int) -> float:
        [epoch] = our_run(plan.fit.model_copy(update={"epochs": 1}), "pace")[1].history
        learnt[network] = epoch["targets"]
        return float(epoch["targets"] * epoch["steps_per_s"] / epoch["steps"])

    def their_pace(_: int) -> float:
        [epoch] = their_run(1, 0)["history"]
        learnt[theirs] = epoch["targets"]
        return float(epoch["targets"] / epoch["seconds"])

    rates = in_turn({network: our_pace, theirs: their_pace}, rounds, "targets/s")
    if abs(learnt[network] / learnt[theirs] - 1) > 0.01:  # rows that fill no step are left out of an epoch
        raise SystemExit(f"an epoch has other targets: {learnt}")
    tell(f"{network} beside {theirs}, width {WIDTH}, {threads} threads, {batch_size} histories a step", rates, "targets/s")
    middle, told = ratio(rates, network, theirs)
    console.print(f"{network} learns {told} times as many targets a second as {theirs}")
    keep(out, "training", network=network, targets_per_s=rates, recall=recalls, ratio=middle)


def _chosen(path: Path, every: int, core: int, chosen: Path) -> Path:
    """Writes the histories to compare on. Where only some users are taken, many items have few events, or none to learn from: `core`
    leaves those out, and users that are left with few, until all that are left have so many.
    """
    lines, before = [line.split() for line in path.read_text().splitlines()[every - 1 :: every]], None
    while lines != before:
        before, events = lines, Counter(item for _, *items in lines for item in items)
        kept = [[user, *(item for item in items if events[item] >= core)] for user, *items in lines]
        lines = [line for line in kept if len(line) > core]
    chosen.parent.mkdir(parents=True, exist_ok=True)
    chosen.write_text("".join(f"{' '.join(line)}\n" for line in lines))
    return chosen


def _plan(path: Path, folder: Path, network: str, batch_size: int, learning_rate: float, seed: int) -> tuple[Plan, Pin]:
    """What to fit, and the rows to test it by."""
    overrides = [
        f"warehouse.path={folder}",
        f"source.path={path}",
        "evaluation.leave_out_seen=false",
        f"training.seed={seed}",
        "spark.driver_memory=4g",
    ]
    chosen = settings.load("conf/beauty.yaml", overrides)
    warehouse = Warehouse(spark_session(chosen.spark), chosen.warehouse)
    for step in (ingest, sessionize, sequence):
        step(warehouse, chosen)
    sizes = {"gru": {"hidden": [WIDTH], "dropout": 0.3}, "transformer": {"layers": 2, "heads": 2, "dropout": 0.5, "position": "learned"}}
    model = ModelSettings.model_validate({"name": network, "embedding": WIDTH, **sizes[network]})
    fit = FitSettings(batch_size=batch_size, learning_rate=learning_rate)
    task = TASKS["interest"]
    plan = planned(warehouse, chosen, task, TaskSettings(model=model, fit=fit), versions_of(warehouse, task))
    test = pin(warehouse, "test", task.judged_cut(chosen.sequences.judged_cut), plan.train.version)
    warehouse.spark.stop()  # its JVM is to take no core
    return plan, test


def _recall(plan: Plan, weights: str, test: Pin) -> float:
    model = fitted_network(plan.to_json(), weights)
    assert isinstance(model, Model)
    judge = ItemsJudge(plan.label)
    with torch.inference_mode():
        for batch in batches(test, batch_size=512, features=plan.features, labels=(plan.label,), shuffle=False, drop_uneven=False):
            judge.add(model.eval(), batch)
    verdict = judge.verdict()
    assert verdict is not None
    return verdict.metrics["recall@20"]


def _for_recbole(path: Path, folder: Path) -> int:
    """Writes the same events as RecBole reads them, an event's place as its time. How many of them are learnt: of a history all but the
    first and the two that are held out."""
    targets = 0
    folder.mkdir(parents=True, exist_ok=True)
    with path.open() as lines, (folder / "shop.inter").open("w") as written:
        written.write("user_id:token\titem_id:token\ttimestamp:float\n")
        for line in lines:
            user, *items = line.split()
            written.writelines(f"{user}\t{item}\t{place}\n" for place, item in enumerate(items))
            targets += max(0, len(items) - 3)
    return targets


if __name__ == "__main__":
    typer.run(main)
