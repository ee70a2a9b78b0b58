"""Rows of different lengths in one batch: where their events lie, which of them go together, and the state after the last one."""

from dataclasses import replace

import torch
from torch import Tensor

from foretaste.contract import Batch

NARROWEST = 8  # rows shorter than this go together


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


def by_length(batch: Batch[Tensor]) -> list[tuple[Tensor, Batch[Tensor]]]:
    """A left-aligned batch in parts of like length, and which rows (indices) each part holds: up to 8 events, up to 16, up to 32, …

    Most histories are short and a few are long: padded to the longest of them all, a batch is mostly padding.
    """
    part = torch.ceil(torch.log2(batch.length.clamp(min=NARROWEST).double() / NARROWEST)).long()
    parts = []
    for number in torch.unique(part).tolist():
        rows = (part == number).nonzero().squeeze(1)
        chosen = batch.map(lambda array, rows=rows: array.index_select(0, rows))  # type: ignore[misc]
        longest = max(1, int(chosen.length.max()))
        chosen.features.update({name: feature[:, :longest] for name, feature in chosen.features.items()})
        parts.append((rows, chosen))
    return parts


def last(states: Tensor, length: Tensor) -> Tensor:
    """The state after each left-aligned row's last event. (B, T, H), (B,) → (B, H)"""
    rows = torch.arange(len(states), device=states.device)
    return states[rows, (length.long() - 1).clamp(min=0)]
