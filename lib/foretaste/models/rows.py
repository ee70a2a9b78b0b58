"""Rows of different lengths in one batch: where their events lie, which of them go together, and the state after the last one."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from foretaste.contract import Batch

NARROWEST = 8  # rows shorter than this go together
STEP_PRODUCTS = 200_000  # a step of a GRU or Elman layer takes as long as so many products of an input and a unit (docs/speed.md)


def left_aligned(batch: Batch[Tensor]) -> Batch[Tensor]:
    """The batch with each row's events moved to its left end, and the columns that no row needs cut off.

    A causal encoder then never sees padding before an event, so scores do not depend on it; and short rows cost less.
    """
    columns = batch.item.shape[1]
    longest = max(1, int(batch.length.max()))
    start = columns - batch.length.long()
    index = (torch.arange(longest, device=start.device) + start[:, None]) % columns  # (B, longest); past the end it wraps into PADs
    features = {name: feature.gather(1, index) for name, feature in batch.features.items()}
    return replace(batch, features=features)


def by_length(batch: Batch[Tensor], step_rows: int = 0) -> list[tuple[Tensor, Batch[Tensor]]]:
    """A left-aligned batch in parts of like length, and which rows (indices) each part holds: up to 8 events, up to 16, up to 32, …

    Most histories are short and a few are long: padded to the longest of them all, a batch is mostly padding.
    step_rows: see Model; parts are joined where the padding costs less than the steps of one more part.
    """
    part = torch.ceil(torch.log2(batch.length.clamp(min=NARROWEST).double() / NARROWEST)).long()
    numbers, counts = (each.tolist() for each in torch.unique(part, return_counts=True))
    longest = [max(1, int(batch.length[part == number].max())) for number in numbers]
    parts = []
    for first, end in _joined(longest, counts, step_rows):
        rows = ((part >= numbers[first]) & (part <= numbers[end])).nonzero().squeeze(1)
        chosen = batch.map(lambda array, rows=rows: array.index_select(0, rows))  # type: ignore[misc]
        chosen.features.update({name: feature[:, : longest[end]] for name, feature in chosen.features.items()})
        parts.append((rows, chosen))
    return parts


def step_rows_of(widths: Sequence[int]) -> int:
    """Model.step_rows of recurrent layers, the first of which goes from widths[0] to widths[1] units."""
    products = [below * above for below, above in pairwise(widths)]
    return STEP_PRODUCTS * len(products) // sum(products)


def _joined(longest: Sequence[int], counts: Sequence[int], step_rows: int) -> list[tuple[int, int]]:
    """Runs (first, last) of parts with so many rows, up to so many events each (rising), that take the least time together."""
    least: list[tuple[float, list[tuple[int, int]]]] = [(0.0, [])]  # of the parts before each one
    for end, steps in enumerate(longest):
        ways = [(least[start][0] + steps * (step_rows + sum(counts[start : end + 1])), start) for start in range(end + 1)]
        cost, start = min(ways, key=lambda way: (way[0], -way[1]))  # of two that are alike that with more parts
        least.append((cost, [*least[start][1], (start, end)]))
    return least[-1][1]


def last(states: Tensor, length: Tensor) -> Tensor:
    """The state after each left-aligned row's last event. (B, T, H), (B,) → (B, H)"""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, (length.long() - 1).clamp(min=0)]
