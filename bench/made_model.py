"""A model that could rank items, had it learnt: for what a score costs it makes no difference."""

import tempfile
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

from foretaste import registry
from foretaste.models import Objective, build
from foretaste.tables import Warehouse, vocabulary
from foretaste.tables.vocabulary import VOCABULARY

WIDTH = 64


def made_model(warehouse: Warehouse) -> None:
    """Stores a GRU over the table `vocabulary`."""
    words = warehouse.read(VOCABULARY)
    sizes = vocabulary.sizes(words)
    torch.manual_seed(0)
    options: dict[str, Any] = {"embedding": WIDTH, "hidden": (WIDTH,), "dropout": 0.0, "features": ("item",)}
    network = build("gru", head="items", label="next_items", sizes=sizes, objective=Objective(), **options)
    with tempfile.TemporaryDirectory() as place:
        weights = Path(place) / "weights.safetensors"
        safetensors.torch.save_file(network.state_dict(), str(weights))
        registry.save(
            warehouse,
            name="interest",
            task="interest",
            head="items",
            label="next_items",
            model={"name": "gru", **options, "tied": True, "output_bias": True, "facts": (), "content": False, "latents": None},
            sizes=sizes,
            weights=weights,
            vocabulary=words,
            calibration=None,
            metrics={},
            history=(),
            tables={VOCABULARY.name: warehouse.version(VOCABULARY)},
            seed=0,
            settings={},
        )
