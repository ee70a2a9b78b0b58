"""Are reasons what moves scores, and what do they cost? On a warehouse whose models are there.

python bench/reasons.py --config conf/use_cases.yaml [--task interest] [--users 2000]

Deletion test: the items that are named for a user's best target are removed from the history, and then as many of those that were tried,
drawn at random; how much further the target falls by the first is told with an interval over users. Time: the same users' scores with and
without reasons in one thread, in turn, the median of the rounds.
"""

import statistics
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from foretaste import registry, settings
from foretaste.contract import PAD, Batch
from foretaste.evaluation.bootstrap import Estimate, poisson_weights
from foretaste.scoring.arrow import to_batch
from foretaste.scoring.reasons import Reasons, drops, named, tried_items, without
from foretaste.scoring.scorer import ModelScorer
from foretaste.session import spark_session
from foretaste.settings import ReasonSettings
from foretaste.steps.judging import judged_rows
from foretaste.tables import Warehouse
from foretaste.tables.sequences import SEQUENCES
from foretaste.tasks import TASKS

ROUNDS = 3
RESAMPLES = 500


def main(
    config: Annotated[Path, typer.Option(help="the deployment's YAML")],
    task: Annotated[str, typer.Option(help="a task that ranks items, and has a model")] = "interest",
    users: Annotated[int, typer.Option(help="test rows that are looked at, at most")] = 2000,
    overrides: Annotated[list[str] | None, typer.Option("--set", help="a setting on top: key.sub=value; may be repeated")] = None,
) -> None:
    torch.set_num_threads(1)
    chosen = settings.load(config, overrides or ())
    warehouse = Warehouse(spark_session(chosen.spark), chosen.warehouse)
    stored = registry.load(warehouse.path, task)
    wanted = chosen.scoring.reasons or ReasonSettings()
    rows = judged_rows(warehouse.read(SEQUENCES, stored.tables[SEQUENCES.name]), chosen, TASKS[task], stored.features, ("test",))
    few = rows.orderBy("user_hash").limit(users)._collect_as_arrow()
    batch = _joined([to_batch(part) for part in few])
    hashes = np.concatenate([part.column("user_hash").to_numpy() for part in few])
    scorer, look = ModelScorer(stored, chosen.scoring.batch_size), Reasons(**wanted.model_dump())

    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for with_reasons in (False, True):
            started = time.perf_counter()
            position, _ = scorer.top_k(batch, chosen.scoring.top_k)
            if with_reasons:
                look.of(scorer, batch, position, stored.item_ids(), stored.features, {})
            seconds[with_reasons].append(time.perf_counter() - started)
    plain, more = (statistics.median(seconds[kind]) for kind in (False, True))
    print(f"{task}, {len(hashes):,} users, {wanted.tried} items tried for {wanted.targets} targets each: {plain:.2f} s without reasons, "
          f"{more:.2f} s with them, {more / plain:.2f} times as long")  # fmt: skip

    best = position[:, :1]
    tried = tried_items(batch.item, wanted.tried)
    chosen_places = named(drops(scorer, batch, position[:, : wanted.targets], tried, {}), wanted.named)[:, 0]  # (B, named), of the best
    random = np.random.default_rng(chosen.evaluation.seed)
    fall_named = _fall(scorer, batch, best, np.where(chosen_places < 0, PAD, np.take_along_axis(tried, np.maximum(chosen_places, 0), 1)))
    fall_random = _fall(scorer, batch, best, _drawn(tried, (chosen_places >= 0).sum(1), random))
    has_choice = (chosen_places[:, 0] >= 0) & ((tried != PAD).sum(1) > (chosen_places >= 0).sum(1))
    weights = poisson_weights(hashes, RESAMPLES, chosen.evaluation.seed) * has_choice[:, None]
    print("  how far the logarithm of the best target's probability falls, on average")
    falls = {"without the named items": fall_named, "without as many random ones": fall_random, "difference": fall_named - fall_random}
    for name, fall in falls.items():
        estimate = Estimate.of((fall @ weights) / weights.sum(0))
        print(f"  {name}: {estimate.value:.4f} [{estimate.low:.4f}, {estimate.high:.4f}]")
    print(f"  {has_choice.sum():,} users have a named item and another one to draw")


def _fall(scorer: ModelScorer, batch: Batch, best: NDArray[np.int64], removed: NDArray[np.int32]) -> NDArray[np.float64]:
    """(B,): of the best target's probability among all items, as a logarithm, without those items, (B, r) with PAD for none."""
    dropped = ((batch.item[:, :, None] == removed[:, None, :]) & (removed[:, None, :] != PAD)).any(2)
    return _log_share(scorer, batch, best) - _log_share(scorer, without(batch, dropped), best)


def _log_share(scorer: ModelScorer, batch: Batch, best: NDArray[np.int64]) -> NDArray[np.float64]:
    found = []
    with torch.inference_mode():
        for part in scorer._parts(batch):
            wanted = torch.from_numpy(best[sum(map(len, found)) :][: len(part.length)])
            found.append(torch.log_softmax(scorer.score(part).double(), dim=1).gather(1, wanted)[:, 0].clamp(min=-50).numpy())
    return np.concatenate(found)


def _drawn(tried: NDArray[np.int32], number: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int32]:
    """Of each row so many of the items that were tried."""
    key = np.where(tried == PAD, 2.0, random.random(tried.shape))
    shuffled = np.take_along_axis(tried, np.argsort(key, axis=1), axis=1)
    return np.where(np.arange(tried.shape[1]) < number[:, None], shuffled, PAD)


def _joined(parts: list[Batch]) -> Batch:
    first = parts[0]
    return Batch(
        features={name: np.concatenate([part.features[name] for part in parts]) for name in first.features},
        length=np.concatenate([part.length for part in parts]),
        fresh=np.concatenate([part.fresh for part in parts]),
        recency=np.concatenate([part.recency for part in parts]),
    )


if __name__ == "__main__":
    typer.run(main)
