"""How much memory a fit will take, by estimate before it starts; and how much it took."""

import resource
import sys

import torch

from foretaste.models import Model
from foretaste.models.losses import LOGITS_AT_ONCE

BYTES = 4  # a float32


def estimate(model: Model, *, rows: int, length: int, num_items: int, draws: int) -> dict[str, float]:
    """Bytes of a rank: weights (with their gradients), adam (two moments each), activations (of `rows` rows of full length).

    An upper bound more than a forecast: most rows are shorter.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    targets = rows * length
    columns = draws + 1 if draws else num_items
    logits = 2 * min(targets * columns, LOGITS_AT_ONCE) if num_items else 0  # and their gradient
    return {
        "weights": 2.0 * BYTES * weights,
        "adam": 2.0 * BYTES * weights,
        "activations": BYTES * (rows * model.activations(length) + logits),
    }


def peak(device: torch.device) -> tuple[str, float]:
    """What was measured, and the most bytes that this process held of it so far."""
    if device.type == "cuda":
        return "GPU memory", float(torch.cuda.max_memory_allocated(device))
    unit = 1 if sys.platform == "darwin" else 1024
    return "memory of the process", float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit)


def readable(size: float) -> str:
    """Bytes as 12 MB or 3.4 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.{0 if size >= 1e7 else 1}f} MB"
