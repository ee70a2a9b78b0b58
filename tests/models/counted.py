"""Counted models with tables written out, and rows to score."""

from typing import Any

import torch

from foretaste.contract import Batch, Sizes
from foretaste.models import Counted, build_counted

A, B, C, D, E = range(2, 7)  # the items of the tests
NUM_ITEMS = 7
POPULARITY = [0.0, 0.0, 50.0, 30.0, 15.0, 5.0, 0.0]
_INTEGERS = ("offset", "item_offset", "session_offset")


def model(name: str, tables: dict[str, Any] | None = None, **options: float) -> Counted:
    made = build_counted(name, head="items", sizes=Sizes(num_items=NUM_ITEMS), **options)
    given = {"popularity": POPULARITY, **(tables or {})}
    made.load_state_dict({key: torch.tensor(values, dtype=getattr(made, key).dtype) for key, values in given.items()})
    return made.eval()


def rows(*items: list[int]) -> Batch[torch.Tensor]:
    """Left-padded, as they come."""
    width = max(len(row) for row in items)
    item = torch.tensor([[0] * (width - len(row)) + row for row in items], dtype=torch.int32)
    length = (item > 0).sum(1).int()
    gap = torch.where(item > 0, 2, 0)  # all at once
    return Batch(features={"item": item, "gap": gap}, length=length, fresh=length, recency=length)


def ranking(scores: torch.Tensor) -> list[list[int]]:
    """Items by falling score; those at -inf are left out."""
    order = scores.argsort(dim=1, descending=True)
    return [[int(item) for item in row if scores[place, item] > -torch.inf] for place, row in enumerate(order)]
