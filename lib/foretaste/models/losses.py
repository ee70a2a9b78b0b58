"""Losses as sums over targets, with their count: ranks add both up before they divide, so any number of ranks learns the same.

Legend: N targets, I items, M negatives that all targets share, D width of states and item vectors. Items are counted from the first real
one here: no loss ever sees PAD or UNKNOWN.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from foretaste.errors import ModelError

LOGITS_AT_ONCE = 1 << 26  # 256 MB of float32 logits, and as much again for their gradient
LOSSES = ("cross_entropy", "sampled_softmax", "bpr_max", "gbce")
LOWEST = -1e4  # the score of a negative that is the row's own target: nobody chooses it, and its gradient is finite


@dataclass(frozen=True, kw_only=True)
class Loss:
    """What one optimizer minimises on this rank's batch.

    optimizer: a name in `Model.optimizers()`
    total:     (), the loss summed over targets; it carries the gradient
    count:     (), how many targets
    """

    optimizer: str
    total: Tensor
    count: Tensor


@dataclass(frozen=True, kw_only=True)
class Objective:
    """How an items head learns; the fields of `fit.loss`.

    name:            in LOSSES
    draws, exponent: how many shared negatives are drawn, from P(item) ∝ count^exponent; draws 0: none, the full catalogue
    log_q:           sampled_softmax only: correct each logit for how likely its item was drawn
    label_smoothing: cross_entropy only: the share of the target's probability that is spread over all items
    score_penalty:   bpr_max only: the weight of its penalty on the negatives' scores
    calibration:     gbce only: t of the paper, from 0 (plain binary cross-entropy) to 1
    """

    name: str = "cross_entropy"
    draws: int = 0
    exponent: float = 1.0
    log_q: bool = True
    label_smoothing: float = 0.0
    score_penalty: float = 1.0
    calibration: float = 0.75

    def __post_init__(self) -> None:
        if self.name not in LOSSES:
            raise ModelError(f"no loss is called {self.name!r}", where="fit.loss.name", fix=f"Use one of {', '.join(LOSSES)}.")
        if (self.draws > 0) is (self.name == "cross_entropy"):
            raise ModelError(
                f"{self.name} {'needs' if self.draws == 0 else 'takes no'} negatives",
                where="fit.loss.negatives",
                fix="Give them a number." if self.draws == 0 else "Leave them out, or set fit.loss.name to sampled_softmax.",
            )


def cross_entropy(states: Tensor, weights: Tensor, bias: Tensor, targets: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """The summed softmax cross-entropy over the full catalogue. states (N, D), weights (I, D), bias (I,), targets (N,) → ()."""

    def block(state: Tensor, target: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
        logits = torch.addmm(bias, state, weights.T)  # (N, I)
        return F.cross_entropy(logits.float(), target, reduction="sum", label_smoothing=label_smoothing)

    return in_blocks(block, states, targets, weights, bias)


def in_blocks(
    loss: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], states: Tensor, targets: Tensor, weights: Tensor, bias: Tensor
) -> Tensor:
    """`loss`(states, targets, weights, bias) summed over rows: where its logits, one a row and item vector, would not fit,
    in blocks of rows whose logits are made once more in the backward pass.
    """
    rows = max(1, LOGITS_AT_ONCE // max(1, len(weights)))
    if len(targets) <= rows:
        return loss(states, targets, weights, bias)
    blocks = zip(torch.split(states, rows), torch.split(targets, rows), strict=True)
    totals = [checkpoint(loss, state, target, weights, bias, use_reentrant=False) for state, target in blocks]
    return torch.stack(totals).sum()


def sampled(
    objective: Objective,
    states: Tensor,
    weights: Tensor,
    bias: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_expected_count: Callable[[Tensor], Tensor],
) -> Tensor:
    """The summed loss of that objective against shared negatives, (M,) distinct items → ().

    A negative that is the row's own target does not count. log_expected_count: items → log of how often the draws hold them.
    """
    corrected = objective.name == "sampled_softmax" and objective.log_q

    def offset(items: Tensor) -> Tensor:
        return bias[items] - log_expected_count(items) if corrected else bias[items]

    functions: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "sampled_softmax": sampled_softmax,
        "bpr_max": partial(bpr_max, penalty=objective.score_penalty),
        "gbce": partial(gbce, power=gbce_power(len(negatives) / max(1, len(bias) - 1), objective.calibration)),
    }
    function = functions[objective.name]

    def block(state: Tensor, target: Tensor, drawn: Tensor, offset_of_drawn: Tensor) -> Tensor:
        own = (state * F.embedding(target, weights)).sum(1).float() + offset(target)  # (N,)
        others = torch.addmm(offset_of_drawn, state, drawn.T).float()  # (N, M)
        return function(own, others.masked_fill(target[:, None] == negatives, LOWEST)).sum()

    return in_blocks(block, states, targets, F.embedding(negatives, weights), offset(negatives))


def sampled_softmax(own: Tensor, others: Tensor) -> Tensor:
    """The cross-entropy of the target against the negatives. own (N,), others (N, M) → (N,)

    With logits less the log of how often the draws hold each item, it estimates the full softmax
    (logQ correction: Bengio & Senécal 2008; Yi et al. 2019, eq. 3).
    """
    return torch.logsumexp(torch.cat([own[:, None], others], dim=1), dim=1) - own


def bpr_max(own: Tensor, others: Tensor, penalty: float) -> Tensor:
    """-log Σ_j s_j σ(r - r_j) + penalty · Σ_j s_j r_j², with s the softmax of the negatives' scores r_j. own (N,), others (N, M) → (N,)

    Hidasi & Karatzoglou 2018, Recurrent neural networks with top-k gains, section 3.3.
    """
    log_share = torch.log_softmax(others, dim=1)  # (N, M)
    gain = torch.logsumexp(log_share + F.logsigmoid(own[:, None] - others), dim=1)
    scores = torch.where(others == LOWEST, 0.0, others)
    return penalty * (log_share.exp() * scores.square()).sum(1) - gain


def gbce(own: Tensor, others: Tensor, power: float) -> Tensor:
    """-log σ(r)^power - Σ_j log(1 - σ(r_j)). own (N,), others (N, M) → (N,)

    Petrov & Macdonald 2023, gSASRec, eq. 9: with few negatives a plain binary cross-entropy is too sure; the power mends it.
    """
    return -power * F.logsigmoid(own) - F.logsigmoid(-others).sum(1)


def gbce_power(rate: float, calibration: float) -> float:
    """β = α (t (1 - 1/α) + 1/α), with α the share of the other items that is drawn (the paper's eq. 14)."""
    return rate * calibration * (1 - 1 / rate) + 1


def binary_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The summed log loss of logits (B,) against labels (B,) of 0 and 1 → ()."""
    return F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")


def negative_binomial_loss(count: Tensor, mean: Tensor, shape: Tensor) -> Tensor:
    """Nats, of counts of a negative binomial with that mean and the variance mean + mean² / shape; all of one form."""
    share = torch.log1p(mean / shape)
    ways = torch.lgamma(count + shape) - torch.lgamma(shape) - torch.lgamma(count + 1)
    return shape * share - ways - count * (mean.clamp(min=1e-12).log() - shape.log() - share)


def survival_loss(hazards: Tensor, waited: Tensor) -> Tensor:
    """The summed log loss of each day that is known, (B, D) logits of hazards against (B, 2) days as contract.answers_of has them → ().

    Of somebody who came on day d: days 1 … d; of somebody who did not: the days that are known.
    """
    day = torch.arange(1, hazards.shape[1] + 1, device=hazards.device)  # (D,)
    came_on, known = waited[:, :1], waited[:, 1:]
    came = day == came_on
    is_known = day <= torch.where(came_on > 0, came_on, known)
    return F.binary_cross_entropy_with_logits(hazards.float(), came.float(), weight=is_known.float(), reduction="sum")
