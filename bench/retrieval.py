"""The best 20 of a million items by shortlists (scoring/shortlists.py), beside the exact product with all of them, on the same cores.

python bench/retrieval.py --warehouse warehouse/demo --items 1000000 --rounds 5

No shop with a million items is at hand, so a trained model's items are multiplied: each becomes many that lie around it, by `spread` of the
item vectors' deviation, each with a bias that differs a little. Users are those of the model's own validation and test rows, as the
network reads them. Told are users a second without the network, the share of the exact best 20 that is found, on users who had no part in
making the shortlists, and how long they take to make.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.dataset as ds
import torch
import typer
from compared import console, in_turn, keep, ratio, tell
from deltalake import DeltaTable
from torch import Tensor

from foretaste import registry
from foretaste.contract import FIRST_INDEX, SCALARS
from foretaste.models import Blend, Model
from foretaste.scoring.arrow import to_batch
from foretaste.scoring.shortlists import build
from foretaste.scoring.topk import Catalogue
from foretaste.stored_model import StoredModel

TOP_K, BATCH, JUDGED = 20, 256, 1024
SHORT, EXACT = "shortlists", "exact product"


def main(
    warehouse: Annotated[Path, typer.Option(help="one with a trained network (or a blend around one) and its sequences")],
    task: Annotated[str, typer.Option(help="whose champion is taken")] = "interest",
    items: Annotated[int, typer.Option(help="of the catalogue")] = 1_000_000,
    spread: Annotated[float, typer.Option(help="how far from its origin an item lies")] = 0.5,
    keen: Annotated[float, typer.Option(help="tastes lie so many times as far from their mean, and what everybody buys counts less")] = 1.0,
    recall: Annotated[float, typer.Option(help="the share of the exact best 20 to be found")] = 0.99,
    groups: Annotated[int, typer.Option(help="of users")] = 1024,
    asked: Annotated[int, typer.Option(help="users a round")] = 10_000,
    rounds: Annotated[int, typer.Option(help="of both, in turn")] = 5,
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    stored = registry.load(str(warehouse), task)
    model = stored.network()
    network = model.network if isinstance(model, Blend) else model
    assert isinstance(network, Model)
    tastes = _tastes(network, stored, warehouse)
    if len(tastes) <= asked:
        raise SystemExit(f"{warehouse} has {len(tastes):,} tastes; ask for fewer (--asked), as shortlists are made from the others")
    tastes = tastes.mean(0) + keen * (tastes - tastes.mean(0))
    catalogue = _multiplied(network, items, spread, keen)
    users, known = torch.from_numpy(tastes[:asked]), tastes[asked:]
    started = time.monotonic()
    with torch.inference_mode():
        shortlists, worth = build(catalogue, known, None, groups=groups, recall=recall, k=TOP_K, seed=0)
    if shortlists is None:
        raise SystemExit(f"shortlists would be {worth.items:,} items long")
    seconds = time.monotonic() - started
    size = sum(tensor.nbytes for tensor in shortlists.tensors.values()) / 1e6
    console.print(
        f"{worth.items:,} items a list, {len(shortlists.centres):,} lists of {len(known):,} users, {size:.0f} MB: {seconds:.0f} s"
    )

    @torch.inference_mode()
    def short(_: int) -> float:
        return _rate(users, lambda: shortlists.best(users, TOP_K))

    @torch.inference_mode()
    def exact(_: int) -> float:
        some = users[:JUDGED]
        return _rate(some, lambda: [catalogue.scores(part).topk(TOP_K) for part in torch.split(some, BATCH)])

    rates = in_turn({SHORT: short, EXACT: exact}, rounds, "users/s")
    with torch.inference_mode():
        found, probabilities = shortlists.best(users[:JUDGED], TOP_K)
        best, of_all = (
            torch.cat(parts) for parts in zip(*[catalogue.best(each, TOP_K) for each in users[:JUDGED].split(BATCH)], strict=True)
        )
    share = float((found[:, :, None] == best[:, None]).any(2).double().mean())
    same = found[:, 0] == best[:, 0]
    off = float((probabilities[same, 0] / of_all[same, 0] - 1).abs().quantile(0.95))
    distinct = len(torch.unique(best))
    tell(f"the best {TOP_K} of {items:,} items; {JUDGED:,} users' exact best are {distinct:,} different ones", rates, "users/s")
    middle, told = ratio(rates, SHORT, EXACT)
    console.print(f"shortlists are {told} times as fast and find {share:.2%} of the exact best {TOP_K}")
    console.print(f"their probabilities are within {off:.1%} of the exact ones for 19 users of 20")
    keep(out, "retrieval", items=items, users_per_s=rates, ratio=middle, recall=share, off=off, list_length=worth.items, build_s=seconds)


def _tastes(network: Model, stored: StoredModel, warehouse: Path) -> np.ndarray:
    """(U, D) of the calendar rows of validation and test time, in an order without meaning."""
    files = DeltaTable(warehouse / "sequences").file_uris(
        file_pruning_predicate=[("cut", "=", "calendar"), ("split", "in", ["valid", "test"])]
    )
    features = dict.fromkeys(("item", *stored.features))
    table = ds.dataset(files).to_table(columns=[*SCALARS, *features], filter=ds.field("length") > 0).combine_chunks()
    batch = to_batch(table.to_batches()[0])
    with torch.inference_mode():
        parts = [
            network.represent(batch.map(lambda array, start=start: torch.tensor(array[start : start + BATCH])))
            for start in range(0, table.num_rows, BATCH)
        ]
    tastes = torch.cat(parts).numpy()
    return np.ascontiguousarray(tastes[np.random.default_rng(0).permutation(len(tastes))])


def _multiplied(network: Model, items: int, spread: float, keen: float) -> Catalogue:
    weights, bias = (tensor[FIRST_INDEX:].detach() for tensor in network.item_weights())
    generator = torch.Generator().manual_seed(0)
    origin = torch.randint(len(weights), (items,), generator=generator)
    noise = torch.randn((items, weights.shape[1]), generator=generator) * weights.std() * spread
    around = bias[origin] / keen + 0.3 * torch.randn(items, generator=generator)
    none: Tensor = torch.zeros(FIRST_INDEX, weights.shape[1])
    return Catalogue(torch.cat([none, weights[origin] + noise]), torch.cat([torch.full((FIRST_INDEX,), -torch.inf), around]))


def _rate(users: Tensor, work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return len(users) / (time.monotonic() - started)


if __name__ == "__main__":
    typer.run(main)
