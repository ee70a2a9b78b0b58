"""Two Horovod ranks of one thread each beside one rank of one thread: the same plan, the same rows, the same steps.

python bench/ranks.py --events 1000000 --rounds 5

Both are started by horovodrun and read through the feed; the global batch is the same, so that two ranks have half of it each. Told are
sequences a second of an epoch's steps, without start-up and judging, and how much of that time was waiting for rows. The losses of both are
compared, and to be comparable they are without dropout. A third side is one rank of half the rows a step, as many as each of the two has,
for those who give each rank what one had. A fourth tells what the machine allows: two fits like the third side by side, which exchange
nothing and keep to no cores of their own. Events are made up (bench/made_events.py).
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from compared import Figures, console, in_turn, keep, ratio, tell
from made_events import made_shop

from foretaste.settings import FitSettings, ModelSettings, TaskSettings, TrainingSettings
from foretaste.steps.planning import planned, versions_of
from foretaste.steps.sequence import sequence
from foretaste.steps.sessionize import sessionize
from foretaste.tasks import TASKS
from foretaste.training.launch import launch
from foretaste.training.plan import Plan

ONE, TWO, HALF, APART = "one rank", "two ranks", "one rank, half of the rows", "two such ranks that exchange nothing"


def main(
    network: Annotated[str, typer.Option(help="gru, lstm, transformer, …")] = "gru",
    size: Annotated[str, typer.Option(help="tiny, base or large")] = "base",
    batch_size: Annotated[int, typer.Option(help="rows of a step, over all ranks")] = 256,
    negatives: Annotated[int, typer.Option(help="of a sampled softmax; 0: the softmax over all items")] = 512,
    own_cores: Annotated[bool, typer.Option(help="each rank keeps to a core of its own")] = True,
    steps: Annotated[int, typer.Option(help="of a round")] = 60,
    events: Annotated[int, typer.Option(help="how many the rows are made of")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="of both, in turn")] = 5,
    folder: Annotated[Path, typer.Option(help="where events and warehouses go")] = Path("warehouse/bench"),
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    warehouse, settings = made_shop(folder, events)
    for step in (sessionize, sequence):
        step(warehouse, settings)
    loss = {"name": "sampled_softmax", "negatives": {"number": negatives}} if negatives else {}
    task = TASKS["interest"]

    def plan_of(rows: int) -> Plan:
        fit = FitSettings.model_validate({"epochs": 1, "batch_size": rows, "max_steps": steps, "loss": loss})
        chosen = TaskSettings(model=ModelSettings.model_validate({"name": network, "size": size, "dropout": 0.0}), fit=fit)
        return replace(planned(warehouse, settings, task, chosen, versions_of(warehouse, task)), valid=None)

    plan, half = plan_of(batch_size), plan_of(batch_size // 2)
    warehouse.spark.stop()  # its JVM is to take no core
    waiting: Figures = {ONE: [], TWO: [], HALF: []}
    losses: dict[str, float] = {}

    def pace(side: str, workers: int, plan: Plan) -> float:
        training = TrainingSettings(launcher="horovodrun", workers=workers, threads=1, own_cores=own_cores, resume=False)
        fitted = launch(replace(plan, folder=f"{plan.folder}-{workers}"), training, report=lambda line: None)
        [epoch] = fitted.history
        waiting[side].append(epoch["waiting"])
        losses[side] = epoch["loss"]
        return epoch["sequences_per_s"]

    def apart(number: int) -> float:
        training = TrainingSettings(launcher="horovodrun", workers=1, threads=1, resume=False)
        fitted = launch(replace(half, folder=f"{half.folder}-apart-{number}"), training, report=lambda line: None)
        return fitted.history[0]["sequences_per_s"]

    with ThreadPoolExecutor(2) as pool:
        sides = {
            ONE: lambda _: pace(ONE, 1, plan),
            TWO: lambda _: pace(TWO, 2, plan),
            HALF: lambda _: pace(HALF, 1, half),
            APART: lambda _: sum(pool.map(apart, range(2))),
        }
        rates = in_turn(sides, rounds, "sequences/s")
    if abs(losses[ONE] - losses[TWO]) > 1e-3:
        raise SystemExit(f"the losses differ: {losses}")
    tell(f"{network} {size}, {batch_size} rows a step, {steps} steps; loss {losses[ONE]:.4f} and {losses[TWO]:.4f}", rates, "sequences/s")
    tell("waiting for rows", {side: [100 * share for share in shares] for side, shares in waiting.items()}, "%")
    middle, told = ratio(rates, TWO, ONE)
    console.print(f"two ranks take {told} times as many sequences a second as one")
    most, told = ratio(rates, APART, ONE)
    console.print(f"two fits that exchange nothing take {told} times as many: what this machine allows")
    same_rows, told = ratio(rates, TWO, HALF)
    console.print(f"two ranks take {told} times as many as one of as many rows a step as each of them")
    same_apart, told = ratio(rates, APART, HALF)
    console.print(f"two fits that exchange nothing take {told} times as many as that: what this machine allows")
    ratios = {"ratio": middle, "ratio_apart": most, "ratio_same_rows": same_rows, "ratio_same_rows_apart": same_apart}
    keep(out, "ranks", network=network, size=size, sequences_per_s=rates, waiting=waiting, **ratios)


if __name__ == "__main__":
    typer.run(main)
