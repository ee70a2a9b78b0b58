"""One encoder for several tasks beside an encoder for each: both fitted with the same seeds and judged on the same test rows.

python bench/shared.py --config conf/shared.yaml --seeds 1,2,3

The config has `shared`. Of each task that ranks items or answers for a user, the network alone is compared: no blend, no search. A fit that
is there already is not made again, so a run that was cut off goes on.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from prepared import prepared
from rich.console import Console
from rich.table import Table
from torch import Tensor

from foretaste.contract import Batch
from foretaste.errors import SettingsError
from foretaste.evaluation.bootstrap import Estimate
from foretaste.evaluation.passes import Pass
from foretaste.evaluation.segments import ALL
from foretaste.scoring.scorer import rows_at_once
from foretaste.settings import Settings
from foretaste.steps.augmentation import over_seeds
from foretaste.steps.judging import Resampled, judge_of, judged_rows, run
from foretaste.steps.planning import planned, versions_of
from foretaste.steps.sharing import fitted_together
from foretaste.tables import Warehouse
from foretaste.tables.events import EVENTS
from foretaste.tables.items import ITEMS
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY
from foretaste.tasks import TASKS
from foretaste.training.launch import launch
from foretaste.training.loop import fitted_network
from foretaste.training.plan import Fitted, Plan

SIDES = ("alone", "shared")
JUDGED = ("ranking", "binary")
console = Console(width=None if sys.stdout.isatty() else 160)


@dataclass(frozen=True, kw_only=True)
class Network:
    """A fitted network, read once in each process; calibrated, where its fit says how."""

    plan: str
    weights: str
    slope: float = 1.0
    intercept: float = 0.0

    @classmethod
    def of(cls, plan: Plan, fitted: Fitted) -> "Network":
        return cls(plan=plan.to_json(), weights=fitted.weights, **(fitted.calibration or {}))

    def itself(self) -> "Network":
        return self

    def score(self, batch: Batch[Tensor]) -> Tensor:
        return fitted_network(self.plan, self.weights).score(batch).double() * self.slope + self.intercept


def main(
    config: Annotated[Path, typer.Option(help="the deployment's YAML; it has `shared`")],
    seeds: Annotated[str, typer.Option(help="numbers, parted by commas")] = "1",
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a setting on top: key.sub=value; may be repeated")] = None,
) -> None:
    warehouse, chosen = prepared(config, overrides)
    if chosen.shared is None:
        raise SettingsError(
            "nothing is shared, so there is nothing to compare", where="shared", fix="Give it weights of two tasks or more."
        )
    names = [name for name in chosen.shared.weights if TASKS[name].metrics in JUDGED]
    found: dict[str, list[Resampled]] = {name: [] for name in names}
    for seed in (int(number) for number in seeds.split(",")):
        for name, networks in _fitted(warehouse, chosen, seed).items():
            if name in names:
                found[name].append(_judged(warehouse, chosen, name, networks))
    for name in names:
        _print(name, chosen, found[name])


def _fitted(warehouse: Warehouse, chosen: Settings, seed: int) -> dict[str, dict[str, tuple[Plan, Fitted]]]:
    """Task → side → its plan and fit, which lie in `<warehouse>/encoders/<seed>`."""
    annex = warehouse.annex(f"encoders/{seed}", EVENTS, ITEMS, SESSIONS, VOCABULARY, SEQUENCES)
    training = chosen.training.model_copy(update={"seed": seed})
    of_seed = chosen.model_copy(update={"training": training})

    def fit(plan: Plan, report: object = None) -> Fitted:
        return launch(plan, training, warehouse.spark, report=lambda line: print(line, flush=True))

    together = fitted_together(annex, of_seed, fit, print)
    sides: dict[str, dict[str, tuple[Plan, Fitted]]] = {}
    for name, part in together.items():
        plan = planned(annex, of_seed, TASKS[name], chosen.tasks[name], versions_of(annex, TASKS[name]))
        sides[name] = {"alone": (plan, fit(plan)), "shared": (part.plan, part.fitted)}
        console.print(f"{name}: {part.against(sides[name]['alone'][1])}")
    return sides


def _judged(warehouse: Warehouse, chosen: Settings, name: str, networks: dict[str, tuple[Plan, Fitted]]) -> Resampled:
    """Both on the test rows."""
    task = TASKS[name]
    alone, shared = (Network.of(*networks[side]) for side in SIDES)
    plans = [networks[side][0] for side in SIDES]
    sizes = plans[0].sizes
    judging = Pass(
        judge=judge_of(chosen, task),
        label=task.label.name,
        model="shared",
        load_model=shared.itself,
        baselines={"alone": alone},
        replicates=chosen.evaluation.bootstrap,
        seed=chosen.evaluation.seed,
        batch_size=min(chosen.scoring.batch_size, rows_at_once(sizes.num_items)),
        num_items=sizes.num_items,
    )
    features = dict.fromkeys(name for plan in plans for name in plan.features)
    rows = warehouse.read(SEQUENCES, plans[0].train.version)
    return run(judging, judged_rows(rows, chosen, task, features, ("test",), sizes.days))


def _print(name: str, chosen: Settings, of_seeds: list[Resampled]) -> None:
    judge = judge_of(chosen, TASKS[name])
    rows = int(of_seeds[0]["test", ALL, "alone"]["num_judged"][0])
    table = Table(title=f"{name}: {rows:,} test rows, {len(of_seeds)} seeds; means, and 95 % intervals over users and seeds")
    for heading in ("metric", *SIDES, "shared minus alone"):
        table.add_column(heading, justify="right")
    for metric in judge.shown:
        values = {side: np.stack([found["test", ALL, side][metric] for found in of_seeds]) for side in SIDES}  # (seeds, 1 + replicates)
        gained = Estimate.of(over_seeds(values["shared"] - values["alone"], chosen.evaluation.seed))
        means = [f"{values[side][:, 0].mean():.4f}" for side in SIDES]
        interval = f" [{gained.low:+.4f}, {gained.high:+.4f}]" if np.isfinite(gained.low) else ""  # none of shares of the vocabulary
        table.add_row(metric, *means, f"{gained.value:+.4f}{interval}")
    console.print(table)


if __name__ == "__main__":
    typer.run(main)
