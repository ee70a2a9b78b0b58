"""How fast one GPU learns and scores, and how near that is to what the card can do. Needs torch alone, and this checkout.

PYTHONPATH=lib python bench/gpu.py [--items 50000] [--batch 512] [--length 50] [--steps 20]

Rows are drawn at random and lie in the GPU's memory, so the figures are those of the network alone. Training: sampled softmax with 512
negatives, bf16, then float32 for comparison. Scoring: the exact best 20 of all items. The roof is what no such program gets over: its
multiplications at the pace of a large matrix product that is timed here, or the bytes that it must move (weights, gradients and AdamW's
moments once a step; the catalogue once a batch) at the pace of a copy that is timed here, whichever takes longer. Multiplications are
counted by torch's FlopCounterMode on a CPU, where a GRU is made of plain products. `--device cpu` shows that it runs.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from foretaste.contract import FIRST_INDEX, Batch, Sizes
from foretaste.models import Model, Objective, build

NETWORKS = (("gru", "base"), ("gru", "large"), ("transformer", "base"), ("transformer", "large"), ("vae", "base"))
ROUNDS, NEGATIVES, TOP_K, COUNTED_ROWS = 3, 512, 20, 8
BYTES_A_WEIGHT = 4 * (2 + 2 + 3 + 3)  # of a step: read and write the gradient twice, read and write the weight and two moments


def drawn(rows: int, length: int, num_items: int, device: str) -> Batch[torch.Tensor]:
    item = torch.randint(FIRST_INDEX, num_items, (rows, length), dtype=torch.int32)
    full = torch.full((rows,), length, dtype=torch.int32)
    batch = Batch(features={"item": item}, length=full, fresh=full, recency=torch.ones_like(full), labels={"next_items": item[:, :1]})
    return batch.map(lambda array: array.to(device))


def made(name: str, size: str, length: int, num_items: int) -> Model:
    torch.manual_seed(0)
    objective = Objective(name="sampled_softmax", draws=NEGATIVES)
    sizes = Sizes(num_items=num_items, length=length)
    return build(name, head="items", label="next_items", sizes=sizes, objective=objective, size=size).train()


def learning(model: Model, batch: Batch[torch.Tensor], device: str, bf16: bool) -> Callable[[], None]:
    optimizers = model.optimizers(learning_rate=1e-3, weight_decay=0.0)

    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16, enabled=bf16):
            for loss in model.step(batch):
                optimizer = optimizers[loss.optimizer]
                optimizer.zero_grad()
                (loss.total / loss.count).backward()
                optimizer.step()

    return step


def scoring(model: Model, batch: Batch[torch.Tensor], device: str) -> Callable[[], None]:
    @torch.inference_mode()
    def step() -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            model.score(batch).topk(TOP_K)

    return step


def seconds(step: Callable[[], object], steps: int, device: str) -> float:
    """Of one step: the median of the rounds, after steps that warm up."""

    def run(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            step()
        if device == "cuda":
            torch.cuda.synchronize()
        return (time.perf_counter() - started) / count

    run(max(1, steps // 4))
    return statistics.median(run(steps) for _ in range(ROUNDS))


def products(name: str, size: str, length: int, num_items: int) -> tuple[float, float]:
    """Floating-point operations of a row that is learnt from, and of one that is scored."""
    model, batch = made(name, size, length, num_items), drawn(COUNTED_ROWS, length, num_items, "cpu")
    found = []
    for step in (learning(model, batch, "cpu", False), scoring(model, batch, "cpu")):
        with FlopCounterMode(display=False) as counted:
            step()
        found.append(counted.get_total_flops() / COUNTED_ROWS)
        model.eval()
    return found[0], found[1]


def roofs(device: str) -> tuple[float, float]:
    """Floating-point operations a second of a large bf16 product, and bytes a second of a copy (read and written)."""
    width, numbers = (8192, 1 << 28) if device == "cuda" else (1024, 1 << 24)
    one, other = (torch.randn(width, width, device=device, dtype=torch.bfloat16) for _ in range(2))
    source = torch.zeros(numbers, device=device)
    target = torch.empty_like(source)
    return 2 * width**3 / seconds(lambda: one @ other, 10, device), 8 * numbers / seconds(lambda: target.copy_(source), 10, device)


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option, default in (("items", 50_000), ("batch", 512), ("length", 50), ("steps", 20)):
        asked.add_argument(f"--{option}", type=int, default=default)
    asked.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    chosen = asked.parse_args()
    device = chosen.device
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("there is no GPU here; --device cpu runs the same on the CPU")
    card = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} CPU threads"
    pace, bandwidth = roofs(device)
    print(f"{card}, torch {torch.__version__}: a large bf16 product {pace / 1e12:.1f} TFLOP/s, a copy {bandwidth / 1e9:,.0f} GB/s")
    print(f"{chosen.items:,} items, rows of {chosen.length}, {chosen.batch} a step")
    heads = ("network", "sequences/s bf16", "float32", "TFLOP/s", "of the roof", "users/s", "TFLOP/s", "of the roof", "memory")
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    for name, size in NETWORKS:
        to_learn, to_score = (each * chosen.batch for each in products(name, size, chosen.length, chosen.items))
        model = made(name, size, chosen.length, chosen.items).to(device)
        weights = sum(parameter.numel() for parameter in model.parameters())
        batch = drawn(chosen.batch, chosen.length, chosen.items, device)
        whole = seconds(learning(model, batch, device, False), chosen.steps, device)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        half = seconds(learning(model, batch, device, True), chosen.steps, device)
        memory = f"{torch.cuda.max_memory_allocated() / 1e9:.1f} GB" if device == "cuda" else "–"
        scored = seconds(scoring(model.eval(), batch, device), chosen.steps, device)
        learn_roof = max(to_learn / pace, weights * BYTES_A_WEIGHT / bandwidth)
        score_roof = max(to_score / pace, (4 * weights + 2 * chosen.batch * chosen.items) / bandwidth)
        cells = (
            f"{name} {size}",
            f"{chosen.batch / half:,.0f}",
            f"{chosen.batch / whole:,.0f}",
            f"{to_learn / half / 1e12:.2f}",
            f"{learn_roof / half:.0%}",
            f"{chosen.batch / scored:,.0f}",
            f"{to_score / scored / 1e12:.2f}",
            f"{score_roof / scored:.0%}",
            memory,
        )
        print("| " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
