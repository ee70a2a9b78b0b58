"""Bulk scoring of all users through Spark, beside one plain torch process on the same cores: a GRU of 64, the exact best 20 of all items.

python bench/scoring.py --users 1000000 --fewer 100000 --rounds 2

Foretaste's side is jobs/score.py: sessions out of Delta become histories, and the best 20, with probabilities and ids, go into the table
`scores`. The plain side has its histories in memory, as the 50 item codes of each user, takes the same network, multiplies with all items,
takes torch's topk and keeps nothing. First the best 20 of some users are compared. The model has not learnt anything: that costs no time.
The most memory of a Python worker is told, of `users` and of `fewer`. Events are made up (bench/made_events.py), 50 a user on average.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import pyarrow.dataset as ds
import safetensors.torch
import torch
import typer
from compared import console, in_turn, keep, ratio, tell
from made_events import DAYS, EVENTS_A_USER, START, made_shop
from made_model import WIDTH, made_model
from numpy.typing import NDArray
from torch import Tensor, nn

from foretaste import registry
from foretaste.contract import DAY, FIRST_INDEX
from foretaste.settings import SequenceSettings, Settings, TaskSettings
from foretaste.steps.score import score
from foretaste.steps.sessionize import sessionize
from foretaste.stored_model import StoredModel
from foretaste.tables import Warehouse, sequences, vocabulary
from foretaste.tables.scores import SCORES
from foretaste.tables.sessions import SESSIONS
from foretaste.tables.vocabulary import VOCABULARY

SPARK, PLAIN = "Foretaste", "plain torch"
LENGTH, TOP_K, BATCH = 50, 20, 256
END = datetime(1970, 1, 1) + timedelta(microseconds=int(START) + DAYS * DAY)


def main(
    users: Annotated[int, typer.Option(help="how many")] = 1_000_000,
    fewer: Annotated[int, typer.Option(help="how many, for the memory of a worker; 0: not asked")] = 100_000,
    items: Annotated[int, typer.Option(help="of the catalogue, at most")] = 50_000,
    rounds: Annotated[int, typer.Option(help="of both, in turn; 0: one, without warming up")] = 2,
    folder: Annotated[Path, typer.Option(help="where events and warehouses go")] = Path("warehouse/bench"),
    out: Annotated[Path | None, typer.Option(help="a JSON file for the figures")] = None,
) -> None:
    memory = {f"{number:,} users": [0.0] for number in (fewer, users) if number}
    if fewer:
        few, of_few = _shop(folder, fewer, items)
        few, of_few = _anew(few, folder, fewer, items)
        with _watched(memory[f"{fewer:,} users"]):
            score(few, of_few)
    warehouse, chosen = _shop(folder, users, items)
    codes, lengths = _histories(warehouse, chosen, Path(warehouse.path) / "histories")
    network = _Plain(registry.load(warehouse.path, "interest"))
    warehouse, chosen = _anew(warehouse, folder, users, items)

    def foretaste(_: int) -> float:
        started = time.monotonic()
        with _watched(memory[f"{users:,} users"]):
            score(warehouse, chosen)
        return len(codes) / (time.monotonic() - started)

    def plain(_: int) -> float:
        started = time.monotonic()
        network.best(codes, lengths)
        return len(codes) / (time.monotonic() - started)

    rates = in_turn({SPARK: foretaste, PLAIN: plain}, rounds, "users/s")
    _compare(warehouse, network)
    title = (
        f"{len(codes):,} users, of {lengths.mean():.1f} of their last {LENGTH} events on average, the best {TOP_K} of {network.num_items:,}"
    )
    tell(title, rates, "users/s")
    middle, told = ratio(rates, SPARK, PLAIN)
    console.print(f"Foretaste scores {told} times as many users a second")
    if fewer:
        tell("the most memory of a Python worker", memory, "MB")
    keep(out, "scoring", users=len(codes), users_per_s=rates, ratio=middle, worker_mb=memory)


def _shop(folder: Path, users: int, items: int) -> tuple[Warehouse, Settings]:
    """Sessions of that many users, and a model that could rank items, had it learnt."""
    warehouse, settings = made_shop(folder, users * EVENTS_A_USER)
    wanted = SequenceSettings(length=LENGTH, max_items=items)
    chosen = settings.model_copy(update={"sequences": wanted, "tasks": {"interest": TaskSettings()}})
    sessionize(warehouse, chosen)
    if not registry.versions(warehouse.path, "interest"):
        warehouse.overwrite(VOCABULARY, vocabulary.build(warehouse.read(SESSIONS), chosen.sequences, END))
        made_model(warehouse)
    return warehouse, chosen


def _anew(warehouse: Warehouse, folder: Path, users: int, items: int) -> tuple[Warehouse, Settings]:
    """The same shop in a new Spark, whose Python workers did nothing before."""
    warehouse.spark.stop()
    return _shop(folder, users, items)


@contextmanager
def _watched(most: list[float]) -> Iterator[None]:
    """Raises `most` to what Linux says was the most memory (resident, MB) of any process below this one that runs Python; asked several
    times a second."""
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.3):
            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.Error, OSError):
                    if "python" in process.name():
                        told = Path(f"/proc/{process.pid}/status").read_text()
                        most[0] = max(most[0], int(told.partition("VmHWM:")[2].split()[0]) / 1000)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _histories(warehouse: Warehouse, chosen: Settings, path: Path) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """(U, LENGTH) item codes, left-padded, and (U,) how many there are: what scoring reads, computed once."""
    if not path.exists():
        rows = sequences.latest(warehouse.read(SESSIONS), warehouse.read(VOCABULARY), chosen.sequences, END)
        rows.select("user_id", "item", "length").write.parquet(str(path))
    table = ds.dataset(path).to_table(columns=["item", "length"]).combine_chunks()
    codes = table["item"].chunk(0).flatten().to_numpy().reshape(-1, LENGTH)
    return codes, table["length"].to_numpy()


class _Plain:
    """The network as somebody writes it who has nothing but torch."""

    def __init__(self, stored: StoredModel) -> None:
        state = safetensors.torch.load_file(str(stored.judged_weights))
        self.embedding = nn.Embedding.from_pretrained(state["embeddings.item.weight"])
        self.gru = nn.GRU(WIDTH, WIDTH, batch_first=True)
        self.gru.load_state_dict({name.removeprefix("layers.0."): value for name, value in state.items() if name.startswith("layers.0.")})
        self.weights, self.bias = state["embeddings.item.weight"][FIRST_INDEX:], state["head.bias"]
        self.ids = stored.item_ids()
        self.num_items = len(self.weights)

    @torch.inference_mode()
    def best(self, codes: NDArray[np.int32], lengths: NDArray[np.int32]) -> Tensor:
        """(U, TOP_K)"""
        found = []
        for start in range(0, len(codes), BATCH):
            item, length = (torch.tensor(array[start : start + BATCH]).long() for array in (codes, lengths))
            place = (torch.arange(LENGTH) + (LENGTH - length)[:, None]) % LENGTH
            states = self.gru(self.embedding(item.gather(1, place)))[0]
            last = states[torch.arange(len(item)), (length - 1).clamp(min=0)]
            found.append(torch.addmm(self.bias, last, self.weights.T).topk(TOP_K).indices)
        return torch.cat(found)


def _compare(warehouse: Warehouse, network: _Plain, some: int = 2000) -> None:
    """Ends the bench where the best items of some users differ, but for ties."""
    rows = ds.dataset(Path(warehouse.path) / "histories").head(some)
    codes, lengths = rows["item"].combine_chunks().flatten().to_numpy().reshape(-1, LENGTH), rows["length"].to_numpy()
    expected = dict(zip(rows["user_id"].to_pylist(), network.ids[network.best(codes, lengths).numpy() + FIRST_INDEX].tolist(), strict=True))
    scored = warehouse.read(SCORES).where("NOT fallback").selectExpr("user_id", "targets.target_id AS ids")
    found = scored.join(warehouse.spark.createDataFrame([(user,) for user in expected], "user_id string"), "user_id").collect()
    same = np.mean([len(set(row["ids"]) & set(expected[row["user_id"]])) / TOP_K for row in found])
    console.print(f"the best {TOP_K} of {len(found):,} users: {same:.3%} the same")
    if same < 0.999:
        raise SystemExit("the best items differ")


if __name__ == "__main__":
    typer.run(main)
