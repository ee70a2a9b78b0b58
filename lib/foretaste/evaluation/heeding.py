"""Does a model that writes rows heed what it is asked for? Rows for one wish at a time, beside rows that hold it by chance."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor

from foretaste.contract import PAD, Batch
from foretaste.models import GAN, Conditions
from foretaste.models.conditions import NOT_ASKED, conditions_of


@dataclass(frozen=True, kw_only=True)
class Heeded:
    """Of the rows that were asked for it, the share that holds it; and of the same rows where nothing but a budget was asked for."""

    asked: float
    unasked: float


def heeded(network: GAN, asked: Conditions, seed: Tensor) -> Mapping[str, Heeded]:
    """By condition: category (most of the row's items are of it), campaign, item (one of the row's); of those that any row asks for.

    asked, seed: (B,). It holds (B, I) numbers, as `draw` does.
    """
    plain = replace(Conditions.none(len(seed)), budget=asked.budget)
    by_chance = network.draw(plain, seed)
    found = {}
    for name in ("category", "campaign", "item"):
        wish = getattr(asked, name)
        wanted = wish != NOT_ASKED
        if wanted.any():
            written = network.draw(replace(plain, **{name: wish}), seed)
            shares = [_holds(network, rows, name, wish)[wanted].float().mean().item() for rows in (written, by_chance)]
            found[name] = Heeded(asked=shares[0], unasked=shares[1])
    return found


def _holds(network: GAN, rows: Batch[Tensor], name: str, wish: Tensor) -> Tensor:
    """(B,) bool"""
    if name == "item":
        return ((rows.item == wish[:, None]) & (rows.item != PAD)).any(1)
    had: Tensor = getattr(conditions_of(rows, network.category_of_item, network.popularity), name)
    return had == wish
