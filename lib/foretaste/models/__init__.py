"""The networks, a file each: torch and `contract` only, written for one device. A model is added by its file and its line in MODELS."""

from typing import Any

from foretaste.contract import FIRST_INDEX, Sizes
from foretaste.errors import ModelError
from foretaste.models.losses import Loss
from foretaste.models.model import Model
from foretaste.models.rnn import GRU, LSTM, Elman

MODELS: dict[str, type[Model]] = {"elman": Elman, "lstm": LSTM, "gru": GRU}


def build(name: str, *, head: str, label: str, sizes: Sizes, **options: Any) -> Model:
    """The model of that name, freshly initialised from torch's seed. `options` are the other fields of ModelSettings."""
    if name not in MODELS:
        raise ModelError(f"no model is called {name!r}", where="model.name", fix=f"Use one of {', '.join(MODELS)}.")
    if head == "items" and sizes.num_items <= FIRST_INDEX:
        raise ModelError("the vocabulary holds no item to predict", where="vocabulary", fix="Lower sequences.min_item_count.")
    return MODELS[name](head=head, label=label, sizes=sizes, **options)


__all__ = ["MODELS", "Loss", "Model", "build"]
