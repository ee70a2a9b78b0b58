"""Training rows changed at random, so that a model does not learn each history by heart: the same change on any number of ranks.

Rows are as the feed gives them, left-padded. What a model must predict stays what happened: masked and substituted items are inputs
alone, and the feature `truth` keeps the items themselves; a shuffled stretch is shuffled in both, or a state would see its own answer.
(Crop, mask, reorder: Xie et al. 2022, CL4SRec; substitute: Liu et al. 2021, CoSeRec.)
"""

from dataclasses import replace

import torch
from torch import Tensor

from foretaste.contract import FIRST_INDEX, PAD, UNKNOWN, Batch
from foretaste.feed.order import share
from foretaste.models.heads import TRUTH
from foretaste.settings import AugmentSettings

LONGEST_STRETCH = 3  # reorder shuffles at most the third part of a row


def augmented(
    batch: Batch[Tensor], settings: AugmentSettings, similar: Tensor | None, seed: int, *, batch_size: int, rank: int, size: int
) -> Batch[Tensor]:
    """The rank's part of a global batch of `batch_size` rows, changed.

    similar: (num_items, k) the items that come with each item most often, PAD where there are fewer; only `substitute` needs it
    seed:    of the step; random numbers are drawn for the whole global batch, and each rank takes those of its rows
    """
    if not settings.changes:
        return batch
    noise = torch.Generator().manual_seed(seed)
    low, high = share(batch_size, rank, size)
    columns, device = batch.item.shape[1], batch.item.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(batch_size, *shape, generator=noise)[low:high].to(device)  # (B, …)

    # All are drawn, whatever is on: switching one change on does not move another.
    cropped, kept = uniform(), uniform()
    reordered, begin, extent, keys = uniform(), uniform(), uniform(), uniform(columns)
    masked, substituted, choice = uniform(columns), uniform(columns), uniform(columns)

    batch = _crop(batch, cropped < settings.crop, kept)
    batch = _reorder(batch, reordered < settings.reorder, begin, extent, keys)
    return _replace(batch, masked < settings.mask, substituted < settings.substitute, similar, choice)


def _crop(batch: Batch[Tensor], chosen: Tensor, kept: Tensor) -> Batch[Tensor]:
    """Forgets the oldest events of the chosen rows, (B,); of n events ⌈kept · n⌉ stay, at least one."""
    length = torch.where(chosen, torch.ceil(kept * batch.length).clamp(min=1).minimum(batch.length), batch.length).to(batch.length.dtype)
    columns = batch.item.shape[1]
    inside = torch.arange(columns, device=length.device) >= (columns - length)[:, None]
    features = {name: torch.where(inside, feature, PAD) for name, feature in batch.features.items()}
    return replace(batch, features=features, length=length, fresh=batch.fresh.minimum(length))


def _reorder(batch: Batch[Tensor], chosen: Tensor, begin: Tensor, extent: Tensor, keys: Tensor) -> Batch[Tensor]:
    """Shuffles a stretch of the chosen rows; its events move as a whole. Where it begins and how long it is: (B,) in [0, 1)."""
    columns = batch.item.shape[1]
    place = torch.arange(columns, device=chosen.device)
    longest = torch.ceil(batch.length / LONGEST_STRETCH).clamp(min=2)
    width = 2 + torch.floor(extent * (longest - 1))
    first = columns - batch.length + torch.floor(begin * (batch.length - width + 1).clamp(min=0))
    inside = chosen[:, None] & (place >= first[:, None]) & (place < (first + width)[:, None]) & (batch.length >= width)[:, None]
    # Places keep their order, but those of the stretch, which all sort as its first place and then by their keys.
    order = torch.where(inside, first[:, None] + keys.to(torch.float64), place.to(torch.float64)).argsort(dim=1)
    features = {name: feature.gather(1, order) for name, feature in batch.features.items()}
    return replace(batch, features=features)


def _replace(batch: Batch[Tensor], masked: Tensor, substituted: Tensor, similar: Tensor | None, choice: Tensor) -> Batch[Tensor]:
    """Replaces items at the given places, (B, T): by one of the similar ones, and by UNKNOWN."""
    item = batch.item
    known = item >= FIRST_INDEX
    if similar is not None:
        table = similar.to(item.device)
        drawn = table[item.long(), (choice * table.shape[1]).long()].to(item.dtype)
        item = torch.where(known & substituted & (drawn != PAD), drawn, item)
    item = torch.where(known & masked, UNKNOWN, item)
    features = {**batch.features, "item": item, TRUTH: batch.item}
    return replace(batch, features=features)
