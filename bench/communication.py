"""What it costs ranks to add up their gradients: measured here between two ranks, and worked out for many.

    python bench/communication.py [--rounds 20]

Two ranks that Horovod starts on this machine add up tensors of one size after another, as training does (training/workers.py); a line
through the medians, weighted by 1 / time, gives what an exchange costs at least, and a byte more. A ring of p ranks sends each byte
2 (p - 1) / p times, in 2 (p - 1) steps (Patarasuk & Yuan 2009, Bandwidth optimal all-reduce algorithms for clusters of workstations), so

    seconds = cycle / 2 + 2 (p - 1) latency + 2 (p - 1) / p bytes / bandwidth

where `cycle` is Horovod's (a rank that is ready waits for half of it on average). The share of a step that is left for learning is worked
out for the steps that `--steps` names, in milliseconds a rank as measured on a GPU (docs/stack.md: 512 rows), without overlap: the loop
adds up when all gradients are there. Nothing beyond two ranks was measured.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from gpu import made
from rich.console import Console
from rich.table import Table as Grid

from foretaste.training.workers import CYCLE_MS, HorovodRanks

SIZES = (1_000, 10_000, 100_000, 1_000_000, 4_000_000, 16_000_000, 64_000_000)
RANKS = (8, 64, 512)
STEPS = "gru-base:8.2,gru-large:17.9,transformer-base:11.3,transformer-large:50.9"
NUM_ITEMS, LENGTH = 50_000, 50
ALONE = "--alone"


def measure(rounds: int, out: Path) -> None:
    """A rank's part."""
    torch.set_num_threads(1)
    ranks = HorovodRanks()
    found = {}
    for size in SIZES:
        tensor = torch.ones(size // 4)
        seconds = []
        for _ in range(rounds + 3):
            started = time.perf_counter()
            ranks.add_up([tensor], f"of {size}")
            seconds.append(time.perf_counter() - started)
            tensor.fill_(1.0)
        found[size] = seconds[3:]
    if ranks.rank == 0:
        out.write_text(json.dumps(found), encoding="utf-8")
    ranks.close()


def main(
    rounds: Annotated[int, typer.Option(min=3)] = 20,
    steps: Annotated[str, typer.Option(help="network-size:milliseconds, joined by commas")] = STEPS,
    latency_us: Annotated[float, typer.Option(help="of a step of the ring, between machines: assumed")] = 30.0,
    gigabytes: Annotated[float, typer.Option(help="a second and rank: assumed; 12.5 is 100 Gbit/s for each")] = 12.5,
    cycle_ms: Annotated[float, typer.Option(help="Horovod's HOROVOD_CYCLE_TIME")] = float(CYCLE_MS),
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "seconds.json"
        environment = {**os.environ, "HOROVOD_CYCLE_TIME": CYCLE_MS, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "horovod.runner.launch", "--gloo", "-np", "2", "-H", "localhost:2", "--network-interfaces", "lo"]
        subprocess.run(
            [*command, sys.executable, __file__, ALONE, str(rounds), str(out)], check=True, stdout=subprocess.DEVNULL, env=environment
        )
        found = {int(size): statistics.median(seconds) for size, seconds in json.loads(out.read_text()).items()}
    sizes, seconds = np.array(list(found)), np.array(list(found.values()))
    a_byte, least = np.polyfit(sizes, seconds, 1, w=1 / seconds)
    grid = Grid(title="two ranks on this machine, one exchange", title_justify="left")
    for heading in ("bytes", "seconds, median", "the line"):
        grid.add_column(heading, justify="right")
    for size, median in found.items():
        grid.add_row(f"{size:,}", f"{median:.5f}", f"{least + a_byte * size:.5f}")
    console = Console()
    console.print(grid)
    console.print(f"at least {least * 1e3:.2f} ms, and {1 / a_byte / 1e9:.2f} GB/s", highlight=False)
    _told(console, steps, latency_us * 1e-6, gigabytes * 1e9, cycle_ms * 1e-3)


def _told(console: Console, steps: str, latency: float, bandwidth: float, cycle: float) -> None:
    title = f"worked out, for {latency * 1e6:g} µs, {bandwidth / 1e9:g} GB/s and a cycle of {cycle * 1e3:g} ms: share of a step that learns"
    grid = Grid(title=title, title_justify="left")
    for heading in ("network", "gradients", "a step", *[f"{ranks} ranks" for ranks in RANKS], "of which bytes, at 512"):
        grid.add_column(heading, justify="right")
    for step in steps.split(","):
        name, _, milliseconds = step.partition(":")
        network, _, size = name.partition("-")
        num_bytes = 4 * sum(parameter.numel() for parameter in made(network, size, LENGTH, NUM_ITEMS).parameters())
        learning = float(milliseconds) * 1e-3
        shares, moved = [], 0.0
        for ranks in RANKS:
            moved = 2 * (ranks - 1) / ranks * num_bytes / bandwidth
            shares.append(learning / (learning + cycle / 2 + 2 * (ranks - 1) * latency + moved))
        told = [f"{share:.0%}" for share in shares]
        grid.add_row(name, f"{num_bytes / 1e6:.0f} MB", f"{learning * 1e3:.1f} ms", *told, f"{moved * 1e3:.1f} ms")
    console.print(grid)


if __name__ == "__main__":
    if ALONE in sys.argv:
        measure(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        typer.run(main)
