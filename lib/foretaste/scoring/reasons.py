"""Why a target stands where it does: the items of the past, and the facts, without which its score would be lower.

By occlusion, which asks the model itself and so goes for any: the row is scored again without the events of one item, or with the median of
the training rows in place of one fact; what that takes off the score is what it was worth (Zeiler & Fergus 2014, section 4.2, of images).

Legend: B rows, T events, k targets, E items that are tried of each row.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from foretaste.contract import FIRST_INDEX, PAD, Batch

READ_BY_ITEM = {"item", "category", "price"}  # features that tell items apart: without any, no item is a reason


class Scores(Protocol):
    """What gives the (B, k) scores of some items of these rows, and of rows like them; where the model ranks none, (B, 1) logits."""

    def about(
        self, batch: Batch[NDArray[np.int32]], position: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], Callable[[Batch[NDArray[np.int32]]], NDArray[np.float64]]]: ...


def tried_items(item: NDArray[np.int32], number: int) -> NDArray[np.int32]:
    """(B, number): the last different items of each row that the vocabulary has, latest first; PAD where there are fewer.

    >>> tried_items(np.array([[2, 3, 1, 2], [0, 0, 0, 5]], dtype=np.int32), 2)
    array([[2, 3],
           [5, 0]], dtype=int32)
    """
    rows, length = item.shape
    latest = item[:, ::-1]
    order = np.argsort(latest, axis=1, kind="stable")  # equal items together, the latest of them first
    ordered = np.take_along_axis(latest, order, axis=1)
    is_latest = np.ones_like(ordered, dtype=bool)
    is_latest[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    place = np.where(is_latest & (ordered >= FIRST_INDEX), order, length)
    chosen = np.sort(place, axis=1)[:, :number]
    padded = np.concatenate([latest, np.full((rows, 1), PAD, dtype=item.dtype)], axis=1)
    found = np.take_along_axis(padded, chosen, axis=1)
    return np.pad(found, ((0, 0), (0, number - found.shape[1])))


def without(batch: Batch[NDArray[np.int32]], dropped: NDArray[np.bool_]) -> Batch[NDArray[np.int32]]:
    """The rows as if those events (B, T) had never been: the others move up, in their order."""
    keeps = ~dropped
    order = np.argsort(keeps, axis=1, kind="stable")  # what is dropped goes to the left end, where padding is
    features = {name: np.take_along_axis(np.where(keeps, codes, PAD), order, axis=1) for name, codes in batch.features.items()}
    length = batch.length - (dropped & (batch.item != PAD)).sum(1).astype(batch.length.dtype)
    return replace(batch, features=features, length=length)


def drops(
    scorer: Scores, batch: Batch[NDArray[np.int32]], position: NDArray[np.int64], tried: NDArray[np.int32], medians: Mapping[str, float]
) -> NDArray[np.float64]:
    """(B, k, E + facts): how far each target's score falls without each item that is tried, and with the median in place of each fact that
    has one; -inf where there is no such item. Where a row has several targets, what counts is how far a target falls against the others.
    """
    scores, of_targets = scorer.about(batch, position)
    before = _against_others(scores)
    found = []
    for place in range(tried.shape[1]):
        item = tried[:, place : place + 1]
        changed = without(batch, (batch.item == item) & (item != PAD))
        fall = before - _against_others(of_targets(changed))
        found.append(np.where(item == PAD, -np.inf, fall))
    for name, median in medians.items():
        facts = {**batch.facts, name: np.full_like(batch.facts[name], median)}
        found.append(before - _against_others(of_targets(replace(batch, facts=facts))))
    return np.stack(found, axis=2) if found else np.zeros((*before.shape, 0))


def _against_others(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """A softmax knows scores up to a constant of the row."""
    if scores.shape[1] == 1:
        return scores
    against: NDArray[np.float64] = torch.log_softmax(torch.from_numpy(scores), dim=1).numpy()
    return against


def named(fall: NDArray[np.float64], number: int) -> NDArray[np.int64]:
    """(B, k, number): the places of what each target falls by most, only such as it falls by; -1 where there are fewer."""
    best = np.argsort(-fall, axis=2, kind="stable")[:, :, :number]
    chosen = np.where(np.take_along_axis(fall, best, axis=2) > 0, best, -1)
    return np.pad(chosen, ((0, 0), (0, 0), (0, number - chosen.shape[2])), constant_values=-1)


@dataclass(frozen=True, kw_only=True)
class Reasons:
    """How reasons are looked for: so many of the last different items are tried, for so many of the best targets, and so many are named."""

    named: int
    tried: int
    targets: int

    def of(
        self,
        scorer: Scores,
        batch: Batch[NDArray[np.int32]],
        position: NDArray[np.int64],
        ids: NDArray[np.object_],
        features: Sequence[str],
        medians: Mapping[str, float],
    ) -> NDArray[np.object_]:
        """(B, k', named) texts, None where there are fewer: an item's id, or a fact with its value, such as "idle_hours 912".

        ids: of all items; features: what the model reads; medians: of the facts that it reads. k' = min(k, targets)
        """
        position = position[:, : self.targets]
        tried = tried_items(batch.item, self.tried if READ_BY_ITEM & set(features) else 0)
        chosen = named(drops(scorer, batch, position, tried, medians), self.named)  # (B, k', named)
        values = [[f"{name} {value}" for value in batch.facts[name].tolist()] for name in medians]
        texts = np.concatenate([ids[tried], np.array([*values, [None] * len(tried)], dtype=object).T], axis=1)  # -1 takes the last: None
        return np.take_along_axis(texts[:, None, :], np.where(chosen < 0, texts.shape[1] - 1, chosen), axis=2)
