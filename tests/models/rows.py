"""Histories as batches, and small models: for the tests of networks."""

from typing import Any

import torch
from torch import Tensor

from foretaste.contract import Batch, Sizes
from foretaste.models import Model, Objective, build

SIZES = Sizes(num_items=9, num_categories=4, num_price_buckets=5, length=12)
HISTORIES = [[2, 3, 4], [5], [8, 8, 2, 3, 7]]
LONG = [7, 2, 3, 8, 6, 5, 4, 3, 2, 7, 8]  # longer than the others by a part of its own (see rows.by_length)

NETWORKS: dict[str, dict[str, Any]] = {
    "elman": {"name": "elman", "hidden": (5, 4)},
    "lstm": {"name": "lstm", "hidden": (5, 4)},
    "gru": {"name": "gru", "hidden": (5, 4)},
    **{
        f"{block} {position}": {"name": "transformer", "layers": 2, "heads": 3, "embedding": 12, "block": block, "position": position}
        for block in ("attention", "hstu")
        for position in ("learned", "rotary", "relative")
    },
}
"""Every network with every choice that changes how it sees a row."""


def batch_of(histories: list[list[int]], columns: int, features: tuple[str, ...] = ("item",)) -> Batch[Tensor]:
    """The histories left-padded to `columns`, each feature with the same codes, as far as it has them."""
    item = torch.zeros(len(histories), columns, dtype=torch.int32)
    for row, history in enumerate(histories):
        item[row, columns - len(history) :] = torch.tensor(history)
    length = torch.tensor([len(history) for history in histories], dtype=torch.int32)
    return Batch(
        features={name: torch.clamp(item, max=SIZES.of(name) - 1) for name in features},
        length=length,
        fresh=length,
        recency=torch.arange(len(histories), dtype=torch.int32),
        labels={"next_items": torch.full((len(histories), 2), 2, dtype=torch.int32), "returns": torch.ones(len(histories)).int()},
    )


def model_of(name: str, head: str = "items", *, objective: Objective | None = None, **options: Any) -> Model:
    """A network of NETWORKS or MODELS by name, six wide unless it says otherwise, from a fixed seed and ready to score.

    Its parameters are far from where they start, so that whatever it can tell apart is told apart.
    """
    torch.manual_seed(0)
    label = {"items": "next_items", "binary": "returns"}[head]
    chosen = NETWORKS.get(name, {"name": name})
    width = {} if name == "mult_vae" else {"embedding": 6}  # it is as wide as its layer
    model = build(head=head, label=label, sizes=SIZES, objective=objective, **{**width, "dropout": 0.0, **chosen, **options})
    model.step_rows = 0  # rows of unlike length go through in parts, which so small a recurrent network would join
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "position" in parameter_name:  # they start at or near zero
                parameter.normal_()
            if parameter_name.startswith("embeddings.") and model.embeddings is not None:
                parameter[1:].mul_(5)
    return model.eval()
