"""What a model of `returns` gives away of those it learnt from, with and without differential privacy, and what that costs.

    python bench/private.py --config conf/demo.yaml --households 400 --epochs 10 --epsilons 8,2

Half of the users (by a hash) are learnt from. The attack knows a row with its answer, and guesses by the model's loss on it whether it was
learnt from (Yeom et al. 2018): its AUC over as many rows of the other half, of the same time, is 0.5 where nothing is given away. Intervals
are over users. Validation rows, which no model learnt from, say what the model is worth.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import typer
from numpy.typing import NDArray
from prepared import prepared
from pyspark.sql import functions as F
from rich.console import Console
from rich.table import Table as Grid
from sklearn.metrics import roc_auc_score

from foretaste import registry
from foretaste.contract import SCALARS
from foretaste.scoring.arrow import to_batch
from foretaste.scoring.scorer import ModelScorer
from foretaste.settings import Settings
from foretaste.steps.train import train
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tables.vocabulary import VOCABULARY

MOST_ROWS = 20_000
RESAMPLES = 200
IS_MEMBER = "xxhash64(user_id) % 2 = 0"


def main(
    config: Annotated[Path, typer.Option()] = Path("conf/demo.yaml"),
    households: Annotated[int, typer.Option(help="of the demo's data; few are learnt by heart sooner")] = 400,
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    epsilons: Annotated[str, typer.Option(help="of the private fits, joined by commas")] = "8,2",
    out: Annotated[Path, typer.Option(help="a folder for the warehouse")] = Path("warehouse/private"),
) -> None:
    model = "{name: gru, embedding: 32, hidden: [64], dropout: 0.0, features: [item, gap, price, category]}"
    asked = [f"warehouse.path={out}", f"source.households={households}", "sequences.length=50", "sequences.min_item_count=5"]
    warehouse, settings = prepared(
        config, [*asked, f"tasks={{returns: {{model: {model}}}}}", "training.launcher=single", "training.workers=1"]
    )
    half = warehouse.annex("half", VOCABULARY)
    rows = warehouse.read(SEQUENCES)
    half.overwrite(SEQUENCES, rows.where((F.col("split") != "train") | F.expr(IS_MEMBER)), warehouse.built_from(SEQUENCES))
    grid = Grid(title=f"{households} households, {epochs} epochs", title_justify="left")
    for heading in (
        "fit",
        "epsilon",
        "validation ROC-AUC",
        "ROC-AUC of rows learnt from",
        "of the others",
        "membership AUC, rows",
        "users",
    ):
        grid.add_column(heading)
    for epsilon in (None, *map(float, epsilons.split(","))):
        grid.add_row(*_row(warehouse, half, settings, epochs, epsilon))
    Console().print(grid)


def _row(warehouse: Warehouse, half: Warehouse, settings: Settings, epochs: int, epsilon: float | None) -> list[str]:
    fit = {"epochs": epochs, "patience": epochs, "batch_size": 256, "learning_rate": 0.003}
    if epsilon is not None:
        fit["private"] = {"epsilon": epsilon, "delta": 1e-5, "clip": 1.0}
    task = settings.tasks["returns"].altered({f"fit.{name}": value for name, value in fit.items()})
    print(*train(half, settings.model_copy(update={"tasks": {"returns": task}})).notes, sep="\n")
    version = registry.versions(half.path, "returns")[-1]
    stored = registry.load(half.path, "returns", version)
    spent = stored.settings.get("private")
    scorer = ModelScorer(stored, 1024)
    columns = ["item", *stored.features, *SCALARS, "returns"]
    train_rows = (
        warehouse.read(SEQUENCES).where("split = 'train' AND cut = 'calendar'").orderBy(F.xxhash64("user_id", "as_of")).limit(MOST_ROWS)
    )
    told = train_rows.select(F.xxhash64("user_id").alias("user"), F.expr(IS_MEMBER).alias("member"), *dict.fromkeys(columns)).toPandas()
    chance = np.clip(scorer.probability(to_batch(pa.RecordBatch.from_pandas(told, preserve_index=False))), 1e-7, 1 - 1e-7)
    label, member, user = told.returns.to_numpy(), told.member.to_numpy(), told.user.to_numpy()
    loss = -np.where(label == 1, np.log(chance), np.log1p(-chance))
    of_users = told.assign(loss=loss).groupby("user").agg(loss=("loss", "mean"), member=("member", "first"))
    return [
        "private" if spent else "plain",
        f"{spent['epsilon']:.2f} (noise {spent['noise_multiplier']:.2f})" if spent else "–",
        f"{stored.metrics['roc_auc']:.3f}",
        f"{roc_auc_score(label[member], chance[member]):.3f}",
        f"{roc_auc_score(label[~member], chance[~member]):.3f}",
        _interval(member, -loss, user),
        _interval(of_users.member.to_numpy(), -of_users.loss.to_numpy(), of_users.index.to_numpy()),
    ]


def _interval(member: NDArray[np.bool_], guess: NDArray[np.float64], user: NDArray[np.int64]) -> str:
    """AUC, and the 2.5th and 97.5th percentile of it over resamples of users."""
    random = np.random.default_rng(0)
    _, place = np.unique(user, return_inverse=True)
    found = []
    for _ in range(RESAMPLES):
        weight = random.poisson(1.0, place.max() + 1)[place]
        found.append(roc_auc_score(member, guess, sample_weight=weight))
    low, high = np.percentile(found, [2.5, 97.5])
    return f"{roc_auc_score(member, guess):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    typer.run(main)
