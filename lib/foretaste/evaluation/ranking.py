"""How high the items that a user did act on stood in a ranking of ALL items.

Ties count against the model: rank = 1 + the number of other items that score at least as high as the target.
With a row's distinct targets t in T and their ranks r(t), at a cut-off k:
    recall@k = |{t: r(t) <= k}| / |T|             of all targets, also where |T| > k: a row with 30 targets cannot reach 1 at k = 20
    hit@k    = 1 if any r(t) <= k else 0
    mrr@k    = 1 / min r(t) if that is <= k else 0
    ndcg@k   = sum over r(t) <= k of 1 / log2(1 + r(t)), divided by the sum over i = 1 … min(k, |T|) of 1 / log2(1 + i)
With one target recall is hit, and ndcg@k = 1 / log2(1 + r). A metric is the mean over rows; rows without a target are left out and counted.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foretaste.contract import FIRST_INDEX, PAD, Batch
from foretaste.errors import ModelError
from foretaste.evaluation.judge import JUDGED, LEFT_OUT, Sums, ratio
from foretaste.scoring.topk import top_k

FAMILIES = ("recall", "hit", "mrr", "ndcg")


def ranks(scores: Tensor, targets: Tensor, at_most: int) -> Tensor:
    """(B, K) ranks among all items, at_most + 1 for anything below, 0 where the target is PAD.

    scores: (B, num_items), PAD and UNKNOWN at -inf. targets: (B, K) item indices, right-padded with PAD.
    A NaN would compare as lower than any target and flatter the model, so it is a ModelError.
    """
    best = top_k(scores, min(at_most + 1, scores.shape[1]))[0]  # (B, at_most + 1): enough to tell any rank up to at_most
    if bool(best.isnan().any()):
        raise ModelError("the model scores NaN", where="evaluation", fix="Train it again, with a lower learning rate or clip_norm.")
    target_scores = scores.gather(1, targets.long())  # (B, K)
    at_least_as_high = (best[:, None, :] >= target_scores[:, :, None]).sum(2)  # the target is one of them: 1 + the others
    return torch.where(targets < FIRST_INDEX, 0, at_least_as_high.clamp(max=at_most + 1))


def row_metrics(rank: NDArray[np.int64], at: Sequence[int]) -> NDArray[np.float64]:
    """(B, 4 * len(at)): recall, hit, mrr, ndcg at each cut-off, in the order of `names`; each row has a target.

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
        ]
    return np.stack(columns, axis=1)


def names(at: Sequence[int]) -> list[str]:
    return [f"{family}@{k}" for k in at for family in FAMILIES]


class Ranking:
    """The Judge of next-item models.

    label:          where Batch.labels holds (B, K) item indices, in the order of their appearance
    next_only:      judge the first of them alone: what the user did next
    leave_out_seen: neither recommend nor expect an item of the row's own history
    """

    lower_is_better: frozenset[str] = frozenset()

    def __init__(self, *, label: str, at: Sequence[int], next_only: bool = False, leave_out_seen: bool = False) -> None:
        self.label, self.next_only, self.leave_out_seen = label, next_only, leave_out_seen
        self.at = sorted(at)
        self.names = names(self.at)
        self.num_sums = 2 + len(self.names)
        self.headline = f"recall@{max(at)}"

    def add(self, sums: Sums, scores: Tensor, batch: Batch[Tensor], weights: NDArray[np.float64]) -> None:
        targets = batch.labels[self.label]
        if self.next_only:
            targets = targets[:, :1]
        if self.leave_out_seen:
            scores, targets = without_seen(scores, targets, batch.item.long())
        judged = (targets >= FIRST_INDEX).any(1)
        values = row_metrics(ranks(scores[judged], targets[judged], max(self.at)).numpy(), self.at)  # (J, M)
        kept = judged.numpy()
        sums[JUDGED] += weights[kept].sum(0)
        sums[LEFT_OUT] += weights[~kept].sum(0)
        sums[2:] += values.T @ weights[kept]

    def metrics(self, sums: Sums) -> dict[str, NDArray[np.float64]]:
        return {name: ratio(total, sums[JUDGED]) for name, total in zip(self.names, sums[2:], strict=True)}


def without_seen(scores: Tensor, targets: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """The scores with the (B, T) items `seen` at -inf, and the (B, K) targets with those items as PAD."""
    masked = scores.scatter(1, seen, -torch.inf)
    was_seen = (targets[:, :, None] == seen[:, None, :]).any(2)
    return masked, torch.where(was_seen, PAD, targets)
