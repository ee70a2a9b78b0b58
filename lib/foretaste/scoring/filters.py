"""What is left out of the best k: items that nobody is to be shown, items that one user is not, and more than a few of one category.

Exact: an item that is left out is passed over while the catalogue is gone through, so k others are found wherever there are k. The scores
of those that stay are what they were, shares of all items.

Legend: B rows, I items with PAD and UNKNOWN, k items wanted.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import PAD


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What goes for all users.

    closed:            (I,) bool, items that nobody is to be shown
    category:          (I,) the category of each item, any number for one
    most_per_category: at most so many of each; None: as they come
    """

    closed: NDArray[np.bool_]
    category: NDArray[np.int64]
    most_per_category: int | None = None

    def kept(self, ordered: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
        """(n,): which of n items, best first, stay."""
        stays: NDArray[np.bool_] = ~self.closed[ordered]
        if self.most_per_category is not None:
            place = _place_among_equals(torch.from_numpy(self.category[ordered[stays]])[None])[0].numpy()
            stays[stays] = place < self.most_per_category
        return stays


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Of B rows: what goes for all of them, and (N,) pairs of a row and an item that it is not to be shown, the items ascending."""

    filters: Filters
    row: Tensor
    item: Tensor

    @classmethod
    def of(cls, filters: Filters, row: NDArray[np.int64], item: NDArray[np.int64]) -> "LeftOut":
        """From pairs in any order."""
        order = np.argsort(item, kind="stable")
        return cls(filters=filters, row=torch.from_numpy(row[order]), item=torch.from_numpy(item[order]))

    def of_rows(self, start: int, stop: int) -> "LeftOut":
        """For these rows alone, counted from the first of them."""
        inside = (self.row >= start) & (self.row < stop)
        return LeftOut(filters=self.filters, row=self.row[inside] - start, item=self.item[inside])

    def apply(self, scores: Tensor, first: int) -> Tensor:
        """Sets the (B, n) scores of items from index `first` on to -inf where they are left out; and returns them."""
        stop = first + scores.shape[1]
        scores.masked_fill_(torch.from_numpy(self.filters.closed[first:stop]), -torch.inf)
        low, high = torch.searchsorted(self.item, torch.tensor([first, stop])).tolist()
        scores[self.row[low:high], self.item[low:high] - first] = -torch.inf
        return scores


Best = Callable[[int], tuple[Tensor, Tensor]]
"""k → (B, k') indices, best first, and their probabilities; PAD and 0 where nothing is left."""


def varied(best: Best, filters: Filters, k: int) -> tuple[Tensor, Tensor]:
    """The best k of which at most so many share a category: as `best`, which is asked for more and more until there are enough."""
    if filters.most_per_category is None:
        return best(k)
    wanted, category = k, torch.from_numpy(filters.category)
    while True:
        wanted = min(4 * wanted, len(category))
        indices, probabilities = best(wanted)
        kept = (indices != PAD) & (_place_among_equals(category[indices]) < filters.most_per_category)
        if wanted == len(category) or bool((kept.sum(1) >= k).all()):
            break
    first = torch.argsort((~kept).int(), dim=1, stable=True)[:, :k]
    stays = kept.gather(1, first)
    return torch.where(stays, indices.gather(1, first), PAD), torch.where(stays, probabilities.gather(1, first), 0.0)


def _place_among_equals(codes: Tensor) -> Tensor:
    """(B, n): how many of the same code stand before each in its row.

    >>> _place_among_equals(torch.tensor([[7, 5, 7, 7]]))
    tensor([[0, 0, 1, 2]])
    """
    order = torch.argsort(codes, dim=1, stable=True)
    ordered = codes.gather(1, order)
    place = torch.arange(codes.shape[1]).expand_as(codes)
    opens = torch.ones_like(ordered, dtype=torch.bool)
    opens[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    began = torch.where(opens, place, 0).cummax(1).values
    return torch.empty_like(place).scatter(1, order, place - began)
