"""What a user's few latent numbers know of churn: logistic regression on them, on RFM features and on both, judged on the same rows.

python bench/latents.py --config conf/latents.yaml

Trains the model of the task `latents` first, where there is none. The regressions learn from the training rows of `returns` and are judged
on its test rows: will this user come back within the horizon?
"""

import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer
from prepared import prepared, shown
from rich.console import Console
from torch import Tensor

from foretaste import registry
from foretaste.contract import Batch
from foretaste.evaluation.baselines import RFM_FEATURES, Numbers, rfm
from foretaste.evaluation.comparison import Comparison
from foretaste.evaluation.fitting import regression
from foretaste.evaluation.passes import Pass
from foretaste.evaluation.segments import ALL
from foretaste.models import Variational
from foretaste.scoring.udf import load_scorer
from foretaste.settings import Settings
from foretaste.steps.judging import judge_of, judged_rows, run
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tasks import TASKS

TASK, JUDGED = "latents", TASKS["returns"]
SHOWN = ("roc_auc", "pr_auc", "log_loss", "accuracy")
console = Console(width=None if sys.stdout.isatty() else 160)


@dataclass(frozen=True, kw_only=True)
class Latents:
    """The numbers of a stored model, loaded in each process at the first call; with `rfm` beside them, or without."""

    root: str
    version: int
    batch_size: int
    with_rfm: bool = False

    def __call__(self, batch: Batch[Tensor]) -> Tensor:
        network = load_scorer(self.root, TASK, self.version, self.batch_size).network
        assert isinstance(network, Variational)
        latents = network.latents(batch).double()
        return torch.cat([latents, rfm(batch)], dim=1) if self.with_rfm else latents


def main(
    config: Annotated[Path, typer.Option(help="the deployment's YAML; its tasks have `latents`")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a setting on top: key.sub=value; may be repeated")] = None,
) -> None:
    warehouse, chosen = prepared(config, overrides)
    if not registry.versions(warehouse.path, TASK):
        shown(train, warehouse, chosen)
    _print(compared(warehouse, chosen))


def compared(warehouse: Warehouse, chosen: Settings) -> Comparison:
    """The three regressions on the test rows of `returns`; `latents` is the one that the others are compared with."""
    stored = registry.load(warehouse.path, TASK)
    rows = warehouse.read(SEQUENCES, stored.tables[SEQUENCES.name])
    features = tuple(dict.fromkeys((*stored.features, *RFM_FEATURES)))
    of_model = partial(Latents, root=warehouse.path, version=stored.version, batch_size=chosen.scoring.batch_size)
    numbers: dict[str, Numbers] = {"latents": of_model(), "rfm": rfm, "both": of_model(with_rfm=True)}
    learnt = rows.where(f"split = 'train' and cut = '{JUDGED.train_cut}'")
    scorers = {}
    for name, seen in numbers.items():
        scorers[name] = regression(learnt, JUDGED.label.name, seen, features)
    judge = judge_of(chosen, JUDGED)
    judging = Pass(
        judge=judge,
        label=JUDGED.label.name,
        model="latents",
        load_model=lambda: scorers["latents"],
        baselines={name: scorer for name, scorer in scorers.items() if name != "latents"},
        replicates=chosen.evaluation.bootstrap,
        seed=chosen.evaluation.seed,
        batch_size=chosen.scoring.batch_size,
    )
    resampled = run(judging, judged_rows(rows, chosen, JUDGED, features, ("test",)))
    return Comparison(
        task=JUDGED.name,
        split="test",
        model="latents",
        scorers={name: resampled["test", ALL, name] for name in scorers},
        headline=judge.headline,
        lower_is_better=judge.lower_is_better,
        shown=SHOWN,
    )


def _print(comparison: Comparison) -> None:
    console.print(f"logistic regressions for {comparison.task}, on {comparison.num_rows:,} test rows; 95 % intervals over users")
    for line in comparison.table():
        console.print(line, soft_wrap=True)
    for one, other in (("latents", "rfm"), ("both", "rfm")):
        found = replace(comparison, model=one).difference("roc_auc", other)
        console.print(f"roc_auc of {one} minus {other}: {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]")


if __name__ == "__main__":
    typer.run(main)
