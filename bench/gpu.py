"""How many sequences a second the networks learn from on this machine's GPU, against its CPU, and what a step holds of the GPU's memory.

python bench/gpu.py [--items 50000] [--batch 512] [--length 50] [--steps 20]

Rows are drawn at random and lie in memory, so the figures are those of the network alone. Both sides take the same steps with the same
loss (sampled softmax, 512 negatives); the GPU in bf16 and in float32, in turn, after steps that warm it up.
"""

import statistics
import time
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from foretaste.contract import FIRST_INDEX, Batch, Sizes
from foretaste.models import Objective, build

NETWORKS = (("gru", "base"), ("gru", "large"), ("transformer", "base"), ("transformer", "large"), ("vae", "base"))
ROUNDS = 3


def drawn(rows: int, length: int, num_items: int, device: str) -> Batch[torch.Tensor]:
    item = torch.randint(FIRST_INDEX, num_items, (rows, length), dtype=torch.int32)
    full = torch.full((rows,), length, dtype=torch.int32)
    batch = Batch(features={"item": item}, length=full, fresh=full, recency=torch.ones_like(full), labels={"next_items": item[:, :1]})
    return batch.map(lambda array: array.to(device))


def pace(name: str, size: str, device: str, bf16: bool, rows: int, length: int, num_items: int, steps: int) -> float:
    """Sequences a second, the median of the rounds."""
    torch.manual_seed(0)
    objective = Objective(name="sampled_softmax", draws=512)
    sizes = Sizes(num_items=num_items, length=length)
    model = build(name, head="items", label="next_items", sizes=sizes, objective=objective, size=size).to(device).train()
    optimizers = model.optimizers(learning_rate=1e-3, weight_decay=0.0)
    batch = drawn(rows, length, num_items, device)

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
                for loss in model.step(batch):
                    optimizer = optimizers[loss.optimizer]
                    optimizer.zero_grad()
                    (loss.total / loss.count).backward()
                    optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()
        return count * rows / (time.perf_counter() - started)

    run(max(1, steps // 4))
    return statistics.median(run(steps) for _ in range(ROUNDS))


def main(
    items: Annotated[int, typer.Option(help="items of the catalogue")] = 50_000,
    batch: Annotated[int, typer.Option(help="rows of a step")] = 512,
    length: Annotated[int, typer.Option(help="events of a row")] = 50,
    steps: Annotated[int, typer.Option(help="steps of a round on the GPU; the CPU takes a tenth, of a sixteenth of the rows")] = 20,
) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("there is no GPU here to compare with")
    threads = torch.get_num_threads()
    grid = Table(title=f"{torch.cuda.get_device_name()} against {threads} CPU threads, {items:,} items, rows of {length}, {batch} a step")
    for heading in ("network", "CPU, sequences/s", "GPU float32", "GPU bf16", "bf16 / CPU", "bf16 / float32", "GPU memory"):
        grid.add_column(heading, justify="left" if heading == "network" else "right")
    for name, size in NETWORKS:
        cpu = pace(name, size, "cpu", False, max(1, batch // 16), length, items, max(1, steps // 10))
        whole = pace(name, size, "cuda", False, batch, length, items, steps)
        torch.cuda.reset_peak_memory_stats()
        half = pace(name, size, "cuda", True, batch, length, items, steps)
        memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB"
        grid.add_row(f"{name} {size}", f"{cpu:,.0f}", f"{whole:,.0f}", f"{half:,.0f}", f"{half / cpu:.0f}", f"{half / whole:.1f}", memory)
    Console(width=150).print(grid)


if __name__ == "__main__":
    typer.run(main)
