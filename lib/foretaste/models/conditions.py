"""What a model that writes sequences is asked for."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from foretaste.contract import EVENT_CODES, FIRST_INDEX, Batch
from foretaste.models.heads import INIT_STD

OF_A_CAMPAIGN = ("exposure", "coupon")
NOT_ASKED, WITHOUT, WITH = 0, 1, 2


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """(B,) int64 each; 0: not asked for.

    budget:   how many events the row has, at least 1
    category: the one that most of its items belong to
    campaign: 1 without, 2 with an event of a campaign
    item:     an item that it holds; ask for one that is seldom sold, and the row is one that a new or cold item could have
    """

    budget: Tensor
    category: Tensor
    campaign: Tensor
    item: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> "Conditions":
        return Conditions(**{field.name: function(getattr(self, field.name)) for field in fields(self)})

    def kept(self, chosen: Tensor) -> "Conditions":
        """With those that `chosen`, (B, 4) bool in the order above, does not hold not asked for."""
        columns = zip(fields(self), chosen.unbind(1), strict=True)
        return Conditions(**{field.name: torch.where(column, getattr(self, field.name), NOT_ASKED) for field, column in columns})

    @classmethod
    def none(cls, rows: int, device: torch.device | None = None) -> "Conditions":
        """Nothing is asked for."""
        nothing = torch.zeros(rows, dtype=torch.int64, device=device)
        return cls(budget=nothing, category=nothing, campaign=nothing, item=nothing)


def conditions_of(batch: Batch[Tensor], category_of_item: Tensor, popularity: Tensor) -> Conditions:
    """What real rows would have been asked for, whatever their alignment. category_of_item, popularity: (I,)

    Of a row's items the least popular is the one asked for: that is how a model learns to write of those that are seldom sold.
    """
    item = batch.item.long()
    known = item >= FIRST_INDEX
    category = torch.where(known, category_of_item[item], NOT_ASKED)  # (B, T)
    same = (category[:, :, None] == category[:, None, :]).sum(2) * (category >= FIRST_INDEX)  # (B, T): how many share it
    most = category.gather(1, same.argmax(1, keepdim=True)).squeeze(1)
    rarest = torch.where(known, popularity[item], torch.inf).argmin(1, keepdim=True)
    event = batch.features.get("event")
    if event is None:
        campaign = torch.full_like(most, NOT_ASKED)
    else:
        codes = torch.tensor([EVENT_CODES[name] for name in OF_A_CAMPAIGN], device=event.device)
        campaign = torch.where(torch.isin(event, codes).any(1), WITH, WITHOUT)
    return Conditions(
        budget=batch.length.long(),
        category=torch.where(most >= FIRST_INDEX, most, NOT_ASKED),
        campaign=campaign,
        item=torch.where(known.any(1), item.gather(1, rarest).squeeze(1), NOT_ASKED),
    )


class Asked(nn.Module):
    """Conditions → (B, E), zero where nothing is asked for."""

    def __init__(self, *, length: int, num_categories: int, embedding: int) -> None:
        super().__init__()
        sizes = {"budget": length + 1, "category": num_categories, "campaign": 3}
        tables = {name: nn.Embedding(size, embedding, padding_idx=NOT_ASKED) for name, size in sizes.items()}
        for table in tables.values():
            nn.init.normal_(table.weight, std=INIT_STD)
            table.weight.data[NOT_ASKED] = 0.0
        self.tables = nn.ModuleDict(tables)
        self.length = length

    def forward(self, conditions: Conditions, items: nn.Embedding) -> Tensor:
        """items: the vectors of `conditions.item`; PAD's is zero"""
        codes = {"budget": conditions.budget.clamp(max=self.length), "category": conditions.category, "campaign": conditions.campaign}
        total: Tensor = items(conditions.item)
        for name, table in self.tables.items():
            total = total + table(codes[name])
        return total
