"""How high the items that a user did act on stood in a ranking of ALL items.

Ties count against the model: rank = 1 + the number of other items that score at least as high as the target.
With a row's distinct targets t in T and their ranks r(t), at a cut-off k:
    recall@k = |{t: r(t) <= k}| / |T|             of all targets, also where |T| > k: a row with 30 targets cannot reach 1 at k = 20
    hits@k   = |{t: r(t) <= k}|                   of k items shown, those that the user did act on
    hit@k    = 1 if any r(t) <= k else 0
    mrr@k    = 1 / min r(t) if that is <= k else 0
    ndcg@k   = sum over r(t) <= k of 1 / log2(1 + r(t)), divided by the sum over i = 1 … min(k, |T|) of 1 / log2(1 + i)
With one target recall is hit, and ndcg@k = 1 / log2(1 + r). A metric is the mean over rows; rows without a target are left out and counted.
A target that the vocabulary lacks (UNKNOWN) is a miss: it is in T, and no rank of it is small enough.

And how much of the catalogue, and how popular, the first k items of the rankings are:
    coverage@k        share of all items that are among them for anybody
    popularity_bias@k their mean share of the events that were learnt from, over the same of the targets: 1 is as popular as what people did
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import FIRST_INDEX, PAD, UNKNOWN, Batch
from foretaste.errors import ModelError
from foretaste.evaluation.judge import JUDGED, Judge, Sums, ratio
from foretaste.scoring.topk import top_k

FAMILIES = ("recall", "hit", "mrr", "ndcg", "hits")
NUM_TARGETS, NUM_UNKNOWN = "num_targets", "num_unknown"
"""Two names beside the metrics: how many targets there were, and how many of them the vocabulary lacks."""

_TARGETS, _UNKNOWN, _TARGET_SHARE, _KNOWN_ROWS, _FIRST = range(2, 7)  # lines of the sums; then the metrics by cut-off, then shares by it


def highest(scores: Tensor, at_most: int) -> tuple[Tensor, Tensor]:
    """(B, at_most + 1) largest scores of (B, num_items), falling, and their items: enough to tell any rank up to at_most.

    A NaN would compare as lower than any target and flatter the model, so it is a ModelError.
    """
    best, items = top_k(scores, min(at_most + 1, scores.shape[1]))
    if bool(best.isnan().any()):
        raise ModelError("the model scores NaN", where="evaluation", fix="Train it again, with a lower learning rate or clip_norm.")
    return best, items


def ranks(scores: Tensor, targets: Tensor, at_most: int, best: Tensor | None = None) -> Tensor:
    """(B, K) ranks among all items, at_most + 1 for anything below and for UNKNOWN, 0 where the target is PAD.

    scores: (B, num_items), PAD and UNKNOWN at -inf. targets: (B, K) item indices, right-padded with PAD. best: as `highest` gives them
    """
    best = highest(scores, at_most)[0] if best is None else best
    target_scores = scores.gather(1, targets.long())  # (B, K)
    at_least_as_high = (best[:, None, :] >= target_scores[:, :, None]).sum(2)  # the target is one of them: 1 + the others
    found = at_least_as_high.clamp(max=at_most + 1)
    never = target_scores == -torch.inf  # what cannot be recommended, such as UNKNOWN, is missed even if all the others are, too
    return torch.where(targets == PAD, 0, torch.where(never, at_most + 1, found))


def row_metrics(rank: NDArray[np.int64], at: Sequence[int]) -> NDArray[np.float64]:
    """(B, 5 * len(at)): recall, hit, mrr, ndcg, hits at each cut-off, in the order of `names`; each row has a target.

    rank: (B, K), 0 where there is no target, anything above max(at) where the target is not among the first max(at).
    """
    present = rank > 0
    num_targets = present.sum(1)
    best = np.where(present, rank, np.iinfo(np.int64).max).min(1)
    gain = np.where(present, 1.0 / np.log2(1.0 + np.maximum(rank, 1)), 0.0)
    ideal = np.cumsum(1.0 / np.log2(1.0 + np.arange(1, max(at) + 1)))  # ideal[n - 1]: n targets at the first n places
    columns = []
    for k in at:
        hits = present & (rank <= k)
        reached = best <= k
        columns += [
            hits.sum(1) / num_targets,
            reached.astype(np.float64),
            np.where(reached, 1.0 / best, 0.0),
            (gain * hits).sum(1) / ideal[np.minimum(k, num_targets) - 1],
            hits.sum(1).astype(np.float64),
        ]
    return np.stack(columns, axis=1)


def names(at: Sequence[int]) -> list[str]:
    return [f"{family}@{k}" for k in at for family in FAMILIES]


@dataclass(frozen=True, kw_only=True)
class RankedRows:
    """B rows: what the judge adds up of each, (B, S) in the order of its sums, and the (B, k) items recommended at each cut-off, PAD where
    there are fewer.
    """

    sums: NDArray[np.float64]
    best: Mapping[str, NDArray[np.int64]]

    def add(self, sums: Sums, weights: NDArray[np.float64]) -> None:
        sums += self.sums.T @ weights

    def recommended(self) -> Mapping[str, NDArray[np.int64]]:
        return {name: np.unique(items) for name, items in self.best.items()}


class Ranking(Judge):
    """The Judge of next-item models.

    label:          where Batch.labels holds (B, K) item indices, in the order of their appearance
    next_only:      judge the first of them alone: what the user did next
    leave_out_seen: neither recommend nor expect an item of the row's own history
    shares:         (num_items,) each item's share of the events to learn from, for popularity_bias
    """

    segmented = True
    lower_is_better: frozenset[str] = frozenset()

    def __init__(
        self,
        *,
        label: str,
        at: Sequence[int],
        next_only: bool = False,
        leave_out_seen: bool = False,
        shares: NDArray[np.float64] | None = None,
    ) -> None:
        self.label, self.next_only, self.leave_out_seen, self.shares = label, next_only, leave_out_seen, shares
        self.at = sorted(at)
        self.names = names(self.at)
        self.num_sums = _FIRST + len(self.names) + len(self.at)
        last = self.at[-1]
        self.headline = f"recall@{last}"
        shown = [f"{family}@{k}" for k in self.at[-2:] for family in ("recall", "mrr", "ndcg")]
        self.shown: Sequence[str] = [*shown, f"coverage@{last}", *([] if shares is None else [f"popularity_bias@{last}"])]

    def tells(self, batch: Batch[Tensor]) -> Tensor:
        return (self._targets(batch) != PAD).any(1)

    def _targets(self, batch: Batch[Tensor]) -> Tensor:
        """(B, K), PAD where there is none, or one that is not asked for."""
        targets = batch.labels[self.label][:, :1] if self.next_only else batch.labels[self.label]
        if not self.leave_out_seen:
            return targets
        was_seen = (targets[:, :, None] == batch.item[:, None, :]).any(2) & (targets >= FIRST_INDEX)
        return torch.where(was_seen, PAD, targets)

    def measure(self, scores: Tensor, batch: Batch[Tensor]) -> RankedRows:
        targets = self._targets(batch)
        if self.leave_out_seen:
            scores = scores.scatter(1, batch.item.long(), -torch.inf)
        best, items = highest(scores, self.at[-1])
        rank = ranks(scores, targets, self.at[-1], best).numpy()
        found = np.zeros((len(rank), self.num_sums))
        found[:, JUDGED] = 1
        found[:, _FIRST : _FIRST + len(self.names)] = row_metrics(rank, self.at)
        wanted = targets.numpy()
        found[:, _TARGETS], found[:, _UNKNOWN] = (wanted != PAD).sum(1), (wanted == UNKNOWN).sum(1)
        chosen = np.where(best.numpy() > -np.inf, items.numpy(), PAD)[:, : self.at[-1]]
        if self.shares is not None:
            known = wanted >= FIRST_INDEX
            popular = self.shares[chosen]
            found[:, _FIRST + len(self.names) :] = np.stack([_mean(popular[:, :k], chosen[:, :k] != PAD) for k in self.at], axis=1)
            found[:, _TARGET_SHARE], found[:, _KNOWN_ROWS] = _mean(self.shares[np.where(known, wanted, PAD)], known), known.any(1)
        return RankedRows(sums=found, best={f"coverage@{k}": chosen[:, :k] for k in self.at})

    def metrics(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        end = _FIRST + len(self.names)
        found = {name: ratio(total, sums[JUDGED]) for name, total in zip(self.names, sums[_FIRST:end], strict=True)}
        found |= {NUM_TARGETS: sums[_TARGETS], NUM_UNKNOWN: sums[_UNKNOWN]}
        if self.shares is not None:
            of_targets = ratio(sums[_TARGET_SHARE], sums[_KNOWN_ROWS])
            shares = zip(self.at, sums[end:], strict=True)
            found |= {f"popularity_bias@{k}": ratio(ratio(total, sums[JUDGED]), of_targets) for k, total in shares}
        return found


def _mean(values: NDArray[np.float64], counts: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(B,) of (B, n): the mean over what counts, 0 where nothing does."""
    return ratio((values * counts).sum(1), counts.sum(1).astype(np.float64), empty=0.0)
